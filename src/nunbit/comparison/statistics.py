"""Which differences between networks are real: paired tests on the same pictures, and intervals.

Two things make an accuracy vary: the pictures that happen to be in the test set, and the seed of
the training. Both enter the intervals here; the test is paired, since all networks are measured on
the same pictures.

Shapes: S seeds, N pictures.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import binomtest, chi2, t

Correct = np.ndarray[Any, np.dtype[np.bool_]]
Shares = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class _Estimate:
    """A mean over pictures and seeds, and how far others of them could move it."""

    mean: float
    variance: float
    """Of the mean: what another draw of N pictures and what other seeds would cause."""
    freedom: float
    """Degrees of freedom of the variance (Welch, Biometrika 34, 1947): few seeds tell little."""

    @classmethod
    def of(cls, values_N: Shares, seeds: Sequence[Correct]) -> "_Estimate":
        """Return the estimate of the mean of `values_N`, which come from these trainings."""
        parts = [(values_N.var(ddof=1) / len(values_N), len(values_N) - 1)]
        for correct_SN in seeds:
            if (count := len(correct_SN)) > 1:  # of one seed the spread is unknown and taken as 0
                parts.append((correct_SN.mean(axis=1).var(ddof=1) / count, count - 1))
        variance = sum(part for part, _ in parts)
        freedom = variance**2 / sum(part**2 / free for part, free in parts)
        return cls(float(values_N.mean()), float(variance), float(freedom))

    def interval(self) -> tuple[float, float]:
        """Return the 95 % interval of the mean."""
        half = float(t.ppf(0.975, self.freedom)) * math.sqrt(self.variance)
        return self.mean - half, self.mean + half

    def p(self) -> float:
        """Return the p-value of the hypothesis that the true mean is 0."""
        return float(2 * t.sf(abs(self.mean) / math.sqrt(self.variance), self.freedom))


def mean_interval(correct_SN: Correct) -> tuple[float, float]:
    """Return the 95 % interval of a recipe's accuracy over seeds and pictures, fractions in [0, 1].

    Two pictures that are right and two that are wrong are added (Agresti and Coull, The American
    Statistician 52, 1998): ten right of ten do not make a network that is always right.
    """
    padded_SN = np.pad(
        correct_SN, ((0, 0), (2, 2)), constant_values=((False, False), (True, False))
    )
    low, high = _Estimate.of(padded_SN.mean(axis=0), [correct_SN]).interval()
    return max(0.0, low), min(1.0, high)


def seeds_interval(accuracies: Sequence[float]) -> tuple[float, float] | None:
    """Return the 95 % interval of the mean over other seeds, on the same pictures (Student's t).

    Args:
        accuracies: of each seed, fractions; of a single one nothing is known, and None returned.
    """
    count = len(accuracies)
    if count < 2:
        return None
    mean = float(np.mean(accuracies))
    half = float(t.ppf(0.975, count - 1) * np.std(accuracies, ddof=1) / math.sqrt(count))
    return max(0.0, mean - half), min(1.0, mean + half)


def difference_interval(a_SN: Correct, b_SN: Correct) -> tuple[float, float]:
    """Return the 95 % interval of accuracy(a) - accuracy(b), paired by picture, in [-1, 1]."""
    low, high = _difference(a_SN, b_SN).interval()
    return max(-1.0, low), min(1.0, high)


def spread_test(a_SN: Correct, b_SN: Correct) -> float:
    """Return the p-value of a t-test of the difference that counts the seeds' spread.

    It is below 0.05 where `difference_interval` excludes 0.
    """
    return _difference(a_SN, b_SN).p()


def _difference(a_SN: Correct, b_SN: Correct) -> _Estimate:
    """Return the difference; one picture more is won and one lost (Bonett and Price, 2012).

    Journal of Educational and Behavioral Statistics 37: without them two networks that agree on all
    of few pictures would be equal for certain.
    """
    d_N = a_SN.mean(axis=0) - b_SN.mean(axis=0)
    return _Estimate.of(np.append(d_N, [1.0, -1.0]), [a_SN, b_SN])


def mcnemar(a_SN: Correct, b_SN: Correct) -> float:
    """Return the p-value of McNemar's test that a and b are equally often right.

    With one seed each it is the exact test (McNemar, Psychometrika 12, 1947): among the pictures
    that only one of the two gets right, either should win half. With several seeds a picture is
    seen several times, which are not independent: it is a cluster, and the test is Durkalski's for
    clustered pairs (Statistics in Medicine 22, 2003), which for clusters of one is McNemar's
    without continuity correction.
    """
    d_N = a_SN.mean(axis=0) - b_SN.mean(axis=0)
    if len(a_SN) == len(b_SN) == 1:
        won, lost = int((d_N > 0).sum()), int((d_N < 0).sum())
        return float(binomtest(won, won + lost).pvalue) if won + lost else 1.0
    squares = float((d_N**2).sum())
    return float(chi2.sf(d_N.sum() ** 2 / squares, df=1)) if squares else 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number (Holm, 1979), in the same order.

    Whoever looks at 28 pairs sees one below 0.05 by chance more often than not; Holm's correction
    holds the chance of any false finding at 5 %, whatever the dependence between the tests.
    """
    corrected = [0.0] * len(p_values)
    largest = 0.0
    for rank, i in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        corrected[i] = largest
    return corrected
