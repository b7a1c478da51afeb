"""What a classifier says of one picture."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from nunbit.data.pictures import Skipped
from nunbit.language import tr
from nunbit.metrics import ANSWERED, FOREIGN
from nunbit.storage import csv_line

VERDICTS = ("label", "unsure", "foreign")  # by the numbers of `nunbit.metrics`
COLUMNS = ("picture", "predicted", "probability", "verdict", "answer")


@dataclass(frozen=True)
class Prediction:
    """What a classifier says of one picture."""

    path: str
    label: str
    """The most probable class, also where the answer is another."""
    probability: float
    top: tuple[tuple[str, float], ...]
    """The most probable classes with their probabilities, best first; two at least if unsure."""
    verdict: str = VERDICTS[ANSWERED]
    """`label`, `unsure` or `foreign`; always `label` where the model does not decline."""
    answer: str = ""
    """The label, `unsure: a | b`, or `not one of your classes`, in the user's language."""

    def to_dict(self) -> dict[str, Any]:
        """Return the fields for JSON."""
        top = [{"label": label, "probability": p} for label, p in self.top]
        return {
            "path": self.path,
            "label": self.label,
            "probability": self.probability,
            "verdict": self.verdict,
            "answer": self.answer,
            "top": top,
        }


def predicted(
    name: str, probabilities_K: Tensor, class_names: Sequence[str], top: int, verdict: int
) -> Prediction:
    """Return what is said of a picture.

    Args:
        name: of the picture.
        probabilities_K: float (K,).
        class_names: K names.
        top: how many classes to name.
        verdict: ANSWERED, UNSURE or FOREIGN.
    """
    # Of equal ones, which bf16 often gives, the first: argmax does so where accuracy is measured.
    values, indices = probabilities_K.sort(descending=True, stable=True)
    count = max(top, 2)
    pairs = zip(indices[:count].tolist(), values[:count].tolist(), strict=True)
    ranked = tuple((class_names[i], round(p, 6)) for i, p in pairs)
    if verdict == ANSWERED:
        answer = ranked[0][0]
    elif verdict == FOREIGN:
        answer = tr("not one of your classes")
    else:
        top = max(top, 2)  # the answer names two
        answer = tr("unsure: {classes}", classes=" | ".join(label for label, _ in ranked[:2]))
    return Prediction(name, *ranked[0], ranked[:top], VERDICTS[verdict], answer)


@contextmanager
def answers_table(path: Path | None) -> Iterator[Callable[[Prediction | Skipped], object]]:
    """Give a function that writes what is said of a picture as a line of a new CSV file.

    Args:
        path: of a file that is not there; None writes nothing.
    """
    if path is None:
        yield lambda _said: None
        return
    # Line by line, so that what is known stays if the rest is not waited for.
    with path.open("x", encoding="utf-8", newline="", buffering=1) as table:
        table.write(csv_line(COLUMNS))
        yield lambda said: table.write(csv_line(_row(said)))


def _row(said: Prediction | Skipped) -> tuple[str, ...]:
    if isinstance(said, Skipped):
        return said.name, "", "", "unreadable", said.reason
    return said.path, said.label, f"{said.probability:.4f}", said.verdict, said.answer
