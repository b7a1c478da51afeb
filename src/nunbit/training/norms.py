"""Batch norms with statistics of the weights as they are, where training only lets them follow.

The running mean and variance of a batch norm are averages over the last updates, each of which had
other weights. Through many norms after each other, or where the weights move fast, what is off in
one adds up in the next, and the network that was right in training is wrong afterwards.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from nunbit.models.freeze import NORMS
from nunbit.models.mode import eval_mode
from nunbit.runtime import Runtime

PRECISE_PICTURES = 5_000  # 640 to 10,000 gave `birds/resdeep` 82.4 to 81.9 % (docs/log.md)


def measure_norms(
    model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], runtime: Runtime
) -> None:
    """Replace running statistics by means over batches, all seen with the same weights.

    PreciseBN of arXiv 2105.07576, and what SWA does after it has averaged weights (arXiv
    1803.05407). Dropout is off. Frozen norms keep theirs, which belong to their weights.

    Args:
        model: in train mode, on the runtime's device; only buffers of its norms change.
        batches: x (B, C, H, W) and labels, which are not looked at.
        runtime: where and how to compute.
    """
    norms = [m for m in model.modules() if isinstance(m, NORMS) and m.training and has_running(m)]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    with eval_mode(model), torch.no_grad():
        try:
            for norm in norms:
                norm.reset_running_stats()
                norm.momentum = None  # torch's word for an average in which all batches count alike
                norm.train()
            for x, _ in batches:  # made of pictures, which is no matter of the network's precision
                with runtime.autocast():
                    model(x)
        finally:
            for norm, momentum in zip(norms, momenta, strict=True):
                norm.momentum = momentum


def has_running(module: nn.Module) -> bool:
    """Return whether a module is a batch norm that is measured by its running statistics."""
    return isinstance(module, NORMS) and module.track_running_stats
