"""What a user sees while nunbit works, all on stderr: lines, and on a terminal what moves.

A pipe gets plain lines. A notebook gets them too, on stdout: it paints stderr red, and has no use
for stdout that a line could spoil.
"""

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import IO, Any, TypeVar, cast

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from nunbit.language import tr
from nunbit.liveline import GAP, Cell, LiveLine, Look, fitting
from nunbit.streams import Log

FIRST_LINE_SECONDS = 10.0  # until a loop is long enough for a log file to hear of it
T = TypeVar("T")
Follow = Callable[[Iterable[Any], str], Iterator[Any]]


class Display:
    """Says lines and follows loops; `Display(quiet=True)` does neither."""

    def __init__(self, *, quiet: bool = False) -> None:
        stream = sys.stdout if Console().is_jupyter else sys.stderr
        self._console = Console(
            file=cast(IO[str], Log(stream)), quiet=quiet, highlight=False, soft_wrap=True,
            force_jupyter=False,
        )  # fmt: skip  # one argument a line would say no more
        # A pipe is none, even where the environment asks for colours (FORCE_COLOR).
        self._is_live = self._console.is_interactive and stream.isatty() and not quiet

    def say(self, line: str) -> None:
        """Print one line, as it is."""
        self._console.print(line, markup=False, emoji=False)

    def say_cells(self, cells: Sequence[Cell]) -> None:
        """Print one line of a table; a narrow terminal gets the pieces that matter most."""
        texts = [text for text, _ in cells]
        width = self._console.width
        self.say(GAP.join(fitting(cells, width) if self._is_live else texts))

    def track(self, items: Iterable[T], total: int, label: str) -> Iterator[T]:
        """Yield the items with a bar that disappears when the loop ends.

        Where stderr is no terminal there is no bar, but a line after some seconds, and after twice
        and four times as many: a log file should neither be full of them nor silent for minutes.
        """
        if not self._is_live:
            yield from self._log(items, total, label)
            return
        if total < 2:
            yield from items
            return
        with self._progress() as bar:
            yield from bar.track(items, total=total, description=label)

    def _log(self, items: Iterable[T], total: int, label: str) -> Iterator[T]:
        start, due = time.monotonic(), FIRST_LINE_SECONDS
        for done, item in enumerate(items, 1):
            yield item
            if (seconds := time.monotonic() - start) >= due and done < total:
                self.say(tr("{label}: {done:,} of {total:,}", label=label, done=done, total=total))
                due = 2 * max(due, seconds)

    @contextmanager
    def bar(self, total: int, label: str) -> Iterator[Callable[[int], None]]:
        """Give a function that sets how much of `total` is done, for work that is not a loop."""
        if not self._is_live:
            yield lambda _done: None
            return
        with self._progress() as bar:
            task = bar.add_task(label, total=total)
            yield lambda done: bar.update(task, completed=done)

    @contextmanager
    def live(self, total_steps: int, look: Look) -> Iterator[Follow]:
        """Give a function that wraps the batches of an epoch and draws the live line meanwhile.

        The line is below all that is said, and gone when the block ends. It has no thread of its
        own: it is drawn between two updates, at most four times a second.

        Args:
            total_steps: updates in the whole run.
            look: tells where the training stands.
        """
        if not self._is_live:
            yield lambda batches, _label: iter(batches)
            return
        live = Live(
            console=self._console, auto_refresh=False, transient=True, redirect_stdout=False
        )
        line = LiveLine(total_steps, look, live.refresh)
        live.update(line)
        with live:
            self._console.show_cursor()  # rich hides it, and a killed process cannot bring it back
            yield line.watch

    def _progress(self) -> Progress:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeRemainingColumn(compact=True),
        )
        # What a command prints on stdout may go to a file; rich would send it to the terminal.
        return Progress(*columns, console=self._console, transient=True, redirect_stdout=False)
