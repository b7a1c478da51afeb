"""The one line on a terminal that follows a training: loss, accuracy, speed, time left."""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

T = TypeVar("T")
REFRESH_SECONDS = 0.25  # a look at the sums waits for a GPU, so looks are rare; eyes need no more
BLOCKS = "▁▂▃▄▅▆▇█"
LEAST_COLUMNS, MOST_COLUMNS = 4, 16  # of a sparkline
MAX_PARTS = 256  # of a trend; a multiple of 2
LOSSES = 1e-4, 1e4  # nats that a curve tells apart; a GPU may report infinity before it is stopped
GAP = "  "


@dataclass(frozen=True)
class Sums:
    """Where a training stands between two updates."""

    step: int
    """Updates done in the whole run."""
    loss: float
    """Sum over the pictures of the unfinished epoch, in nats."""
    correct: float
    images: float


Look = Callable[[], Sums]
Cell = tuple[str, int]
"""A piece of a line, and its rank: 0 matters most."""
Part = tuple[float, float, float]
"""Loss, correct and pictures, summed over a span of a training."""


def fitting(cells: Sequence[Cell], width: int) -> list[str]:
    """Return the texts of a line that fit into `width` columns, in order; what matters less goes.

    Args:
        cells: the pieces in the order in which they are shown, two columns apart.
        width: columns; the piece that matters most is returned even if it is longer.
    """
    kept: list[Cell] = []
    for cell in sorted(cells, key=lambda cell: cell[1]):
        wanted = [*kept, cell]
        if kept and sum(len(text) for text, _ in wanted) + len(GAP) * len(kept) > width:
            break
        kept = wanted
    return [text for text, rank in cells if (text, rank) in kept]


def sparkline(values: Sequence[float]) -> str:
    """Return one block for each value, from the lowest to the highest; equal values are low."""
    low, high = min(values, default=0.0), max(values, default=0.0)
    scale = (len(BLOCKS) - 1) / (high - low) if high > low else 0.0
    return "".join(BLOCKS[round((value - low) * scale)] for value in values)


class Trend:
    """Loss and accuracy over equal spans of time, from the start of a run to now.

    When there are too many spans for the memory of a line, neighbours become one of twice the
    length: the whole run stays in view.
    """

    def __init__(self) -> None:
        self._parts: list[Part] = []
        self._looks = 0
        self._span = 1  # looks in a part

    def add(self, loss: float, correct: float, images: float) -> None:
        """Add what happened since the last look, as sums over its pictures."""
        if self._looks % self._span:
            before = self._parts.pop()
            loss, correct, images = loss + before[0], correct + before[1], images + before[2]
        elif len(self._parts) == MAX_PARTS:
            self._parts, self._span = _merged(self._parts, MAX_PARTS // 2), self._span * 2
            self._looks = 0
        self._parts.append((loss, correct, images))
        self._looks += 1

    def sparklines(self, columns: int) -> tuple[str, str]:
        """Return loss (its logarithm, as it falls by factors) and accuracy, one block a span."""
        parts = _merged(self._parts, columns)
        least, most = LOSSES
        losses = [math.log(min(most, max(least, loss / images))) for loss, _, images in parts]
        return sparkline(losses), sparkline([correct / images for _, correct, images in parts])


def _merged(parts: Sequence[Part], count: int) -> list[Part]:
    """Add up neighbours so that at most `count` parts are left."""
    count = min(count, len(parts))
    bounds = [i * len(parts) // count for i in range(count + 1)] if count else []
    groups = [parts[start:end] for start, end in pairwise(bounds)]
    return [(sum(p[0] for p in g), sum(p[1] for p in g), sum(p[2] for p in g)) for g in groups]


class LiveLine:
    """The line as rich draws it: made anew, as wide as the terminal is, at each refresh."""

    def __init__(self, total_steps: int, look: Look, refresh: Callable[[], None]) -> None:
        """Begin to count.

        Args:
            total_steps: updates in the whole run, for the time left.
            look: tells where the training stands; called a few times a second.
            refresh: draws the line.
        """
        self._total_steps, self._look, self._refresh = total_steps, look, refresh
        self._trend = Trend()
        self._label, self._loss, self._accuracy = "", 0.0, 0.0
        self._speed = self._left = 0.0
        self._began: tuple[float, int] | None = None  # when, and at which step
        self._due = 0.0

    def watch(self, batches: Iterable[T], label: str) -> Iterator[T]:
        """Yield the batches of an epoch, drawing the line between updates."""
        seen, start = self._look(), time.monotonic()
        self._label, self._began = label, self._began or (start, seen.step)
        first = seen
        for batch in batches:
            yield batch
            if time.monotonic() >= self._due:
                seen = self._draw(seen, first, start)
        self._draw(seen, first, start)

    def _draw(self, seen: Sums, first: Sums, start: float) -> Sums:
        """Look, and draw what is new since `seen`; `first` and `start` are the epoch's."""
        now, at = time.monotonic(), self._look()
        assert self._began is not None
        began, first_step = self._began
        if at.images > seen.images:
            self._trend.add(at.loss - seen.loss, at.correct - seen.correct, at.images - seen.images)
            self._loss, self._accuracy = at.loss / at.images, at.correct / at.images
            self._speed = (at.images - first.images) / max(1e-9, now - start)
            per_step = (now - began) / (at.step - first_step)
            self._left = per_step * (self._total_steps - at.step)
        self._refresh()
        self._due = time.monotonic() + REFRESH_SECONDS
        return at

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield one line that is narrower than the terminal."""
        yield self.text(options.max_width - 1, has_blocks=not options.ascii_only)

    def text(self, width: int, *, has_blocks: bool = True) -> Text:
        """Return the line in at most `width` columns, with sparklines where there is room."""
        line = Text(no_wrap=True, overflow="crop", end="")
        if not self._speed:
            return line.append(self._label[:width])
        loss, accuracy = f"loss {self._loss:.3f}", f"accuracy {self._accuracy:.1%}"
        reserved = LEAST_COLUMNS + 1 if has_blocks else 0
        cells = [(self._label, 0), (loss, 1), (accuracy, 3)]
        cells += [(f"{self._speed:,.0f} images/s", 4), (f"{clock(self._left)} left", 2)]
        shown = fitting(cells, width - reserved)
        room = width - sum(map(len, shown)) - len(GAP) * (len(shown) - 1)
        curves = dict(zip((loss, accuracy), self._curves(room, accuracy in shown), strict=True))
        for i, text in enumerate(shown):
            line.append((GAP if i else "") + text)
            if has_blocks and curves.get(text):
                line.append(" " + curves[text], "cyan" if text == loss else "green")
        return line

    def _curves(self, room: int, has_accuracy: bool) -> tuple[str, str]:
        """Return sparklines of loss and accuracy that share so many columns; "" for none."""
        number = 2 if has_accuracy and room >= 2 * (LEAST_COLUMNS + 1) else 1
        columns = min(MOST_COLUMNS, room // number - 1)
        if columns < LEAST_COLUMNS:
            return "", ""
        loss, accuracy = self._trend.sparklines(columns)
        return loss.ljust(columns), accuracy.ljust(columns) if number == 2 else ""


def clock(seconds: float) -> str:
    """Return a time as 0:05, 12:34 or 2:05:10."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
