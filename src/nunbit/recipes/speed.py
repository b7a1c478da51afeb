"""What the fastest recipes share: the network of `speednet`, Muon, small pictures first."""

from nunbit.config import (
    DataConfig,
    EvalConfig,
    ModelConfig,
    OptimConfig,
    RunConfig,
    TrainConfig,
)

# Rates of airbench (K. Jordan, 2024), without a warm-up: batch norm and Muon need none.
MUON = OptimConfig(
    name="muon", lr=0.24, momentum=0.6, weight_decay=1.5e-3, schedule="linear", warmup_fraction=0.0
)
SMALL_FRACTION = 0.7  # of the updates; 0.6 and 0.8 were worse (docs/log.md)
UPRIGHT = ("digits", "mnist")  # mirrored digits are no digits


def fast(recipe: str, source: str, *, width: int, epochs: int, batch_size: int = 256) -> RunConfig:
    """Return settings that reach a good accuracy in the least time.

    They train on the whole training split; nothing is selected, and the test split is measured
    once.

    Args:
        recipe: its name.
        source: the data, of pictures of about 32 pixels.
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
            shift_pixels=2,
            small_size=18 if source == "mnist" else 20,
            small_fraction=SMALL_FRACTION,
        ),
        model=ModelConfig(name="speednet", args={"width": width}),
        optim=MUON,
        train=TrainConfig(epochs=epochs, batch_size=batch_size, label_smoothing=0.2),
        eval=EvalConfig(batch_size=500),
    )
