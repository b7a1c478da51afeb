"""Which differences between networks are real: paired tests on the same pictures, and intervals.

Two things make an accuracy vary: the pictures that happen to be in the test set, and the seed of
the training. Both enter the intervals here; the test is paired, since all networks are measured on
the same pictures.

Shapes: S seeds, N pictures.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import binomtest, chi2

Correct = np.ndarray[Any, np.dtype[np.bool_]]
Z_95 = 1.959964  # 97.5 % quantile of the normal distribution


def mean_interval(correct_SN: Correct) -> tuple[float, float]:
    """Return the 95 % interval of a recipe's accuracy over seeds and pictures, fractions.

    The variance is the sum of what another draw of N pictures and of S seeds would cause. The
    interval is clipped to [0, 1]; with one seed the seeds' share is unknown and taken as 0.
    """
    seeds, pictures = correct_SN.shape
    share_N = correct_SN.mean(axis=0)
    variance = share_N.var() / pictures + _seed_variance(correct_SN) / seeds
    mean, half = float(share_N.mean()), Z_95 * math.sqrt(variance)
    return max(0.0, mean - half), min(1.0, mean + half)


def difference_interval(a_SN: Correct, b_SN: Correct) -> tuple[float, float]:
    """Return the 95 % interval of accuracy(a) - accuracy(b), paired by picture, fractions."""
    d_N = a_SN.mean(axis=0) - b_SN.mean(axis=0)
    variance = d_N.var() / len(d_N) + sum(_seed_variance(x) / len(x) for x in (a_SN, b_SN))
    mean, half = float(d_N.mean()), Z_95 * math.sqrt(variance)
    return mean - half, mean + half


def _seed_variance(correct_SN: Correct) -> float:
    """Return the variance of accuracy between seeds; 0 for one seed."""
    return float(correct_SN.mean(axis=1).var(ddof=1)) if len(correct_SN) > 1 else 0.0


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
