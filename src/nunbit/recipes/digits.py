"""Handwritten digits of scikit-learn: the embedded default, seconds long."""

from nunbit.config import DataConfig, ModelConfig, OptimConfig, RunConfig, TrainConfig


def cnn() -> RunConfig:
    """Train the default CNN on 8x8 scans of digits; about 99 % test accuracy."""
    return RunConfig(
        recipe="digits/cnn",
        data=DataConfig(source="digits", shift_pixels=1),
        model=ModelConfig(name="cnn"),
        optim=OptimConfig(name="adamw", lr=5e-3, weight_decay=0.05, schedule="onecycle"),
        train=TrainConfig(epochs=15, batch_size=64, label_smoothing=0.1),
    )
