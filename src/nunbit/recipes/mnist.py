"""MNIST's handwritten digits."""

from nunbit.config import DataConfig, ModelConfig, OptimConfig, RunConfig, TrainConfig


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
