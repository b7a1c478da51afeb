"""The confusion matrix with the pictures behind its cells; of many classes, the largest cells."""

from collections.abc import Sequence
from dataclasses import dataclass

from nunbit.reporting.gallery import Gallery
from nunbit.reporting.verdicts import Verdicts, dealt

MAX_MATRIX = 20  # classes; more do not fit a page, and their matrix is nearly empty
PAIRS = 20  # most confused pairs that stand in for a larger matrix
PER_CELL = 24  # pictures that open from one cell
BUDGET = 3_000_000  # characters of all pictures behind cells; mail takes 5 MB


@dataclass(frozen=True)
class Cell:
    """The pictures of one class that were taken for one class."""

    label: int
    predicted: int
    count: int
    share: float
    """Of the pictures of the true class."""
    tint: float
    """How strongly it is coloured, in [0, 1]; mistakes only."""
    shown: tuple[int, ...]
    """Positions of the pictures that the page holds."""

    @property
    def id(self) -> str:
        """Name of the cell within the page."""
        return f"cell-{self.label}-{self.predicted}"


def confusion_cells(
    confusion: Sequence[Sequence[int]], verdicts: Verdicts, gallery: Gallery
) -> list[Cell]:
    """Return the cells that hold pictures: of a whole matrix, or of the most confused pairs.

    Args:
        confusion: counts, rows are true classes.
        verdicts: of the same pictures.
        gallery: of the same pictures.
    """
    sums = [sum(row) for row in confusion]
    counts = {(i, j): n for i, row in enumerate(confusion) for j, n in enumerate(row) if n}
    if len(sums) > MAX_MATRIX:
        wrong = [pair for pair in counts if pair[0] != pair[1]]
        wrong.sort(key=lambda pair: (-counts[pair], pair))
        counts = {pair: counts[pair] for pair in wrong[:PAIRS]}
    groups = [verdicts.behind(*pair)[:PER_CELL] for pair in counts]
    shown = dealt(groups, PER_CELL, lambda i: len(gallery.uri(i)), BUDGET)
    shares = {pair: n / sums[pair[0]] for pair, n in counts.items()}
    most = max((share for (i, j), share in shares.items() if i != j), default=1.0)
    return [
        Cell(
            label=i,
            predicted=j,
            count=count,
            share=shares[i, j],
            # The root tells small shares apart, of which there are many.
            tint=0.0 if i == j else (shares[i, j] / most) ** 0.5,
            shown=tuple(group[:number]),
        )
        for ((i, j), count), group, number in zip(counts.items(), groups, shown, strict=True)
    ]
