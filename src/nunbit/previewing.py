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
from nunbit.data.augment import CHANGES
from nunbit.data.loader import TrainLoader
from nunbit.data.mixing import MIXES
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
    figure = sheet(*cells(loader, chosen, labels, epochs), columns)
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
    values = {f"data.{name}": getattr(config, name) for name in (*CHANGES, *MIXES)}
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


def cells(
    loader: TrainLoader, chosen: Tensor, labels: Sequence[str], epochs: int
) -> tuple[list[Tensor], list[str]]:
    """Return pictures uint8 (H, W, C), and what stands above each.

    Each picture as it is, under its class; then as each epoch shows it, and where it is mixed with
    another one, with the share that its class still has.

    Args:
        loader: of the training. `data.small_size` does not count here.
        chosen: int64 (B,), positions in the training split.
        labels: the classes of these pictures, by name.
        epochs: how many.
    """
    shown = [(loader.pictures.images[chosen], [short(label, CELL_COLUMNS) for label in labels])]
    own = loader.pictures.labels[chosen]
    for epoch in range(epochs):
        images, y = loader.shown(epoch, chosen)
        titles = [f"epoch {epoch + 1}"] * len(labels)
        if y.ndim == 2:
            shares = y.gather(1, own[:, None]).flatten().tolist()
            titles = [f"{title}: {share:.0%}" for title, share in zip(titles, shares, strict=True)]
        shown.append((images, titles))
    pictures = torch.stack([images for images, _ in shown], dim=1).flatten(0, 1)
    rows = zip(*(titles for _, titles in shown), strict=True)
    return list(pictures), [title for row in rows for title in row]
