"""Numbers from logits and labels: sums and counts over every picture, never averages of batches."""

import math
from collections.abc import Iterator
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


def measure_briefly(logits_NK: Tensor, labels_N: Tensor) -> tuple[float, float]:
    """Return accuracy and loss alone, as `measure` does; a confusion has K * K cells."""
    right = int((logits_NK.argmax(1) == labels_N).sum())
    return right / len(labels_N), float(F.cross_entropy(logits_NK.double(), labels_N))


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
    k = len(class_names)
    if not len(labels_N) or logits_NK.shape != (len(labels_N), k):
        shape = tuple(logits_NK.shape)
        raise ValueError(f"logits {shape} for {len(labels_N)} labels and {k} classes")
    predicted_N = logits_NK.argmax(1)
    accuracy, loss = measure_briefly(logits_NK, labels_N)
    n, correct = len(labels_N), int((predicted_N == labels_N).sum())
    confusion_KK = torch.bincount(labels_N * k + predicted_N, minlength=k * k).reshape(k, k)
    return Metrics(
        n=n,
        correct=correct,
        accuracy=accuracy,
        ci95=wilson_interval(correct, n),
        loss=loss,
        per_class=tuple(_per_class(confusion_KK, class_names)),
        confusion=tuple(map(tuple, confusion_KK.tolist())),
        answers=None if verdicts_N is None else _answers(verdicts_N, predicted_N != labels_N),
    )


def _per_class(confusion_KK: Tensor, class_names: tuple[str, ...]) -> Iterator[ClassMetrics]:
    """Yield the metrics of each class; a ratio of nothing counts as 0."""
    right = confusion_KK.diagonal().tolist()
    named, true = confusion_KK.sum(0).tolist(), confusion_KK.sum(1).tolist()
    for name, hits, predicted, n in zip(class_names, right, named, true, strict=True):
        precision, recall = hits / max(predicted, 1), hits / max(n, 1)
        yield ClassMetrics(name, n, precision, recall, 2 * hits / max(predicted + n, 1))


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
