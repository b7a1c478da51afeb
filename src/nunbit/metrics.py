"""Numbers from logits and labels: sums and counts over every picture, never averages of batches."""

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Z_95 = 1.959964  # 97.5 % quantile of the normal distribution
ANSWERED, UNSURE, FOREIGN = range(3)  # what a classifier that may decline does with a picture


def wilson_interval(correct: int, n: int) -> tuple[float, float]:
    """Return the 95 % interval of an accuracy (Wilson, 1927), fractions in [0, 1].

    It holds near 0 and 1 and for small n, where the usual p +- 1.96 s does not.

    Raises:
        ValueError: n is 0.
    """
    if n <= 0:
        raise ValueError("an accuracy over no pictures has no interval")
    p, z2 = correct / n, Z_95**2
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = Z_95 * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return max(0.0, centre - half), min(1.0, centre + half)


@dataclass(frozen=True)
class ClassMetrics:
    """How one class fares; a ratio over nothing is 0."""

    label: str
    n: int
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True)
class Answers:
    """What came of declining on a labelled set, all of whose pictures are of known classes."""

    n: int
    answered: int
    """Pictures that got a label."""
    wrong: int
    """Of those."""
    unsure: int
    foreign: int
    """Pictures that were called none of the classes."""
    coverage: float
    """Share of the pictures that got a label."""
    error: float | None
    """Share of the given labels that is wrong; None where none was given."""
    error_ci95: tuple[float, float] | None
    """Wilson."""


@dataclass(frozen=True)
class Metrics:
    """What is known of a model on a labelled set."""

    n: int
    correct: int
    accuracy: float
    ci95: tuple[float, float]
    loss: float
    """Mean cross entropy in nats over all pictures."""
    per_class: tuple[ClassMetrics, ...]
    confusion: tuple[tuple[int, ...], ...]
    """Row: true class; column: predicted class."""
    answers: Answers | None = None
    """Of a classifier that may decline; accuracy and the rest count its best guess everywhere."""

    def to_dict(self) -> dict[str, Any]:
        """Return the fields for JSON; without `answers` where there are none."""
        body = asdict(self)
        return body if self.answers else {k: v for k, v in body.items() if k != "answers"}


def measure(
    logits_NK: Tensor,
    labels_N: Tensor,
    class_names: tuple[str, ...],
    verdicts_N: Tensor | None = None,
) -> Metrics:
    """Return every metric of a set.

    Args:
        logits_NK: float (N, K), one row for every picture.
        labels_N: int64 (N,).
        class_names: K names.
        verdicts_N: ANSWERED, UNSURE or FOREIGN, of a classifier that may decline.

    Raises:
        ValueError: no pictures, or rows without a label.
    """
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    if not len(labels_N) or len(logits_NK) != len(labels_N):
        raise ValueError(f"{len(logits_NK)} rows of logits for {len(labels_N)} labels")
    predicted_N = logits_NK.argmax(1)
    n, correct = len(labels_N), int((predicted_N == labels_N).sum())
    numbers = list(range(len(class_names)))
    pair = (labels_N.numpy(), predicted_N.numpy())
    rows = zip(
        *precision_recall_fscore_support(*pair, labels=numbers, zero_division=0), strict=True
    )
    per_class = tuple(
        ClassMetrics(name, int(count), float(precision), float(recall), float(f1))
        for name, (precision, recall, f1, count) in zip(class_names, rows, strict=True)
    )
    return Metrics(
        n=n,
        correct=correct,
        accuracy=correct / n,
        ci95=wilson_interval(correct, n),
        loss=float(F.cross_entropy(logits_NK.double(), labels_N)),
        per_class=per_class,
        confusion=tuple(tuple(map(int, row)) for row in confusion_matrix(*pair, labels=numbers)),
        answers=None if verdicts_N is None else _answers(verdicts_N, predicted_N != labels_N),
    )


def _answers(verdicts_N: Tensor, is_wrong_N: Tensor) -> Answers:
    """Count what came of declining."""
    answered, unsure, foreign = torch.bincount(verdicts_N, minlength=3).tolist()
    wrong = int(is_wrong_N[verdicts_N == ANSWERED].sum())
    return Answers(
        n=len(verdicts_N),
        answered=answered,
        wrong=wrong,
        unsure=unsure,
        foreign=foreign,
        coverage=answered / len(verdicts_N),
        error=wrong / answered if answered else None,
        error_ci95=wilson_interval(wrong, answered) if answered else None,
    )
