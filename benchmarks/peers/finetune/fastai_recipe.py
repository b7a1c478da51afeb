"""fastai's `fine_tune`, as its vision tutorial does it.

https://docs.fast.ai/tutorial.vision.html (release 2.8): `ImageDataLoaders` with `Resize` and
`aug_transforms`, `vision_learner` with timm's network by name, `fine_tune(2, 3e-3)`: one epoch of
the head, two of all layers. Its head, its batch size (64), its normalisation, its Adam.
The tutorial resizes to 460 before it crops 224; here pictures are resized to the network's size at
once, since these have no more detail.
"""

import fastai
import pandas as pd
import torch
from fastai.callback.core import Callback
from fastai.vision.all import (
    ImageDataLoaders,
    Resize,
    aug_transforms,
    error_rate,
    vision_learner,
)
from photos import MODEL, Order, answer, read_order

EPOCHS, RATE = 2, 3e-3


class History(Callback):
    """Notes the validation accuracy of each epoch; runs after fastai's Recorder."""

    order = 60

    def __init__(self, kept: Order) -> None:
        self.kept = kept

    def after_epoch(self) -> None:
        """Note one."""
        self.kept.note(1 - float(self.learn.recorder.values[-1][-1]))


def main() -> None:
    """Fine-tune once and print the result."""
    order = read_order(EPOCHS)
    table = pd.DataFrame(
        [
            (path, order.class_names[label], part == "val")
            for part in ("train", "val")
            for path, label in order.rows[part]
        ],
        columns=["path", "label", "is_valid"],
    )
    loaders = ImageDataLoaders.from_df(
        table,
        path="/",
        fn_col="path",
        label_col="label",
        valid_col="is_valid",
        item_tfms=Resize(order.size),
        batch_tfms=aug_transforms(size=order.size),
        device=torch.device("cpu"),
    )
    history = History(order)
    learn = vision_learner(
        loaders,
        MODEL,
        metrics=error_rate,
        pretrained_cfg_overlay={"file": str(order.weights)},
        cbs=history,
    )
    with learn.no_bar(), learn.no_logging():
        learn.fine_tune(order.epochs, RATE)
    seconds = order.elapsed()
    paths = [path for path, _ in order.rows["test"]]
    learn.remove_cb(history)  # classifying pictures counts as an epoch
    with learn.no_bar():
        probabilities, _ = learn.get_preds(dl=loaders.test_dl(paths))
    vocab = list(loaders.vocab)
    right = [
        vocab[guess] == order.class_names[label]
        for guess, (_, label) in zip(
            probabilities.argmax(1).tolist(), order.rows["test"], strict=True
        )
    ]
    test = sum(right) / len(right)
    answer("fastai fine_tune", f"fastai {fastai.__version__}", order, seconds=seconds, test=test)


if __name__ == "__main__":
    main()
