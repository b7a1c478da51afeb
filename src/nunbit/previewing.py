"""What a training will show its network: some pictures, as the first epochs change them.

Source: the habit of looking at a batch before training on it, as fastai's `show_batch` made common.
Because a change is a function of (seed, epoch, picture), these are the very pixels of the training,
before `data.small_size` makes them smaller.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nunbit.asked import asked_config
from nunbit.config import DataConfig, RunConfig
from nunbit.data.augment import CHANGES, augment
from nunbit.data.loader import TrainLoader
from nunbit.data.sources import refuse_inside
from nunbit.data.splits import Dataset
from nunbit.places import free_picture, write_picture
from nunbit.progress import Display
from nunbit.reading import read_dataset
from nunbit.reporting.figures import CELL_COLUMNS, sheet, short, to_png
from nunbit.runtime import choose_runtime, limited_threads
from nunbit.signals import stop_requests
from nunbit.start import build_start
from nunbit.values import Setting

ROWS, COLUMNS = 5, 8  # of the sheet: pictures, and how often each is shown


@dataclass(frozen=True)
class Preview:
    """A sheet of training pictures."""

    file: Path
    recipe: str
    pictures: tuple[str, ...]
    """Names of the pictures on it."""
    labels: tuple[str, ...]
    """Their classes."""
    epochs: int
    """How many epochs of each picture are shown; 0 where nothing changes them."""
    changes: dict[str, Setting]
    """The settings that change pictures, by name, and their values."""
    train_n: int
    """Number of training pictures."""
    classes: int
    size: tuple[int, int, int]
    """(height, width, channels) of what the network is shown."""

    def to_dict(self) -> dict[str, Any]:
        """Return the fields for JSON."""
        return {**asdict(self), "file": str(self.file)}


def preview(
    recipe: str | RunConfig | None = None,
    *,
    data: str | Path | None = None,
    model: str | None = None,
    out: str | Path | None = None,
    quiet: bool = False,
    **settings: Setting,
) -> Preview:
    """Draw some training pictures as the first epochs of a training will show them; train nothing.

    Args:
        recipe: as in `train`, with data and model.
        data: in place of the recipe's.
        model: in place of the recipe's; with `model.weights` it says what pictures look like.
        out: a new PNG file or a folder for it; by default the current folder.
        quiet: print nothing.
        settings: single fields, as in `train`.

    Raises:
        NunbitError: what a training would refuse, or no file to write.
    """
    config, place = asked_config(recipe, data, model, settings), None if out is None else Path(out)
    name = f"preview-{config.recipe.replace('/', '-')}"
    # Refused before the pictures are read.
    refuse_inside(free_picture(place, name).parent, config.data.source, "--out")
    dataset, loader = _read(config, Display(quiet=quiet))
    train, p = dataset.train, dataset.preprocess
    changes = changes_of(config.data) if loader.epochs else {}
    epochs = min(COLUMNS - 1, loader.epochs) if changes else 0
    order = loader.order(0)
    chosen = order[by_turns(train.labels[order], ROWS if epochs else ROWS * COLUMNS)]
    labels = [dataset.class_names[k] for k in train.labels[chosen].tolist()]
    columns = 1 + epochs if epochs else min(COLUMNS, len(chosen))
    figure = sheet(shown(loader, chosen, epochs), titles(labels, epochs), columns)
    return Preview(
        file=write_picture(place, name, to_png(figure)),
        recipe=config.recipe,
        pictures=tuple(train.names[i] for i in chosen.tolist()),
        labels=tuple(labels),
        epochs=epochs,
        changes=changes,
        train_n=len(train),
        classes=len(dataset.class_names),
        size=(p.height, p.width, p.channels),
    )


def _read(config: RunConfig, display: Display) -> tuple[Dataset, TrainLoader]:
    """Return the pictures of a training and its batches; refuse what it would refuse."""
    runtime = choose_runtime(config.train)
    with stop_requests() as stop, limited_threads(runtime.threads):
        dataset = read_dataset(config, runtime, display, stop)
        build_start(config, dataset, runtime)
        stop.check()  # nobody asks it after this block
    return dataset, TrainLoader(dataset.train, dataset.preprocess, config, runtime.device)


def changes_of(config: DataConfig) -> dict[str, Setting]:
    """Return the settings that change training pictures, by dotted name, where they are on."""
    values = {f"data.{name}": getattr(config, name) for name in CHANGES}
    return {name: value for name, value in values.items() if value}


def by_turns(labels: Tensor, count: int) -> Tensor:
    """Return positions (count,) of pictures, the classes by turns: the first of each, the second...

    Args:
        labels: int64 (N,).
        count: how many; fewer where there are fewer pictures, of some classes where there are more
            classes.
    """
    by_class = torch.argsort(labels, stable=True)
    sizes = torch.bincount(labels)
    rank = torch.arange(len(labels)) - (sizes.cumsum(0) - sizes)[labels[by_class]]
    turns = by_class[torch.argsort(rank, stable=True)]
    classes = int((sizes > 0).sum())
    if classes > count:  # from all over the list of classes
        return turns[torch.arange(count) * classes // count]
    return turns[:count]


def shown(loader: TrainLoader, chosen: Tensor, epochs: int) -> list[Tensor]:
    """Return pictures uint8 (H, W, C): each as it is, then as each epoch shows it.

    Args:
        loader: of the training. `data.small_size` does not count here.
        chosen: int64 (B,), positions in the training split.
        epochs: how many.
    """
    images, config = loader.pictures.images[chosen], loader.config
    changed = [augment(images, config.data, config.train.seed, e, chosen) for e in range(epochs)]
    return list(torch.stack([images, *changed], dim=1).flatten(0, 1))


def titles(labels: Sequence[str], epochs: int) -> list[str]:
    """Return the text above each picture that `shown` returns: its class, or the epoch."""
    after = [f"epoch {epoch + 1}" for epoch in range(epochs)]
    return [title for label in labels for title in (short(label, CELL_COLUMNS), *after)]
