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
# Pictures are shown smaller for the first 70 % of the updates, with 20 pixels of 32; 22 for 60 %
# and 18 for 80 % were worse (docs/log.md).
SMALL_FRACTION, SMALL_SHARE = 0.7, 0.625
SMALL_FROM = 24  # pixels; smaller pictures keep their size
SHIFT_PIXELS = 2
UPRIGHT = ("digits", "mnist")  # mirrored digits are no digits


def small_size(side: int) -> int:
    """Return the side in pixels at which pictures of `side` pixels are shown first; 0: none."""
    return round(SMALL_SHARE * side) if side >= SMALL_FROM else 0


def fast(
    recipe: str,
    source: str,
    *,
    side: int = 32,
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
        side: of its pictures, in pixels.
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
            small_size=small_size(side),
            small_fraction=SMALL_FRACTION,
        ),
        model=ModelConfig(name="speednet", args={"width": width}),
        optim=MUON,
        train=TrainConfig(epochs=epochs, batch_size=batch_size, label_smoothing=0.2),
        eval=EvalConfig(batch_size=500),
    )
