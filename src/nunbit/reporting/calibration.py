"""Whether confidences are to be believed: of pictures said at 80 %, are 80 % right?"""

from dataclasses import dataclass

from torch import Tensor

from nunbit.metrics import wilson_interval

BINS = 15  # of equal width, as in arXiv 1706.04599, so that errors compare with published ones


@dataclass(frozen=True)
class Bin:
    """The pictures whose predictions have about one confidence."""

    n: int
    confidence: float
    """Mean over the bin's pictures."""
    accuracy: float
    ci95: tuple[float, float]
    """Of the accuracy (Wilson)."""


@dataclass(frozen=True)
class Calibration:
    """Confidence beside accuracy."""

    error: float
    """Expected calibration error: the mean of |accuracy - confidence| over all pictures' bins."""
    confidence: float
    """Mean over all pictures; above the accuracy the network is over-confident."""
    bins: tuple[Bin, ...]
    """Those that hold pictures, in rising confidence."""


def calibrate(confidence_N: Tensor, correct_N: Tensor) -> Calibration:
    """Return the reliability of predictions (Guo et al., arXiv 1706.04599, equation 3).

    Args:
        confidence_N: float64 (N,) in [0, 1], the probability of the predicted class.
        correct_N: bool (N,).
    """
    # A bin holds its upper end, not its lower one: ((m - 1) / M, m / M].
    numbers = (confidence_N * BINS).ceil().long().clamp(1, BINS)
    bins = []
    for number in range(1, BINS + 1):
        inside = numbers == number
        n, correct = int(inside.sum()), int(correct_N[inside].sum())
        if n:
            mean = float(confidence_N[inside].mean())
            bins.append(Bin(n, mean, correct / n, wilson_interval(correct, n)))
    error = sum(b.n * abs(b.accuracy - b.confidence) for b in bins) / len(confidence_N)
    return Calibration(error, float(confidence_N.mean()), tuple(bins))
