"""Where a network looks: Grad-CAM, integrated gradients and occlusion, in plain PyTorch.

Each answers another question. Grad-CAM: which region made the last feature maps speak for the
class? Integrated gradients: which pixels add up to the score? Occlusion: what does the network
miss when it is covered?

Shapes: B batch (here 1), C channels, H and W pixels, K classes, h and w of the feature maps.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nunbit.data.pictures import Track, untracked
from nunbit.language import tr
from nunbit.models.mode import eval_mode

BATCH = 16  # pictures per pass; a CPU gains nothing from more
# Steps are doubled until the sum is right within 1 %, as the paper's section 5 advises.
FIRST_STEPS, MOST_STEPS, TOLERANCE = 32, 512, 0.01
PATCHES = 6  # per side of the picture; the covered squares overlap by half


@dataclass(frozen=True)
class Integrated:
    """Integrated gradients of one picture."""

    values: Tensor
    """float (C, H, W): what each number of the input added to the score of the class."""
    score_change: float
    """Score (logit) of the picture minus that of the baseline; `values` should sum to it."""
    steps: int

    @property
    def share(self) -> float:
        """The sum as a share of the change of the score; 1 where both are 0."""
        total = float(self.values.sum(dtype=torch.float64))
        change = math.copysign(max(abs(self.score_change), 1e-6), self.score_change)
        return 1 + (total - self.score_change) / change

    @property
    def gap(self) -> float:
        """How far the sum is from the change of the score, as a share of it."""
        return abs(self.share - 1)


def grad_cam(model: nn.Module, layer: nn.Module, x: Tensor, target: int) -> Tensor:
    """Return the map (h, w) of the region that speaks for a class, not below 0.

    Feature maps are weighted by the mean gradient of the class's score and added up.
    Source: Selvaraju et al., Grad-CAM, arXiv 1610.02391, equations 1 and 2.

    Args:
        model: from (B, C, H, W) to logits (B, K).
        layer: a module of it whose output is (B, channels, h, w).
        x: (1, C, H, W).
        target: the class, 0 to K - 1.
    """
    kept: list[Tensor] = []

    def cut(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
        kept.append(output.detach().requires_grad_())
        return kept[-1].clone()  # what follows may write into it

    hook = layer.register_forward_hook(cut)
    try:
        with torch.enable_grad(), eval_mode(model):
            score = model(x)[0, target]
            (gradient,) = torch.autograd.grad(score, kept[-1])
    finally:
        hook.remove()
    maps, weights = kept[-1].detach()[0], gradient[0].mean((1, 2), keepdim=True)
    return torch.relu((weights * maps).sum(0))


def integrated_gradients(
    model: nn.Module, x: Tensor, baseline: Tensor, target: int, steps: int
) -> Integrated:
    """Attribute the change of a score between a baseline and a picture to the picture's numbers.

    The gradient is averaged over the straight way from the baseline to the picture (midpoints) and
    multiplied by their difference. Source: Sundararajan, Taly and Yan, arXiv 1703.01365.

    Args:
        model: from (B, C, H, W) to logits (B, K).
        x: (1, C, H, W).
        baseline: of the same shape; a black picture, say.
        target: the class, 0 to K - 1.
        steps: points on the way.
    """
    difference, total = x - baseline, torch.zeros_like(x, dtype=torch.float64)
    shares = (torch.arange(steps, device=x.device, dtype=x.dtype) + 0.5) / steps
    with eval_mode(model):
        for part in shares.split(BATCH):
            points = (baseline + part[:, None, None, None] * difference).requires_grad_()
            with torch.enable_grad():
                score = model(points)[:, target].sum()
                (gradient,) = torch.autograd.grad(score, points)
            total += gradient.sum(0, keepdim=True, dtype=torch.float64)
        with torch.no_grad():
            change = (model(x)[0, target] - model(baseline)[0, target]).item()
    return Integrated((total / steps * difference)[0].float(), change, steps)


def complete_gradients(model: nn.Module, x: Tensor, baseline: Tensor, target: int) -> Integrated:
    """Return integrated gradients with as many steps as a sum within 1 % of the truth needs.

    Where `MOST_STEPS` do not suffice, the last attempt is returned; its `gap` tells.
    """
    steps = FIRST_STEPS
    while True:
        found = integrated_gradients(model, x, baseline, target, steps)
        if found.gap <= TOLERANCE or steps >= MOST_STEPS:
            return found
        steps *= 2


@dataclass(frozen=True)
class Occluded:
    """What covering parts of a picture does to the probability of a class."""

    drop: Tensor
    """float (H, W): by how much the log-odds of the class fall where a pixel is covered."""
    before: float
    """Probability of the class for the whole picture."""
    lowest: float
    """The least probability that covering one square leaves."""


def occlusion(
    model: nn.Module,
    x: Tensor,
    target: int,
    track: Track = untracked,
) -> Occluded:
    """Cover parts of a picture and see what the network misses.

    A square of the picture's mean colour moves over it by half its side; a pixel's value is the
    mean over the squares that cover it. Source: Zeiler and Fergus, arXiv 1311.2901, section 4.2.
    Difference: log-odds, since a probability near 1 hardly moves.

    Args:
        model: from (B, C, H, W) to logits (B, K).
        x: (1, C, H, W).
        target: the class, 0 to K - 1.
        track: shows progress, (items, total, label) -> items.
    """
    height, width = x.shape[2:]
    side = math.ceil(min(height, width) / PATCHES)
    stride = max(1, side // 2)
    squares = [
        (slice(top, top + side), slice(left, left + side))
        for top in _starts(height, side, stride)
        for left in _starts(width, side, stride)
    ]
    fill, drop, covers = x.mean((2, 3))[0, :, None, None], *torch.zeros(2, height, width)
    batches = [squares[i : i + BATCH] for i in range(0, len(squares), BATCH)]
    with torch.no_grad(), eval_mode(model):
        before = lowest = _log_odds(model(x), target)[0]
        for batch in track(batches, len(batches), tr("covering parts")):
            covered = x.repeat(len(batch), 1, 1, 1)
            for picture, (rows, columns) in zip(covered, batch, strict=True):
                picture[:, rows, columns] = fill
            after = _log_odds(model(covered), target)
            lowest = min(lowest, *after)
            for value, (rows, columns) in zip(after, batch, strict=True):
                drop[rows, columns] += before - value
                covers[rows, columns] += 1
    return Occluded(drop / covers, _probability(before), _probability(lowest))


def _log_odds(logits_BK: Tensor, target: int) -> list[float]:
    """Return log(p / (1 - p)) of a class; float64, where p near 1 keeps its digits."""
    logits = logits_BK.double()
    if logits.shape[1] == 1:  # one score and no other class: the score is the log-odds
        return [float(value) for value in logits[:, 0]]
    others = torch.cat([logits[:, :target], logits[:, target + 1 :]], dim=1)
    return [float(value) for value in logits[:, target] - others.logsumexp(1)]


def _probability(log_odds: float) -> float:
    return float(torch.tensor(log_odds).sigmoid())


def _starts(length: int, side: int, stride: int) -> list[int]:
    """Return where squares start so that every pixel is covered."""
    last = max(0, length - side)
    return sorted({*range(0, last + 1, stride), last})
