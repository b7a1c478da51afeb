"""Initial weights by name, for a network or the part of one that is given.

Biases become 0 and norms stay as they are, as in both papers.
"""

import torch
from torch import Tensor, nn

from nunbit.errors import UsageError, did_you_mean

METHODS = ("xavier", "kaiming", "normal", "constant")
WEIGHTED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


@torch.no_grad()
def initialize(
    module: nn.Module,
    method: str,
    *,
    std: float = 0.01,
    value: float = 0.0,
    generator: torch.Generator | None = None,
) -> list[str]:
    """Give all convolutions and linear layers of a module new weights; nothing else changes.

    `initialize(network.get_submodule("fc2"), "kaiming")` changes the new head alone.

    Args:
        module: a network, or a part of one.
        method: xavier (uniform, variance 2 / (inputs + outputs): Glorot and Bengio, 2010, eq. 16;
            for tanh), kaiming (normal, variance 2 / inputs: arXiv 1502.01852, eq. 10; for ReLU),
            normal (with `std`) or constant (`value`; units that start equal stay equal, so this
            is for showing that, or for a last layer of zeros).
        std: of `normal`.
        value: of `constant`.
        generator: of the random numbers; torch's own where it is not given.

    Returns:
        The dotted names of the weights that changed, inside the module.

    Raises:
        UsageError: an unknown method, or a module without convolutions and linear layers.
    """
    if method not in METHODS:
        raise UsageError(
            "no initialisation '{method}'; {hint}",
            method=method,
            hint=did_you_mean(method, METHODS),
        )
    if std < 0:
        raise UsageError("std is {std}; allowed: 0 or more", std=std)
    changed = []
    for name, part in module.named_modules():
        if isinstance(part, WEIGHTED):
            _fill(part.weight, method, std if method == "normal" else value, generator)
            if part.bias is not None:
                part.bias.zero_()
            changed.append(f"{name}.weight" if name else "weight")
    if not changed:
        kind = type(module).__name__
        raise UsageError(
            "{kind} has no convolution and no linear layer whose weights could be set", kind=kind
        )
    return changed


def _fill(weight: Tensor, method: str, number: float, generator: torch.Generator | None) -> None:
    if method == "xavier":
        nn.init.xavier_uniform_(weight, generator=generator)
    elif method == "kaiming":
        nn.init.kaiming_normal_(weight, nonlinearity="relu", generator=generator)
    elif method == "normal":
        nn.init.normal_(weight, std=number, generator=generator)
    else:
        nn.init.constant_(weight, number)
