"""Muon: momentum whose matrix is made orthogonal, for convolutions; SGD for all else.

Source: K. Jordan et al., "Muon: An optimizer for hidden layers in neural networks" (2024), as used
for CIFAR-10 in their airbench (arXiv 2404.00498 has the network). An update turns and stretches a
layer's inputs equally in all directions, so that directions with small gradients learn as well.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

# Coefficients of the quintic iteration, from the same source: fast for small singular values, at
# the price that none ends at 1. After three iterations those of 0.1 to 1 are between
# 0.68 and 1.14, smaller ones may be below.
A, B, C = 3.4445, -4.7750, 2.0315
ITERATIONS = 3  # as in airbench; more of them were not tried
TINY = 1e-7  # against a division by zero: what is zero stays zero


class Muon(torch.optim.Optimizer):
    """Groups with `orthogonal` hold weights of convolutions, the others anything.

    The weights of a convolution are held at the length of a matrix with unit rows. What follows
    such a convolution must not care for its scale, as a norm does not.
    """

    def __init__(
        self, params: Iterable[dict[str, Any]], lr: float, momentum: float, weight_decay: float = 0
    ) -> None:
        """Take groups of parameters.

        Args:
            params: groups with `params`, and perhaps `orthogonal`, `momentum`, `weight_decay`.
            lr: for `orthogonal` groups the spectral norm of an update.
            momentum: of groups that do not say, in [0, 1); Nesterov's form.
            weight_decay: added to the gradient, times the weights, of groups that do not say.
        """
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "orthogonal": False,
        }
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]  # a loss is never asked for here
        """Update every parameter that has a gradient."""
        if closure is not None:
            raise ValueError("Muon takes no closure")
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._update(weight, group)

    def _update(self, weight: Tensor, group: dict[str, Any]) -> None:
        """Update one parameter with the settings of its group."""
        gradient, momentum = weight.grad, group["momentum"]
        assert gradient is not None
        if group["weight_decay"]:
            gradient = gradient.add(weight, alpha=group["weight_decay"])
        state = self.state[weight]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(weight)
        buffer = state["momentum_buffer"].mul_(momentum).add_(gradient)
        update = gradient.add(buffer, alpha=momentum)
        if group["orthogonal"]:
            weight.mul_(len(weight) ** 0.5 / (weight.norm() + TINY))
            update = orthogonalized(update.flatten(1)).view_as(weight)
        weight.add_(update, alpha=-group["lr"])


def orthogonalized(matrix: Tensor) -> Tensor:
    """Return the nearest matrix with orthogonal rows or columns, roughly: U V' of U S V'.

    Computed in bf16, which the iteration bears and CPUs and GPUs multiply fastest.

    Args:
        matrix: float (rows, columns).
    """
    x: Tensor = matrix.bfloat16()
    x = x / (x.norm() + TINY)  # the iteration needs singular values of at most 1
    is_tall = x.shape[0] > x.shape[1]
    if is_tall:
        x = x.T
    for _ in range(ITERATIONS):
        gram = x @ x.T
        x = A * x + (B * gram + C * gram @ gram) @ x
    return (x.T if is_tall else x).to(matrix.dtype)
