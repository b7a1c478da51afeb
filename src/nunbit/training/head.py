"""The last layer by logistic regression: the best linear layer for given features, in seconds.

Shapes: N pictures, F features, K classes.
"""

import warnings
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nunbit.errors import UsageError
from nunbit.models.head import linear_head

# Inverse strength of the L2 penalty, from strong to weak; tried on validation until one is worse.
STRENGTHS = (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 1.0)
WITHOUT_VALIDATION = 0.003
MAX_ITERATIONS = 200


@dataclass(frozen=True)
class Labelled:
    """Features with their labels."""

    features: Tensor
    """float32 (N, F)."""
    labels: Tensor
    """int64 (N,)."""


@dataclass(frozen=True)
class LinearHead:
    """A fitted last layer."""

    weight: Tensor
    """float32 (K, F)."""
    bias: Tensor
    """float32 (K,)."""
    strength: float
    """The inverse penalty that was chosen."""

    def logits(self, features_NF: Tensor) -> Tensor:
        """Return logits (N, K)."""
        return F.linear(features_NF, self.weight, self.bias)

    @torch.no_grad()
    def put_into(self, model: nn.Module) -> None:
        """Make this the last layer of a network that has one of the same shape.

        Raises:
            UsageError: the last layer is no linear layer with a bias, or of another shape.
        """
        last = linear_head(model)
        if last.weight.shape != self.weight.shape:
            raise UsageError(
                "the last layer's weights are {given}, those to put into it {fitted}",
                given=tuple(last.weight.shape),
                fitted=tuple(self.weight.shape),
            )
        last.weight.copy_(self.weight)
        last.bias.copy_(self.bias)


def fit_head(train: Labelled, val: Labelled | None) -> LinearHead:
    """Return the last layer that minimises cross entropy plus a penalty on its weights.

    Features are divided by the square root of their deviation and then all by one number, so that
    one penalty suits all networks: dividing by the deviation itself (standardising) makes the rare
    features loud, and is worse from 5 pictures a class (7 points) to 600 (1 point; docs/log.md).
    The scale is folded into the weights. Each class counts the same, however many pictures it has.

    Args:
        train: every class occurs.
        val: chooses the penalty by its loss; None takes the default.
    """
    from sklearn.linear_model import LogisticRegression

    mean_F = train.features.mean(0)
    scale_F = train.features.std(0).clamp_min(1e-6).sqrt()
    scale_F *= ((train.features - mean_F) / scale_F).square().mean().sqrt().clamp_min(1e-6)
    x_NF, y_N = ((train.features - mean_F) / scale_F).numpy(), train.labels.numpy()
    regression = LogisticRegression(
        max_iter=MAX_ITERATIONS, class_weight="balanced", warm_start=True
    )
    best, least = None, float("inf")
    for strength in STRENGTHS if val else (WITHOUT_VALIDATION,):
        with warnings.catch_warnings():
            # Stopping at the limit is meant: validation judges what was reached.
            warnings.simplefilter("ignore")
            regression.set_params(C=strength).fit(x_NF, y_N)
        coefficients = np.column_stack([regression.coef_, regression.intercept_])
        if len(coefficients) == 1:  # of two classes it keeps the second's logit over the first's
            coefficients = np.concatenate([-coefficients / 2, coefficients / 2])
        scaled = torch.from_numpy(coefficients).float()
        weight_KF = scaled[:, :-1] / scale_F
        head = LinearHead(weight_KF, scaled[:, -1] - weight_KF @ mean_F, strength)
        loss = _loss(head, val) if val else 0.0
        if loss >= least:
            break  # weaker penalties are slower to fit, and would be worse still
        best, least = head, loss
    assert best is not None
    return best


def _loss(head: LinearHead, val: Labelled) -> float:
    return float(F.cross_entropy(head.logits(val.features), val.labels))
