"""What the layers of a network do on some pictures, in numbers: size, zeros, dead units, gradient.

Shapes: B batch, C channels, H and W pixels, N pictures.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import torch
from torch import Tensor, nn

from nunbit.explaining.trace import Step, trace
from nunbit.models.mode import eval_mode

RECTIFIERS = ("ReLU", "ReLU6")  # exactly 0 where they are off
SQUASHERS = ("tanh", "sigmoid")
SATURATED = 0.99  # of tanh: the slope there is 0.02, and next to nothing is learned through it


@dataclass(frozen=True)
class LayerStatistics:
    """The outputs of one step over several pictures."""

    mean: float
    std: float
    zeros: float
    """Share of outputs that are exactly 0."""
    units: int
    """Channels of a map, or values of a vector."""
    dead: int | None
    """Units that no picture switched on (ReLU), or that every picture saturated (tanh, sigmoid):
    no gradient passes. None where the step is no such activation."""
    gradient: float | None
    """Norm of the gradient of the score with respect to the step's weights, divided by the norm of
    the weights; the mean over the pictures. None where there are no weights, or only those of a
    norm."""


class _Total:
    """Sums over pictures for one step."""

    def __init__(self, step: Step) -> None:
        self.step, self.count, self.zeros = step, 0, 0
        self.sum = self.squares = 0.0
        self.gradients: list[float] = []
        self.awake: Tensor | None = None

    def add(self, output: Tensor) -> None:
        values = output.double()
        self.count += values.numel()
        self.sum += float(values.sum())
        self.squares += float(values.square().sum())
        self.zeros += int((values == 0).sum())
        awake = _awake(self.step.operation.label, output)
        if awake is not None:
            self.awake = awake if self.awake is None else self.awake | awake

    def result(self) -> LayerStatistics:
        mean = self.sum / self.count
        return LayerStatistics(
            mean=mean,
            std=max(0.0, self.squares / self.count - mean**2) ** 0.5,
            zeros=self.zeros / self.count,
            # Channels, also of maps of one pixel, or what a linear layer gives.
            units=self.step.shape[0] if len(self.step.shape) == 3 else self.step.shape[-1],
            dead=None if self.awake is None else int((~self.awake).sum()),
            gradient=fmean(self.gradients) if self.gradients else None,
        )


def measure_layers(model: nn.Module, x: Tensor, targets: Sequence[int]) -> list[LayerStatistics]:
    """Return the statistics of every step of a network's trace over N pictures.

    Args:
        model: from (B, C, H, W) to logits (B, K); unchanged afterwards.
        x: (N, C, H, W), N at least 1.
        targets: the class of each picture whose score the gradients are of.
    """
    totals: list[_Total] = []
    for picture, target in zip(x.split(1), targets, strict=True):
        found = trace(model, picture)
        totals = totals or [_Total(step) for step in found.steps]
        for total, output in zip(totals, found.outputs, strict=True):
            total.add(output)
        norms = weight_gradients(model, picture, target)
        for total in totals:
            total.gradients += [norms[name] for name in total.step.weights if name in norms]
    return [total.result() for total in totals]


def weight_gradients(model: nn.Module, x: Tensor, target: int) -> dict[str, float]:
    """Return for each weight (not bias, not norm) the gradient's norm over the weight's norm.

    Args:
        model: from (1, C, H, W) to logits (1, K).
        x: (1, C, H, W).
        target: the class whose score is differentiated.
    """
    weights = {n: p for n, p in model.named_parameters() if p.ndim > 1 and p.requires_grad}
    if not weights:
        return {}
    with torch.enable_grad(), eval_mode(model):
        score = model(x)[0, target]
        found = torch.autograd.grad(score, list(weights.values()), allow_unused=True)
    return {
        name: float(gradient.norm() / weight.detach().norm().clamp(min=1e-12))
        for (name, weight), gradient in zip(weights.items(), found, strict=True)
        if gradient is not None
    }


def _awake(label: str, output: Tensor) -> Tensor | None:
    """Return for each unit whether a gradient passes it somewhere, bool (units,)."""
    if label not in RECTIFIERS + SQUASHERS:
        return None
    if label == "sigmoid":
        output = 2 * output - 1
    per_value = output.abs() < SATURATED if label in SQUASHERS else output > 0
    if per_value.ndim == 4:
        return per_value.any(dim=3).any(dim=2).any(dim=0)
    units = per_value.shape[-1] if per_value.ndim else 1
    return per_value.reshape(-1, units).any(dim=0)
