"""Your own loop around nunbit's: everything between two epochs is yours.

    python examples/own_loop.py

Trains on the embedded digits, prints each epoch, stops at 97 % on validation, and saves a model
that `nunbit predict` takes. Nothing here is private to nunbit: replace any part by your own.
"""

from nunbit import Classifier, build_model, get_recipe
from nunbit.data.loader import TrainLoader
from nunbit.data.sources import open_source
from nunbit.data.splits import open_dataset
from nunbit.runtime import choose_runtime, seeded
from nunbit.training.loop import fit
from nunbit.training.optim import build_optimizer
from nunbit.training.state import TrainState


def main() -> None:
    """Train, stop when it is good enough, and save."""
    config = get_recipe("digits/cnn").override({"train.epochs": 20, "optim.lr": 0.01})
    runtime = choose_runtime(config.train)
    source = open_source(config.data.source)
    data = open_dataset(source, config.data, runtime.threads, lambda items, _n, _label: iter(items))

    shape = {"num_classes": 10, "in_channels": 1, "image_size": (8, 8)}
    with seeded(config.train.seed, "init"):
        model = build_model("net", **shape, args={"width": 32}).to(runtime.device)
    state = TrainState(model, build_optimizer(model, config.optim))
    loader = TrainLoader(data.train, data.preprocess, config, runtime.device)

    for epoch in fit(state, loader, data.val, runtime, lambda batches, _n, _label: iter(batches)):
        print(f"{epoch.epoch:2} loss {epoch.train_loss:.3f} validation {epoch.val_accuracy:.1%}")
        if epoch.val_accuracy > 0.97:
            break

    card = {"model": {"name": "net", "args": {"width": 32}}, "recipe": "my own"}
    Classifier(model, data.class_names, data.preprocess, card).save("digits.safetensors")
    print("saved digits.safetensors; try: nunbit predict digits.safetensors IMAGE")


if __name__ == "__main__":
    main()
