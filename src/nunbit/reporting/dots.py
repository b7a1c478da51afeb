"""Measured values with their intervals, drawn as dots: for pages, like `svg.py`."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from nunbit.reporting.slices import Slice
from nunbit.reporting.svg import (
    BOTTOM,
    HEIGHT,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    Range,
    Scale,
    axes,
    picture,
    tag,
    ticks,
)


@dataclass(frozen=True)
class Dot:
    """One measured value of a chart, with its interval."""

    x: float
    y: float
    low: float
    high: float
    share: float
    """Of all pictures, in (0, 1]: the area of the dot."""


def dot_chart(dots: Sequence[Dot], *, label: str, x_label: str) -> Markup:
    """Draw fractions against fractions, with intervals and the diagonal where both are equal.

    Args:
        dots: in any order.
        label: says what is drawn, for those who cannot see it.
        x_label: name of the horizontal axis.
    """
    low = min(min(dot.x, dot.low) for dot in dots)
    start = max(0.0, math.floor(10 * low) / 10)
    height = WIDTH - LEFT - RIGHT + TOP + BOTTOM  # both axes are equally long
    x = Scale((start, 1.0), (LEFT, WIDTH - RIGHT))
    y = Scale((start, 1.0), (height - BOTTOM, TOP))
    numbers = [(tick, f"{100 * tick:.6g}") for tick in ticks(start, 1.0)]
    parts = [axes(x, y, x_label=x_label, x_ticks=numbers, percent_y=True)]
    parts.append(tag("line", x1=x(start), y1=y(start), x2=x(1.0), y2=y(1.0), class_="mark"))
    for dot in dots:
        at = x(dot.x)
        parts.append(tag("line", x1=at, x2=at, y1=y(dot.low), y2=y(dot.high), class_="whisker"))
        radius = 3 + 9 * math.sqrt(dot.share)
        parts.append(tag("circle", cx=at, cy=y(dot.y), r=radius, class_="accent"))
    return picture(WIDTH, height, *parts, label=label, class_="chart")


def interval(
    value: float,
    low: float,
    high: float,
    *,
    domain: Range = (0.0, 1.0),
    reference: float | None = None,
) -> Markup:
    """Draw a value as a dot on its interval, small enough for a row of a table.

    Args:
        value: where the dot is.
        low: start of the interval.
        high: its end.
        domain: what the whole width stands for; equal for all rows of a table.
        reference: a thin upright line here, such as the value over all rows.
    """
    width, height = 220.0, 16.0
    x = Scale(domain, (6.0, width - 6.0))
    middle = height / 2
    parts = []
    if reference is not None:
        at = x(reference)
        parts.append(tag("line", x1=at, x2=at, y1=0, y2=height, class_="reference"))
    parts.append(tag("line", x1=x(low), x2=x(high), y1=middle, y2=middle, class_="whisker"))
    parts.append(tag("circle", cx=x(value), cy=middle, r=4, class_="accent"))
    # The numbers stand beside it: it says nothing that a reader aloud would miss.
    view = f"0 0 {width:g} {height:g}"
    return tag("svg", *parts, viewBox=view, class_="interval", aria_hidden="true")


def slice_chart(parts: Sequence[Slice], accuracy: float, *, label: str, x_label: str) -> Markup:
    """Draw the accuracy of the parts of a test set, against that of all pictures.

    Args:
        parts: by one property, lowest first.
        accuracy: of all pictures; a dotted line.
        label: says what is drawn, for those who cannot see it.
        x_label: name of the property, with its unit.
    """
    low = min(accuracy, *(part.ci95[0] for part in parts))
    high = max(accuracy, *(part.ci95[1] for part in parts))
    air = 0.08 * (high - low) or 0.05
    x = Scale((0.5, len(parts) + 0.5), (LEFT, WIDTH - RIGHT))
    y = Scale((max(0.0, low - air), min(1.0, high + air)), (HEIGHT - BOTTOM, TOP))
    ranges = [(float(i), _range(part)) for i, part in enumerate(parts, 1)]
    drawn = [axes(x, y, x_label=x_label, percent_y=True, x_ticks=ranges)]
    drawn.append(tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y(accuracy), y2=y(accuracy),
                     class_="mark"))  # fmt: skip
    for i, part in enumerate(parts, 1):
        tone = "soft" if part.ci95[1] >= accuracy else "accent"
        ends = (y(part.ci95[0]), y(part.ci95[1]))
        drawn.append(tag("line", x1=x(i), x2=x(i), y1=ends[0], y2=ends[1], class_=f"thick {tone}"))
        drawn.append(tag("circle", cx=x(i), cy=y(part.accuracy), r=5, class_=tone))
    return picture(WIDTH, HEIGHT, *drawn, label=label, class_="chart")


def _range(part: Slice) -> str:
    """Return the values of a part: pixels, or percent of white."""
    factor = 1 if part.property == "size" else 100
    ends = (f"{factor * part.low:.0f}", f"{factor * part.high:.0f}")
    return "–".join(dict.fromkeys(ends))
