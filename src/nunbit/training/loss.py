"""What is minimised: cross entropy, and penalties on the weights."""

import torch
from torch import Tensor, nn

from nunbit.config import OptimConfig


def balanced_weights(labels_N: Tensor) -> Tensor:
    """Return N / (K * n_k) for each class, float32 (K,): each counts the same, a mean picture 1.

    G. King and L. Zeng, Logistic Regression in Rare Events Data (2001), section 4; scikit-learn's
    "balanced".

    Args:
        labels_N: int64 (N,); every class from 0 to K - 1 is among them.
    """
    counts = torch.bincount(labels_N)
    return len(labels_N) / (len(counts) * counts.float())


def weights_of(model: nn.Module) -> list[nn.Parameter]:
    """Return what trains of a network, without biases and norms (one axis)."""
    return [p for p in model.parameters() if p.requires_grad and p.ndim > 1]


def penalty(model: nn.Module, config: OptimConfig) -> Tensor:
    """Return l1 * sum |w| + l2 * sum w^2 over the weights; biases and norms (one axis) are free.

    For SGD an l2 of lambda is exactly a weight decay of 2 * lambda: the gradient of lambda * w^2 is
    2 * lambda * w. Both are terms with their factor; a factor that is only added has no gradient.
    """
    weights = weights_of(model)
    total = torch.zeros((), device=next(model.parameters()).device)
    if not weights:  # all are frozen
        return total
    if config.l1:
        total = total + config.l1 * torch.stack([w.abs().sum() for w in weights]).sum()
    if config.l2:
        total = total + config.l2 * torch.stack([w.square().sum() for w in weights]).sum()
    return total
