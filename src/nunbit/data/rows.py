"""Pictures of a larger array, chosen by position and copied only when they are asked for.

A split of a set is a list of positions. Copying it would hold every picture twice, and would read
the whole file of a set that is mapped because it does not fit into memory.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor


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


def choose(images: Images, indices: Tensor) -> Rows:
    """Return the rows at these positions without copying them; int64 (N,)."""
    if isinstance(images, Rows):
        return Rows(images.base, images.at[indices])
    return Rows(images, indices)


def batches(images: Images, size: int) -> Iterator[Tensor]:
    """Yield `size` rows after the other, as `Tensor.split` does; never two batches at once."""
    for start in range(0, max(1, len(images)), size):
        yield images[start : start + size]
