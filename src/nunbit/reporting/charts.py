"""What the page of a comparison draws: who is ahead, how the losses fell, what accuracy costs."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from nunbit.comparison.table import Row
from nunbit.reporting.svg import (
    BOTTOM,
    CHAR,
    HEIGHT,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    Line,
    Scale,
    axes,
    picture,
    tag,
    ticks,
)

HUES = 10  # colours of the page, `hue-0` to `hue-9`; further recipes repeat them in dashes
AIR = 0.08  # of an axis, at each end


@dataclass(frozen=True)
class Track:
    """The scale that the bars of all recipes share, in percent of their width."""

    low: float
    """Accuracy at the left end."""
    ticks: list[float]

    def at(self, accuracy: float) -> str:
        """Return how far to the right an accuracy lies, as a length for CSS."""
        return f"{100 * (accuracy - self.low) / (1 - self.low):.2f}%"

    def span(self, ends: tuple[float, float]) -> str:
        """Return the place of an interval, as CSS; what lies left of the scale is cut off."""
        begin = max(ends[0], self.low)
        width = 100 * (ends[1] - begin) / (1 - self.low)
        return f"left:{self.at(begin)};width:{width:.2f}%"


def track(rows: Sequence[Row], chance: float) -> Track:
    """Return a scale from guessing to 1, or from 0 if a recipe does not get beyond guessing."""
    lowest = min(min(row.test_ci95[0], *row.tests, row.train_mean) for row in rows)
    low = chance if lowest > chance else 0.0
    return Track(low, [tick for tick in ticks(low, 1.0) if tick < 1 - 0.05 * (1 - low)] + [1.0])


def tone(position: int) -> str:
    """Return the classes that colour a recipe."""
    dashes = position // HUES % 3
    return f"hue-{position % HUES}" + (f" dash-{dashes}" if dashes else "")


def loss_lines(rows: Sequence[Row]) -> list[Line]:
    """Return the mean training loss of each recipe's seeds, with their range."""
    return [_loss_line(row, tone(i)) for i, row in enumerate(rows)]


def _loss_line(row: Row, tone: str) -> Line:
    epochs = min(map(len, row.losses))  # seeds may have stopped early at different epochs
    loss_SE = np.array([loss[:epochs] for loss in row.losses])
    x = range(1, epochs + 1)
    band = list(zip(x, loss_SE.min(0).tolist(), loss_SE.max(0).tolist(), strict=True))
    points = list(zip(x, loss_SE.mean(0).tolist(), strict=True))
    return Line(points, tone, band if row.seeds > 1 else ())


def cost_chart(rows: Sequence[Row], costs: Sequence[float], *, label: str, x_label: str) -> Markup:
    """Draw test accuracy against a cost on a scale of factors; filled if nothing cheaper equals it.

    Args:
        rows: recipes, in the order of their colours.
        costs: what each costs, above 0.
        label: says what is drawn, for those who cannot see it.
        x_label: name of the horizontal axis.
    """
    best = front(costs, [row.test_mean for row in rows])
    ends = [end for row in rows for end in row.test_ci95]
    x_range = _aired(math.log10(min(costs)), math.log10(max(costs)), 0.05)
    low, high = _aired(min(ends), max(ends), 0.005)
    x = Scale(x_range, (LEFT, WIDTH - RIGHT))
    y = Scale((max(0.0, low), min(1.0, high)), (HEIGHT - BOTTOM, TOP))
    numbers = [(math.log10(tick), _compact(tick)) for tick in log_ticks(*(10**e for e in x_range))]
    parts = [axes(x, y, x_label=x_label, percent_y=True, x_ticks=numbers)]
    steps = [(x(math.log10(costs[i])), y(rows[i].test_mean)) for i in best]
    parts.append(tag("path", d=_stairs(steps), class_="front"))
    for i, row in enumerate(rows):
        at = x(math.log10(costs[i]))
        hue = tone(i)
        parts.append(
            tag("line", x1=at, x2=at, y1=y(row.test_ci95[0]), y2=y(row.test_ci95[1]), class_=hue)
        )
        filled = hue if i in best else f"{hue} hollow"
        name = tag("title", row.recipe)
        parts.append(tag("circle", name, cx=at, cy=y(row.test_mean), r=5, class_=filled))
    return picture(WIDTH, HEIGHT, *parts, label=label, class_="chart")


def front(costs: Sequence[float], gains: Sequence[float]) -> list[int]:
    """Return the indices that no other beats in both, cheapest first (the Pareto front)."""
    best, found = float("-inf"), []
    for i in sorted(range(len(costs)), key=lambda i: (costs[i], -gains[i])):
        if gains[i] > best:
            best = gains[i]
            found.append(i)
    return found


def log_ticks(low: float, high: float) -> list[float]:
    """Return round numbers for a scale of factors, as many as there is room for their texts.

    Args:
        low: start of the range, above 0.
        high: its end.
    """
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    room = (WIDTH - LEFT - RIGHT) / math.log10(high / low)  # units of a factor of ten
    for step, factors in ((1, (1, 2, 5)), (1, (1, 3)), (1, (1,)), (2, (1,)), (3, (1,))):
        ends = [f * 10.0**p for p in powers if p % step == 0 for f in factors]
        found = [end for end in ends if low <= end <= high]
        gaps = [
            room * math.log10(b / a) - CHAR * len(_compact(b)) for a, b in itertools.pairwise(found)
        ]
        if len(found) > 1 and min(gaps) > 2 * CHAR:
            return found
    return [tick for tick in ticks(low, high, most=3) if tick > 0]  # a narrow range


def _compact(number: float) -> str:
    """Return a number as short as an axis wants it: 20k for 20,000."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:,.4g}{letter}"
    return f"{number:,.4g}"


def _aired(low: float, high: float, least: float) -> tuple[float, float]:
    air = max(least, AIR * (high - low))
    return low - air, high + air


def _stairs(points: Sequence[tuple[float, float]]) -> str:
    """Return a path that goes right first, then up."""
    (x, y), *rest = points
    return f"M{x:.1f} {y:.1f}" + "".join(f"H{x:.1f}V{y:.1f}" for x, y in rest)
