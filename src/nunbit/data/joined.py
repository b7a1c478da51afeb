"""Several rows of things as one, without putting them together in memory."""

from abc import abstractmethod
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Any, TypeVar

T = TypeVar("T")


class Joined(Sequence[T]):
    """A sequence made of parts; what an item of a part is, is asked for when it is wanted."""

    def __init__(self, lengths: Iterable[int]) -> None:
        """Take the number of items of each part."""
        self._ends = list(accumulate(lengths))

    @abstractmethod
    def _item(self, part: int, at: int) -> T:
        """Return an item of a part, at a negative position: counted from the part's end."""

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, i: Any) -> Any:
        if isinstance(i, slice):
            return [self[k] for k in range(*i.indices(len(self)))]
        at = range(len(self))[i]
        part = bisect_right(self._ends, at)
        return self._item(part, at - self._ends[part])
