"""The pictures of a run: curves, confusion matrix, and the most confident mistakes."""

import io
import warnings
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from matplotlib import font_manager, rc_context, rcParams
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from rich.cells import cell_len, set_cell_size
from torch import Tensor

from nunbit.data.pictures import ImageSet
from nunbit.metrics import Metrics
from nunbit.reporting.verdicts import Verdicts
from nunbit.training.loop import EpochResult

BLUE, ORANGE, GREY = "#2563a8", "#d9730d", "#6b7280"
DPI = 110  # screen resolution; a page of three figures stays well below 1 MB
MAX_LABELLED = 30  # classes whose names and counts still fit a confusion matrix
LONGEST_NAME = 24  # columns of a class beside a confusion matrix; Chinese letters take two
CJK_FONTS = (
    "Noto Sans CJK KR", "Noto Sans CJK JP", "Noto Sans KR", "NanumGothic", "Malgun Gothic",
    "Apple SD Gothic Neo", "Droid Sans Fallback",
)  # fmt: skip
SHEET = (3, 6)  # rows and columns of the mistakes
CELL_WIDTH = 1.6  # inches of a picture on a sheet, with the gaps beside it
LINE = 0.2  # inches of a line of text above it
CELL_COLUMNS = 18  # letters of a class above a picture
GAP = 0.08  # inches around a picture


def to_png(figure: Figure) -> bytes:
    """Return a figure as the bytes of a PNG file."""
    stream = io.BytesIO()
    with rc_context(), warnings.catch_warnings():
        rcParams["font.sans-serif"] = [*rcParams["font.sans-serif"], *_cjk_fonts()]
        warnings.filterwarnings("ignore", "Glyph .* missing from")  # a box says it as well
        figure.savefig(stream, format="png", dpi=DPI, facecolor="white")
    return stream.getvalue()


@lru_cache
def _cjk_fonts() -> tuple[str, ...]:
    """Return the installed fonts that have the letters which matplotlib's own lacks."""
    installed = set(font_manager.get_font_names())
    return tuple(name for name in CJK_FONTS if name in installed)


def short(name: str, columns: int = LONGEST_NAME) -> str:
    """Return a name that leaves room for the figure."""
    if cell_len(name) <= columns:
        return name
    return f"{set_cell_size(name, columns - 1).rstrip()}…"


def curves(epochs: Sequence[EpochResult], kept_epoch: int) -> Figure:
    """Draw loss and accuracy over the epochs, training and validation in the same colours."""
    figure = Figure(figsize=(9, 3.2))
    # Fixed places: a layout that looks for room draws everything once more to measure it.
    room = {"left": 0.12, "right": 0.985, "bottom": 0.15, "top": 0.92, "wspace": 0.28}
    loss, accuracy = figure.subplots(1, 2, gridspec_kw=room)
    x = [e.epoch for e in epochs]
    marker = "o" if len(x) < 3 else None  # a line of one point is not seen
    loss.plot(x, [e.train_loss for e in epochs], color=BLUE, marker=marker, label="training")
    running = [100 * e.running_accuracy for e in epochs]
    accuracy.plot(x, running, color=BLUE, marker=marker, label="training, running")
    measured = [e for e in epochs if e.val_loss is not None and e.val_accuracy is not None]
    if measured:
        x_val = [e.epoch for e in measured]
        found = [100 * (e.val_accuracy or 0) for e in measured]
        for axes, values in ((loss, [e.val_loss for e in measured]), (accuracy, found)):
            axes.plot(x_val, values, color=ORANGE, marker=marker, label="validation")
    for axes, name in ((loss, "loss (nats)"), (accuracy, "accuracy (%)")):
        _tidy(axes)
        axes.set_xlabel("epoch")
        axes.set_ylabel(name)
        if kept_epoch:
            axes.axvline(kept_epoch, color=GREY, linewidth=0.8, linestyle=":")
        axes.legend(frameon=False, fontsize=9)
    return figure


def confusion(metrics: Metrics) -> Figure:
    """Draw the confusion matrix: colour is the share of the true class, numbers are pictures."""
    counts = np.array(metrics.confusion)
    labels = [short(row.label) for row in metrics.per_class]
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    side = min(10.0, 2.2 + 0.5 * len(labels))
    figure = Figure(figsize=(side + 0.8, side), layout="constrained")
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    if len(labels) <= MAX_LABELLED:
        ticks = range(len(labels))
        axes.set_xticks(ticks, labels, fontsize=9, parse_math=False)
        if max(map(len, labels)) > 3:
            axes.tick_params(axis="x", labelrotation=45)
        axes.set_yticks(ticks, labels, fontsize=9, parse_math=False)
        for (row, column), count in np.ndenumerate(counts):
            if count:
                colour = "white" if shares[row, column] > 0.5 else "black"
                size = 9 if len(labels) <= 12 else 6
                axes.text(column, row, f"{count}", ha="center", va="center", color=colour,
                          fontsize=size)  # fmt: skip
    return figure


def mistakes(pictures: ImageSet, verdicts: Verdicts, class_names: Sequence[str]) -> Figure | None:
    """Draw the wrong predictions that the network was surest of; None if there are none.

    Args:
        pictures: N pictures.
        verdicts: of these pictures.
        class_names: K names.
    """
    rows, columns = SHEET
    shown = verdicts.surest_mistakes(rows * columns)
    if not shown:
        return None
    titles = []
    for i in shown:
        said, true = (
            short(class_names[int(labels[i])], CELL_COLUMNS)
            for labels in (verdicts.predicted, verdicts.labels)
        )
        titles.append(f"{said} {verdicts.confidence[i]:.0%}\nis {true}")
    return sheet([pictures.images[i] for i in shown], titles, columns)


def sheet(images: Sequence[Tensor], titles: Sequence[str], columns: int) -> Figure:
    """Draw pictures in rows, each with a text above it.

    Args:
        images: uint8 (H, W, C) each.
        titles: one for each picture; all have as many lines.
        columns: pictures in a row.
    """
    width, rows = CELL_WIDTH, -(-len(images) // columns)
    height = width + LINE * (1 + titles[0].count("\n"))
    figure = Figure(figsize=(width * columns, height * rows))
    # All pictures on one pair of axes, in inches: eighteen pairs take five times as long.
    axes = figure.add_axes((0, 0, 1, 1))
    for place, (picture, title) in enumerate(zip(images, titles, strict=True)):
        image = picture.numpy()
        row, column = divmod(place, columns)
        centre, bottom = width * (column + 0.5), height * (row + 1) - GAP
        side = (width - 2 * GAP) / max(image.shape[:2])  # inches a pixel
        half, top = side * image.shape[1] / 2, bottom - side * image.shape[0]
        axes.imshow(
            image if image.shape[2] == 3 else image[:, :, 0],
            cmap="gray", vmin=0, vmax=255, extent=(centre - half, centre + half, bottom, top),
        )  # fmt: skip  # one argument a line would say no more
        axes.text(centre, top - GAP, title, ha="center", fontsize=8, parse_math=False)
    axes.set(xlim=(0, width * columns), ylim=(height * rows, 0))
    axes.axis("off")
    return figure


def _tidy(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e5e7eb", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    # Labels of nine letters at most: 2.3025849, or 2.25 below "1e-4".
    axes.ticklabel_format(axis="y", scilimits=(-3, 4), useOffset=False)
