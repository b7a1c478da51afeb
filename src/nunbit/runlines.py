"""The lines that a training says: one at its start, and one for each epoch."""

from torch import nn

from nunbit.config import RunConfig
from nunbit.data.splits import Dataset
from nunbit.language import tr
from nunbit.liveline import Cell
from nunbit.models.summary import count_parameters
from nunbit.runtime import Runtime
from nunbit.training.loop import EpochResult


def run_header(config: RunConfig, dataset: Dataset, runtime: Runtime, model: nn.Module) -> str:
    """Return the line that says what is trained on what, and how it is computed."""
    p = dataset.preprocess
    val = tr(" + {count:,} validation", count=len(dataset.val)) if dataset.val else ""
    return tr(
        "{recipe}: {name}, {parameters:,} parameters; {train:,} training{val} "
        "+ {test:,} test pictures, {classes} classes, {width}x{height}x{channels}; "
        "{describe}, {reading}",
        recipe=config.recipe,
        name=config.model.name,
        parameters=count_parameters(model),
        train=len(dataset.train),
        val=val,
        test=len(dataset.test),
        classes=len(dataset.class_names),
        width=p.width,
        height=p.height,
        channels=p.channels,
        describe=runtime.describe(),
        reading=dataset.reading.line(),
    )


def epoch_cells(result: EpochResult, epochs: int) -> list[Cell]:
    """Return the line of an epoch in pieces, each with how much it matters."""
    cells = [
        (f"epoch {result.epoch:{len(str(epochs))}}/{epochs}", 0),
        (f"loss {result.train_loss:.4f}", 1),
        (f"running {result.running_accuracy:6.2%}", 4),
        (f"{result.images_per_second:,.0f} images/s", 6),
        (f"{result.seconds:.1f} s", 3),
    ]
    if result.val_accuracy is not None:
        cells[3:3] = [(f"val {result.val_accuracy:6.2%}", 2), (f"(loss {result.val_loss:.3f})", 5)]
    return cells
