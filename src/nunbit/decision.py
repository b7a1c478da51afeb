"""When a classifier answers, when it is unsure, and when a picture is none of its classes.

Three things are fitted on validation pictures, which the weights have not seen:

* a temperature, which makes probabilities mean what they say (arXiv 1706.04599);
* the least probability with which a label is given, so that at most a stated share of the given
  labels is wrong. Where the validation pictures suffice, this is promised with 95 % confidence
  (selective classification with guaranteed risk, arXiv 1705.08500); where not, only labels are
  given whose own probability of being wrong is at most that share (Chow, 1970), and nothing is
  promised;
* the distance beyond which a picture is foreign (`nunbit.outliers`).

The promise is for pictures of the kind that validation has. Validation also chose the epoch or the
penalty of the last layer, which makes it a little too kind; the test split, which chose nothing,
says how it came out.

Shapes: N pictures, K classes.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nunbit.evaluation import Outputs
from nunbit.language import tr
from nunbit.metrics import ANSWERED, FOREIGN, UNSURE
from nunbit.outliers import Familiar, fit_familiar, read_familiar

CONFIDENCE = 0.95  # of the promise
COVERAGES = tuple(i / 20 for i in range(1, 21))  # shares of the validation pictures, tried in turn
COLDEST, HOTTEST = 0.05, 20.0  # temperatures
FIELDS = ("temperature", "least_probability", "max_error", "is_promised", "val_n", "familiar")


@dataclass(frozen=True)
class Decision:
    """Which pictures a classifier answers."""

    temperature: float
    """By which logits were divided; the weights of a stored model hold it already."""
    least_probability: float
    """Of the most probable class, for its label to be given."""
    max_error: float
    """The share of the given labels that may be wrong."""
    is_promised: bool
    """Whether validation bounds the error by `max_error` with 95 % confidence."""
    val_n: int
    """Validation pictures that this was fitted on."""
    familiar: Familiar

    def verdicts(self, outputs: Outputs) -> Tensor:
        """Return int64 (N,): ANSWERED, UNSURE or FOREIGN, from logits of a cooled network."""
        is_sure = outputs.logits.softmax(1).amax(1) >= self.least_probability
        is_foreign = self.familiar.distances(outputs.stages) > self.familiar.limit
        return torch.where(is_foreign, FOREIGN, torch.where(is_sure, ANSWERED, UNSURE))

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers for JSON and for a model file's card."""
        named = {name: getattr(self, name) for name in FIELDS if name != "familiar"}
        return {**named, "familiar": self.familiar.to_card()}


def fit_decision(
    train_stages: Sequence[Tensor],
    val: Outputs,
    val_labels_N: Tensor,
    max_error: float,
    temperature: float,
) -> Decision:
    """Return the decision of a finished network.

    Args:
        train_stages: what the stages see in the training pictures, (N, C) each.
        val: what the cooled network says of the validation pictures: bf16 rounds its weights
            otherwise than those before, and the promise is for the probabilities that it gives.
        val_labels_N: their classes.
        max_error: share of the given labels that may be wrong, in (0, 1).
        temperature: by which the network was cooled.
    """
    familiar = fit_familiar(train_stages, val.stages)
    near = familiar.distances(val.stages) <= familiar.limit
    probability_N, predicted_N = val.logits.softmax(1).max(1)
    promised = promised_probability(
        probability_N[near], (predicted_N != val_labels_N)[near], max_error
    )
    return Decision(
        temperature=temperature,
        least_probability=1 - max_error if promised is None else promised,
        max_error=max_error,
        is_promised=promised is not None,
        val_n=len(val_labels_N),
        familiar=familiar,
    )


def fit_temperature(logits_NK: Tensor, labels_N: Tensor) -> float:
    """Return the temperature by which logits are divided for the least cross entropy.

    The labels count as (N + 1) / (N + 2) sure, as in Platt's scaling (1999): a few pictures, all
    classified right, are no proof of certainty.
    """
    logits, (n, k) = logits_NK.double(), logits_NK.shape
    doubt = 1 / (n + 2)
    wanted = torch.full_like(logits, doubt / (k - 1)).scatter_(1, labels_N[:, None], 1 - doubt)
    low, high = math.log(1 / HOTTEST), math.log(1 / COLDEST)
    for _ in range(60):  # bisection: the loss is convex in the inverse temperature
        middle = (low + high) / 2
        slope = (((logits * math.exp(middle)).softmax(1) - wanted) * logits).sum()
        low, high = (middle, high) if slope < 0 else (low, middle)
    return math.exp(-low)


def promised_probability(
    probability_N: Tensor, is_wrong_N: Tensor, max_error: float
) -> float | None:
    """Return the lowest probability whose error is bounded by `max_error`; None if none is.

    The surest pictures are tested first, a twentieth of all at a time, and the first test that
    fails ends it: the tests come in an order that the labels do not decide, so that each may use
    the whole 5 % (fixed-sequence testing, as in arXiv 2110.01052). A test asks whether so few
    mistakes would be seen with a probability of 5 % at most if the error were larger (Clopper and
    Pearson, 1934). It begins where no mistake at all would pass.
    """
    from scipy.special import bdtr  # the binomial distribution function

    surest_N = probability_N.sort(descending=True).values
    least = math.log(1 - CONFIDENCE) / math.log(1 - max_error)
    found = None
    for place in (round(share * len(surest_N)) for share in COVERAGES):
        if place < least:
            continue
        border = surest_N[place - 1]
        is_given_N = probability_N >= border  # more than `place`, where bf16 makes them equal
        mistakes = int(is_wrong_N[is_given_N].sum())
        if bdtr(mistakes, int(is_given_N.sum()), max_error) > 1 - CONFIDENCE:
            break
        found = float(border)
    return found


def read_decision(card: object, tensors: Mapping[str, Tensor]) -> Decision:
    """Rebuild what `Decision.to_dict` and `Familiar.tensors` gave; it comes from anybody's file.

    Raises:
        ValueError: other fields, shapes or values than those.
    """
    if not isinstance(card, dict) or set(card) != set(FIELDS):
        raise ValueError(tr("the decision is not understood"))
    if not isinstance(card["familiar"], dict) or type(card["is_promised"]) is not bool:
        raise ValueError(tr("the decision is not understood"))
    numbers = [card[name] for name in ("temperature", "least_probability", "max_error", "val_n")]
    are_numbers = all(type(x) in (int, float) and 0 < x < math.inf for x in numbers)
    if not are_numbers or not card["max_error"] < 1 or type(card["val_n"]) is not int:
        raise ValueError(tr("the numbers of the decision are out of range"))
    return Decision(**{**card, "familiar": read_familiar(card["familiar"], tensors)})
