"""timm's fine-tuning: its `train.py`, adapted, as its documentation says.

https://huggingface.co/docs/timm/quickstart ("change the classifier, write a training loop or adapt
timm's training script") and https://huggingface.co/docs/timm/training_script, with the script's
defaults (train.py of timm 1.0): batch 128, SGD with Nesterov's momentum 0.9 and weight decay 2e-5
at 0.1 per 256 pictures of a batch, cosine after a warm-up from 1e-5, crops of 8 to 100 % of the
picture, flip, colour jitter 0.4, smoothing 0.1, its loader and its loss. The best epoch on
validation is kept, as its CheckpointSaver keeps `model_best`.
Two defaults are not taken over: 300 epochs with 5 of warm-up are meant for ImageNet from random
weights; here 10 and 1. Variants are the script's flags for speed: `--channels-last`, and bf16 with
`--amp --amp-dtype bfloat16`, as nearly all of its documented commands have `--amp`.
"""

import copy
from contextlib import nullcontext
from functools import partial

import timm
import torch
from photos import MEAN, STD, WORKERS, Order, Photos, accuracy, answer, network, read_order
from timm.data import create_loader
from timm.loss import LabelSmoothingCrossEntropy
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from torch import nn
from torch.utils.data import DataLoader

EPOCHS, WARMUP_EPOCHS = 10, 1
BATCH, RATE_BASE, RATE_BASE_SIZE = 128, 0.1, 256
VARIANTS = ("bf16", "channels-last", "fp32")


class TimmPhotos(Photos):
    """The same pictures with the attribute that `create_loader` fills."""

    def __init__(self, rows: list[tuple[str, int]]) -> None:
        super().__init__(rows, lambda image: image)


def loader(order: Order, part: str) -> DataLoader:
    """Return timm's loader over one split, with its own transforms."""
    is_training = part == "train"
    return create_loader(
        TimmPhotos(order.rows[part]),
        input_size=(3, order.size, order.size),
        batch_size=BATCH,
        is_training=is_training,
        interpolation="random" if is_training else "bicubic",
        mean=MEAN,
        std=STD,
        crop_pct=0.875,  # of these weights
        num_workers=WORKERS,
        device=torch.device("cpu"),
    )


def main() -> None:
    """Fine-tune once and print the result."""
    order = read_order(EPOCHS, VARIANTS)
    model = network(order)
    if order.variant != "fp32":
        model.to(memory_format=torch.channels_last)
    train(model, order)
    seconds = order.elapsed()
    test = accuracy(model, loader(order, "test"))
    answer("timm train.py", f"timm {timm.__version__}", order, seconds=seconds, test=test)


def train(model: nn.Module, order: Order) -> None:
    """Run the script's epochs; the best weights on validation are in the model then."""
    batches, validation = loader(order, "train"), loader(order, "val")
    rate = RATE_BASE * BATCH / RATE_BASE_SIZE
    optimizer = create_optimizer_v2(model, opt="sgd", lr=rate, weight_decay=2e-5, momentum=0.9)
    scheduler, epochs = create_scheduler_v2(
        optimizer,
        sched="cosine",
        num_epochs=order.epochs,
        warmup_epochs=min(WARMUP_EPOCHS, order.epochs - 1),
        warmup_lr=1e-5,
        updates_per_epoch=len(batches),
    )
    loss_fn = LabelSmoothingCrossEntropy(smoothing=0.1)
    amp = partial(torch.autocast, device_type="cpu", dtype=torch.bfloat16)
    amp_autocast = amp if order.variant == "bf16" else nullcontext
    best_accuracy, best_weights = -1.0, model.state_dict()
    updates = 0
    for epoch in range(epochs):
        model.train()
        for x, target in batches:
            if order.variant != "fp32":
                x = x.contiguous(memory_format=torch.channels_last)
            with amp_autocast():
                loss = loss_fn(model(x), target)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            updates += 1
            scheduler.step_update(num_updates=updates)
        found = accuracy(model, validation)
        order.note(found)
        scheduler.step(epoch + 1, found)
        if found > best_accuracy:
            best_accuracy, best_weights = found, copy.deepcopy(model.state_dict())
    model.load_state_dict(best_weights)


if __name__ == "__main__":
    main()
