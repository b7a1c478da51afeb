"""What the fastest recipes share: the network of `speednet`, Muon, label smoothing."""

from nunbit.config import (
    DataConfig,
    EvalConfig,
    ModelConfig,
    OptimConfig,
    RunConfig,
    TrainConfig,
)

# Without a warm-up: batch norm and Muon need none. Momentum as in airbench (K. Jordan, 2024), whose
# rate of 0.24 was worse here than 0.15, and 0.1 as well (docs/log.md).
MUON = OptimConfig(
    name="muon", lr=0.15, momentum=0.6, weight_decay=0.05, schedule="linear", warmup_fraction=0.0
)
LABEL_SMOOTHING = 0.1  # 0.2, as in airbench, did as well on CIFAR-10 (docs/log.md)
SHIFT_PIXELS = 2
UPRIGHT = ("digits", "mnist")  # mirrored digits are no digits


def fast(
    recipe: str,
    source: str,
    *,
    width: int = 32,
    epochs: int = 1,
    batch_size: int = 256,
) -> RunConfig:
    """Return settings that reach a good accuracy in the least time.

    They train on the whole training split; nothing is selected, and the test split is measured
    once.

    Args:
        recipe: its name.
        source: the data.
        width: channels of the first block of `speednet`.
        epochs: passes over the training pictures.
        batch_size: pictures per update.
    """
    return RunConfig(
        recipe=recipe,
        data=DataConfig(
            source=source,
            val_fraction=0.0,
            flip=source not in UPRIGHT,
            shift_pixels=SHIFT_PIXELS,
        ),
        model=ModelConfig(name="speednet", args={"width": width}),
        optim=MUON,
        train=TrainConfig(epochs=epochs, batch_size=batch_size, label_smoothing=LABEL_SMOOTHING),
        eval=EvalConfig(batch_size=500),
    )
