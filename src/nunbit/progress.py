"""What a user sees while nunbit works: plain lines in a pipe, bars on a terminal, all on stderr."""

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

T = TypeVar("T")


class Display:
    """Says lines and tracks loops; `Display(quiet=True)` does neither."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._console = Console(file=sys.stderr, quiet=quiet, highlight=False, soft_wrap=True)

    def say(self, line: str) -> None:
        """Print one line, as it is."""
        self._console.print(line, markup=False)

    def track(self, items: Iterable[T], total: int, label: str) -> Iterator[T]:
        """Yield the items with a bar that disappears when the loop ends.

        Where stderr is no terminal there is no bar: a log file wants lines, one per epoch.
        """
        if not self._console.is_terminal or self._console.quiet or total < 2:
            yield from items
            return
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeRemainingColumn(compact=True),
        )
        with Progress(*columns, console=self._console, transient=True) as bar:
            yield from bar.track(items, total=total, description=label)
