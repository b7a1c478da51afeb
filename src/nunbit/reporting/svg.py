"""Small SVG figures for pages: they scale with the page and take their colours from its CSS.

Every function returns markup that a template prints as it is. Texts come in as arguments, so that
a template can pass translated ones. Units are those of a viewBox as wide as a phone (see `WIDTH`),
so that 13 units of text are readable on it. Tones are classes that choose colours: `accent`, `ink`
and `soft` on every page, and those that a page names itself.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

Point = tuple[float, float]
Range = tuple[float, float]

WIDTH, HEIGHT = 420, 256  # of a chart; text is 13 units high
LEFT, RIGHT, TOP, BOTTOM = 42, 10, 18, 40  # margins
MAX_POINTS = 500  # of a line; more are not seen
CHAR = 6.5  # width of a digit of the text, roughly


@dataclass(frozen=True)
class Scale:
    """Maps data to positions, linearly."""

    data: Range
    pixels: Range

    def __call__(self, value: float) -> float:
        """Return the position of a value."""
        (low, high), (start, end) = self.data, self.pixels
        return start + (value - low) / ((high - low) or 1) * (end - start)


@dataclass(frozen=True)
class Line:
    """One curve of a chart."""

    points: Sequence[Point]
    tone: str = "accent"
    band: Sequence[tuple[float, float, float]] = ()
    """(x, low, high): a range around the curve, such as that of several seeds."""


def tag(name: str, *children: object, **attributes: object) -> Markup:
    """Return one element; `class_` stands for class, `_` for a hyphen, numbers are rounded.

    Strings are escaped, markup is not.
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(short(value))}"'
        for key, value in attributes.items()
    )
    return Markup(f"<{name}{written}>{''.join(map(escape, children))}</{name}>")


def picture(width: float, height: float, *children: object, label: str, class_: str) -> Markup:
    """Return an svg element that is as wide as its place allows; `label` says it to the blind."""
    view = f"0 0 {short(width)} {short(height)}"
    return tag("svg", *children, viewBox=view, class_=class_, role="img", aria_label=label)


def ticks(low: float, high: float, *, most: int = 5, whole: bool = False) -> list[float]:
    """Return at most `most` + 1 round values between low and high: steps of 1, 2 or 5.

    Args:
        low: start of the range.
        high: its end.
        most: how many steps the range may be cut into.
        whole: allow whole numbers only.
    """
    rough = max((high - low) / most, 1e-9)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * (1 - 1e-9))
    step = max(1.0, step) if whole else step
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(i * step, 10) for i in range(first, last + 1)]


def line_chart(
    lines: Sequence[Line],
    *,
    label: str,
    x_label: str,
    percent: bool = False,
    mark: tuple[float, str] | None = None,
) -> Markup:
    """Draw curves over whole numbers such as epochs; the y axis begins at 0 unless in percent.

    Args:
        lines: curves, drawn in this order.
        label: says what is drawn, for those who cannot see it.
        x_label: name of the horizontal axis.
        percent: y is a fraction that is printed in percent.
        mark: a vertical line at this x with this text.
    """
    xs = [x for line in lines for x, _ in line.points]
    ys = [y for line in lines for _, y in line.points]
    ys += [y for line in lines for _, *ends in line.band for y in ends]
    low = min(ys) if percent else min(0.0, *ys)
    y_range = (low, max(ys)) if max(ys) > low else (low - 0.5, low + 0.5)
    y_range = _widened(y_range, (0.0, 1.0) if percent else None)
    x_range = (min(xs), max(xs)) if max(xs) > min(xs) else (min(xs) - 0.5, min(xs) + 0.5)
    x = Scale(x_range, (LEFT, WIDTH - RIGHT))
    y = Scale(y_range, (HEIGHT - BOTTOM, TOP))
    numbers = [(tick, f"{tick:,.6g}") for tick in ticks(*x_range, whole=True)]
    parts = [axes(x, y, x_label=x_label, x_ticks=numbers, percent_y=percent)]
    if mark is not None:
        parts.append(_mark(x(mark[0]), mark[1]))
    parts += [_band(line, x, y) for line in lines if len(line.band) > 1]
    parts += [curve(line, x, y) for line in lines]
    return picture(WIDTH, HEIGHT, *parts, label=label, class_="chart")


def curve(line: Line, x: Scale, y: Scale) -> Markup:
    """Draw one line, thinned to `MAX_POINTS`; a single point becomes a dot."""
    step = -(-len(line.points) // MAX_POINTS)
    points = [*line.points[:-1:step], line.points[-1]] if step > 1 else line.points
    if len(points) == 1:
        return tag("circle", cx=x(points[0][0]), cy=y(points[0][1]), r=3, class_=line.tone)
    path = " ".join(f"{short(x(a))},{short(y(b))}" for a, b in points)
    return tag("polyline", points=path, class_=line.tone)


def _band(line: Line, x: Scale, y: Scale) -> Markup:
    """Draw the range around a line."""
    step = -(-len(line.band) // MAX_POINTS)
    band = [*line.band[:-1:step], line.band[-1]]
    there = [(at, high) for at, _, high in band]
    back = [(at, low) for at, low, _ in reversed(band)]
    path = " ".join(f"{short(x(a))},{short(y(b))}" for a, b in there + back)
    return tag("polygon", points=path, class_=line.tone)


def axes(
    x: Scale,
    y: Scale,
    *,
    x_label: str,
    x_ticks: Sequence[tuple[float, str]],
    percent_y: bool = False,
) -> Markup:
    """Draw a grid of horizontal lines, the numbers of both axes, and the name of the x axis.

    Args:
        x: scale of the horizontal axis.
        y: scale of the upright one.
        x_label: name of the horizontal axis.
        x_ticks: where the horizontal axis has which text.
        percent_y: y is a fraction that is printed in percent.
    """
    left, right = x.pixels
    bottom = y.pixels[0]
    parts = []
    for value in ticks(*y.data):
        at = y(value)
        parts.append(tag("line", x1=left, x2=right, y1=at, y2=at, class_="grid"))
        number = _number(value, percent_y)
        parts.append(tag("text", number, x=left - 8, y=at + 4, text_anchor="end"))
    for value, number in x_ticks:
        parts.append(tag("text", number, x=x(value), y=bottom + 18, text_anchor="middle"))
    parts.append(tag("text", x_label, x=right, y=bottom + 35, text_anchor="end"))
    return tag("g", *parts)


def _mark(at: float, text: str) -> Markup:
    """Draw a dotted upright line with its text above the curves, inside the chart's width."""
    line = tag("line", x1=at, x2=at, y1=TOP - 4, y2=HEIGHT - BOTTOM, class_="mark")
    is_near_end = at + CHAR * len(text) / 2 > WIDTH - RIGHT
    where = {"x": WIDTH - RIGHT, "text_anchor": "end"} if is_near_end else {"x": at}
    name = tag("text", text, **{"text_anchor": "middle", **where}, y=TOP - 8)
    return line + name


def _widened(data: Range, limits: Range | None) -> Range:
    """Return the range with 5 % of air above, and below where it does not begin at 0."""
    air = 0.05 * (data[1] - data[0])
    low, high = data[0] - (air if data[0] else 0), data[1] + air
    return (max(low, limits[0]), min(high, limits[1])) if limits else (low, high)


def _number(value: float, percent: bool) -> str:
    return f"{100 * value if percent else value:,.6g}"


def short(value: object) -> object:
    """Return numbers with one decimal at most: a tenth of a pixel is not seen."""
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else value
