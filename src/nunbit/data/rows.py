"""Pictures of a larger array, chosen by position and copied only when they are asked for.

A split of a set is a list of positions. Copying it would hold every picture twice, and would read
the whole file of a set that is mapped because it does not fit into memory.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

BATCH_BYTES = 16 << 20  # of pictures taken out of a set at once, where nobody says how many


@dataclass(frozen=True)
class Rows:
    """Some rows of a tensor in their own order; indexing it copies what is asked for.

    Indexing works as on a tensor along the first axis, so that code which takes batches need not
    know which of the two it has; `rows[:]` copies everything.
    """

    base: Tensor
    """All rows, (M, ...), in memory or mapped from a file."""
    at: Tensor
    """int64 (N,): which of them these are."""

    @property
    def shape(self) -> torch.Size:
        """(N, ...), as of the copied rows."""
        return torch.Size((len(self.at), *self.base.shape[1:]))

    def __len__(self) -> int:
        return len(self.at)

    def __getitem__(self, key: int | slice | Tensor) -> Tensor:
        at = self.at[key]
        # Indexing with a tensor looks up each value apart, index_select copies rows whole.
        return self.base.index_select(0, at) if at.dim() else self.base[at]


Images = Tensor | Rows
"""uint8 (N, H, W, C): take batches out of it; `images[:]` is a tensor of all of them."""


@dataclass(frozen=True)
class Stoppable:
    """Rows that ask first, each time some are taken out, whether to go on."""

    base: Images
    check: Callable[[], None]
    """Raises if not."""

    @property
    def shape(self) -> torch.Size:
        """(N, ...), as of the rows."""
        return self.base.shape

    def __len__(self) -> int:
        return len(self.base)

    def __getitem__(self, key: slice) -> Tensor:
        self.check()
        return self.base[key]


def choose(images: Images, indices: Tensor) -> Rows:
    """Return the rows at these positions without copying them; int64 (N,)."""
    if isinstance(images, Rows):
        return Rows(images.base, images.at[indices])
    return Rows(images, indices)


def batches(images: Images | Stoppable, size: int | None = None) -> Iterator[Tensor]:
    """Yield `size` rows after the other, as `Tensor.split` does; never two batches at once.

    Args:
        images: not empty, or else one batch is.
        size: rows in a batch; None takes some `BATCH_BYTES` of them.
    """
    size = size or max(1, BATCH_BYTES // math.prod(images.shape[1:]))
    for start in range(0, max(1, len(images)), size):
        yield images[start : start + size]


def collect_rows(count: int, found: Iterable[Sequence[Tensor]]) -> tuple[Tensor, ...]:
    """Return what was found batch after batch as one tensor (count, ...) for each kind of row.

    They are made once and written into. Rows of a batch that lived on by themselves would lie
    between pictures of batches that are gone, and glibc before 2.38 fits no aligned block into a
    gap of just its size: memory could grow by a batch of pictures with every batch (docs/log.md).

    Args:
        count: rows in all batches together.
        found: at least one batch: (B, ...) of each kind, the same kinds in all of them.

    Raises:
        ValueError: other rows than `count`, or not equally many of each kind.
    """
    tables: tuple[Tensor, ...] = ()
    start = 0
    for kinds in found:
        if not tables:
            with torch.inference_mode(False):  # the caller may compute with them in any mode
                tables = tuple(x.new_empty(count, *x.shape[1:], device="cpu") for x in kinds)
        end = start + len(kinds[0])
        for table, rows in zip(tables, kinds, strict=True):
            if len(rows) != end - start or end > count:  # one row would be written everywhere
                raise ValueError(f"{len(rows)} rows after {start} of {count}")
            table[start:end] = rows
        start = end
    if start != count:
        raise ValueError(f"{start} rows of {count}")
    return tables
