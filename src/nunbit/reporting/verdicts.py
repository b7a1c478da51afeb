"""What a network says of labelled pictures, and which of them are worth looking at."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

ROWS = 4096  # bounds the copies in double precision: (ROWS, K)


@dataclass(frozen=True)
class Verdicts:
    """The predictions of N pictures beside their labels."""

    labels: Tensor
    """int64 (N,)."""
    predicted: Tensor
    """int64 (N,)."""
    confidence: Tensor
    """float64 (N,): the probability of the predicted class."""
    label_confidence: Tensor
    """float64 (N,): the probability of the labelled class."""

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def wrong(self) -> Tensor:
        """Positions of the mistakes."""
        return (self.predicted != self.labels).nonzero().flatten()

    def surest_mistakes(self, most: int) -> list[int]:
        """Return the mistakes with the most confident predictions, surest first."""
        return self._mistakes(most, surest=True)

    def least_sure_mistakes(self, most: int) -> list[int]:
        """Return the mistakes with the least confident predictions (Settles, 2009), first these."""
        return self._mistakes(most, surest=False)

    def behind(self, label: int, predicted: int) -> list[int]:
        """Return the pictures of one cell of the confusion matrix.

        The surest mistakes come first; of what was classified right, the least sure.
        """
        at = ((self.labels == label) & (self.predicted == predicted)).nonzero().flatten()
        order = self.confidence[at].argsort(descending=label != predicted, stable=True)
        found: list[int] = at[order].tolist()
        return found

    def _mistakes(self, most: int, *, surest: bool) -> list[int]:
        order = self.confidence[self.wrong].argsort(descending=surest, stable=True)
        found: list[int] = self.wrong[order[:most]].tolist()
        return found


def judge(logits_NK: Tensor, labels_N: Tensor) -> Verdicts:
    """Return the predictions of all pictures.

    Double precision tells confidences apart that are both 1 in float32.

    Args:
        logits_NK: float (N, K).
        labels_N: int64 (N,).
    """
    best, of_label = [], []
    for logits, labels in zip(logits_NK.split(ROWS), labels_N.split(ROWS), strict=True):
        p = logits.double().softmax(1)
        best.append(p.amax(1))
        of_label.append(p.gather(1, labels[:, None])[:, 0])
    return Verdicts(labels_N, logits_NK.argmax(1), torch.cat(best), torch.cat(of_label))


def dealt(
    groups: Sequence[Sequence[int]], most: int, cost: Callable[[int], int], budget: int
) -> list[int]:
    """Return how many pictures each group may show, dealt out like cards until money is spent.

    Every group gets its first picture before any gets its second.

    Args:
        groups: positions of pictures, best first.
        most: pictures per group.
        cost: of the picture at a position, such as its bytes.
        budget: what all may cost together.
    """
    counts = [0] * len(groups)
    for rank in range(most):
        for i, group in enumerate(groups):
            if rank < len(group):
                budget -= cost(group[rank])
                if budget < 0:
                    return counts
                counts[i] += 1
    return counts
