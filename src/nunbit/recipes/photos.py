"""Any other pictures: a folder of photographs, or a named set without a recipe of its own."""

from nunbit.config import DataConfig, ModelConfig, OptimConfig, RunConfig, TrainConfig


def cnn() -> RunConfig:
    """Train the default CNN from random weights on photographs; name a folder with --data.

    With the usual changes of photographs, mirrors among them, which letters and digits must not
    have: without --data a folder `photos` is expected. Narrow and long, since a small computer has
    few minutes: see docs/log.md for what was tried.
    """
    return RunConfig(
        recipe="photos/cnn",
        data=DataConfig(source="photos", flip=True, shift_pixels=4, zoom=0.3, light=0.2),
        model=ModelConfig(name="cnn", args={"width": 16}),
        optim=OptimConfig(name="adamw", lr=3e-3, weight_decay=0.05, schedule="onecycle"),
        train=TrainConfig(epochs=34, batch_size=32, label_smoothing=0.1),
    )
