"""Any other pictures: a folder of photographs, or a named set without a recipe of its own."""

from nunbit.config import DataConfig, ModelConfig, OptimConfig, RunConfig, TrainConfig


def cnn() -> RunConfig:
    """Train the default CNN from random weights, with the usual changes of photographs."""
    return RunConfig(
        recipe="photos/cnn",
        data=DataConfig(source="digits", flip=True, shift_pixels=4, zoom=0.3, light=0.2),
        model=ModelConfig(name="cnn", args={"width": 24}),
        optim=OptimConfig(name="adamw", lr=4e-3, weight_decay=0.05, schedule="onecycle"),
        train=TrainConfig(epochs=12, batch_size=64, label_smoothing=0.1),
    )
