"""MNIST's handwritten digits."""

from nunbit.config import DataConfig, ModelConfig, OptimConfig, RunConfig, TrainConfig
from nunbit.recipes.speed import fast


def cnn() -> RunConfig:
    """Train the text's network with its settings (batch 100, Adam 2e-4, 10 epochs, no scaling).

    The text printed no accuracy; about 0.99 is usual.
    """
    return RunConfig(
        recipe="mnist/cnn",
        data=DataConfig(source="mnist", val_fraction=0.0, normalize="none"),
        model=ModelConfig(name="mnist-cnn"),
        optim=OptimConfig(name="adam", lr=2e-4),
        train=TrainConfig(epochs=10, batch_size=100),
    )


def speed() -> RunConfig:
    """Train a narrow `speednet` for one epoch: 99 % in seconds."""
    return fast("mnist/speed", "mnist", width=8)
