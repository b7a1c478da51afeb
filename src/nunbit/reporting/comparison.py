"""The figures and the page of a comparison."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import (
    LogLocator,
    MaxNLocator,
    NullLocator,
    PercentFormatter,
    StrMethodFormatter,
)

from nunbit.comparison.compare import Comparison
from nunbit.comparison.table import Row
from nunbit.places import make_folder
from nunbit.reporting import charts
from nunbit.reporting.figures import BLUE, GREY, ORANGE, to_png
from nunbit.reporting.render import embedded, render
from nunbit.runtime import versions
from nunbit.storage import atomic_write

LIGHT = "#b9cfe8"  # of training bars: present, but not what one compares
PALETTE = (
    "#2563a8", "#d9730d", "#3a8a4d", "#b23a48", "#7a5195",
    "#8c6d31", "#1f9e9e", "#c2559d", "#6b7280", "#a3b18a",
)  # fmt: skip  # ten hues of about equal lightness
LINES = ("-", "--", ":", "-.")  # for more recipes than hues


def write_comparison(comparison: Comparison) -> None:
    """Write `figures/*.png` and `comparison.html` into the folder of a comparison.

    Raises:
        StorageError: they cannot be written.
    """
    folder = comparison.folder / "figures"
    make_folder(folder)
    rows = sorted(comparison.rows, key=lambda row: -row.test_mean)
    pictures = {
        "accuracy_comparison": accuracy_comparison(rows, comparison.test.chance),
        "losses": losses(rows),
        "cost": cost(rows),
    }
    for name, figure in pictures.items():
        atomic_write(folder / f"{name}.png", to_png(figure))
    atomic_write(comparison.folder / "comparison.html", comparison_page(comparison).encode())


def comparison_page(comparison: Comparison) -> str:
    """Return the page of a comparison as HTML."""
    rows = sorted(comparison.rows, key=lambda row: -row.test_mean)
    return render(
        "comparison.html",
        comparison=comparison,
        rows=rows,
        names=[(row.recipe, charts.tone(i)) for i, row in enumerate(rows)],
        track=charts.track(rows, comparison.test.chance),
        loss_lines=[line for line in charts.loss_lines(rows) if line.points],  # fitted heads
        cost_chart=charts.cost_chart,
        has_texts=any(row.text for row in rows),
        versions=versions(),
        data=embedded(comparison.to_dict()),
    )


def accuracy_comparison(rows: Sequence[Row], chance: float) -> Figure:
    """Draw training and test accuracy of each recipe, best at the top, from guessing upwards.

    Whiskers are 95 % intervals: of the test over other pictures and seeds, of the training over
    other seeds. Dots are single seeds, and a diamond is what a text printed.

    Args:
        rows: sorted, best first.
        chance: accuracy of guessing, where the bars begin.
    """
    figure = Figure(figsize=(8, 1.3 + 0.55 * len(rows)), layout="constrained")
    axes = figure.subplots()
    start = charts.track(rows, chance).low
    y = np.arange(len(rows))[::-1]
    for side, color, name, means in (
        (0.19, LIGHT, "training", [row.train_mean for row in rows]),
        (-0.19, BLUE, "test", [row.test_mean for row in rows]),
    ):
        axes.barh(y + side, np.array(means) - start, 0.36, start, color=color, label=name)
    for at, row in zip(y - 0.19, rows, strict=True):
        for ends, line in ((row.test_ci95, at), (row.train_ci95, at + 0.38)):
            if ends:
                axes.plot(ends, (line, line), color="black", linewidth=1.2, solid_capstyle="butt")
        axes.plot(row.tests, [at] * row.seeds, "o", color="white", markeredgecolor="black",
                  markersize=3.5, markeredgewidth=0.7)  # fmt: skip
        axes.text(1.02, at + 0.19, f"{100 * row.test_mean:.1f}", va="center", fontsize=10,
                  transform=axes.get_yaxis_transform())  # fmt: skip
    _mark_texts(axes, rows, (y - 0.19).tolist())
    axes.set_yticks(y, [row.recipe for row in rows], parse_math=False)
    axes.set_xlim(start, 1)
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.xaxis.set_major_formatter(PercentFormatter(1, symbol=""))
    begins = f"bars begin at guessing, {100 * start:.0f} %; " if start else ""
    seeds = f"{rows[0].seeds} seeds as dots" if rows[0].seeds > 1 else "one seed"
    axes.set_xlabel(f"accuracy, %  ({begins}95 % intervals, {seeds})")
    _bare(axes, "x")
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    figure.legend(loc="outside upper left", ncols=3, frameon=False)
    return figure


def _mark_texts(axes: Axes, rows: Sequence[Row], y: Sequence[float]) -> None:
    """Draw a diamond where a text printed a test accuracy, and name the column of numbers."""
    told = [(r.text.test, at) for r, at in zip(rows, y, strict=True) if r.text and r.classic]
    if told:
        x, at = zip(*told, strict=True)
        axes.plot(x, at, "D", color=ORANGE, markersize=5, label="the text's one run")
    axes.text(1.02, len(rows) - 0.35, "test %", fontsize=9, color=GREY,
              transform=axes.get_yaxis_transform())  # fmt: skip


def losses(rows: Sequence[Row]) -> Figure:
    """Draw the training loss over the epochs: the mean of a recipe's seeds, and their range."""
    figure = Figure(figsize=(8, 4.2), layout="constrained")
    axes = figure.subplots()
    for i, (row, line) in enumerate(zip(rows, charts.loss_lines(rows), strict=True)):
        x, mean = [point[0] for point in line.points], [point[1] for point in line.points]
        marker = "o" if len(x) < 3 else None
        color, dashes = PALETTE[i % len(PALETTE)], LINES[i // len(PALETTE) % len(LINES)]
        axes.plot(x, mean, dashes, color=color, marker=marker, label=_plain(row.recipe))
        if line.band:
            ends = np.array(line.band)
            axes.fill_between(x, ends[:, 1], ends[:, 2], color=color, alpha=0.18, linewidth=0)
    axes.set_xlabel("epoch")
    axes.set_ylabel("training loss (nats)")
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _bare(axes, "y")
    figure.legend(loc="outside right upper", frameon=False, fontsize=9)
    return figure


def cost(rows: Sequence[Row]) -> Figure:
    """Draw test accuracy against training time and against parameters, with the Pareto front.

    A recipe on the front is not beaten by one that is cheaper: the line joins them.
    """
    figure = Figure(figsize=(9, 4.0), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for axes, name, values in (
        (panels[0], "seconds of training", [row.seconds for row in rows]),
        (panels[1], "parameters", [float(row.parameters) for row in rows]),
    ):
        front = charts.front(values, [row.test_mean for row in rows])
        axes.plot(
            [values[i] for i in front], [100 * rows[i].test_mean for i in front],
            color=GREY, linewidth=0.8, drawstyle="steps-post", zorder=1,
        )  # fmt: skip  # the points and how they are drawn
        for i, row in enumerate(rows):
            color = PALETTE[i % len(PALETTE)]
            low, high = row.test_ci95
            axes.plot((values[i],) * 2, (100 * low, 100 * high), color=color, linewidth=1)
            fill = color if i in front else "white"
            axes.plot(values[i], 100 * row.test_mean, "o", color=color, markerfacecolor=fill,
                      markersize=7, label=_plain(row.recipe))  # fmt: skip
        axes.set_xscale("log")
        # Round steps of a factor leave a narrow range with one tick or none.
        is_wide = max(values) > 10 * min(values)
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)) if is_wide else MaxNLocator(3))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlabel(name)
        _bare(axes, "y")
    panels[0].set_ylabel("test accuracy, %")
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside right upper", frameon=False, fontsize=9)
    return figure


def _plain(label: str) -> str:
    """Return a label whose dollars and first underscore mean nothing to matplotlib."""
    return label.replace("$", r"\$").lstrip("_")


def _bare(axes: Axes, grid: str) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis=grid, color="#e5e7eb", linewidth=0.8)  # type: ignore[arg-type]  # "x" or "y"
    axes.set_axisbelow(True)
