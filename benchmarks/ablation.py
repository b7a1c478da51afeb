"""What each part of `cifar10/speed` brings: the same training with one part left out or replaced.

    NUNBIT_DATA=path/to/data python benchmarks/ablation.py [--seeds 2] [--parts 0,3,8]

A part that is a setting is set, one that is code is replaced for the length of a training. Test
accuracy of one plain forward pass a picture; the seconds are those that `nunbit train` reports.
"""

import argparse
import statistics
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from machine import describe_machine  # beside this file
from torch import Tensor, nn
from trained import train_once  # beside this file

from nunbit.config import DataConfig
from nunbit.data import augment
from nunbit.models import speednet
from nunbit.training import loop
from nunbit.training.muon import TINY, Muon
from nunbit.training.state import TrainState
from nunbit.training.step import Plan

RECIPE = "cifar10/speed"
FROZEN_FROM = 0.6  # of all updates


@dataclass(frozen=True)
class Part:
    """One change of the recipe."""

    words: str
    settings: dict[str, Any] = field(default_factory=dict)
    replaced: Callable[[], AbstractContextManager[object]] = nullcontext


def main() -> None:
    """Train the recipe and each of its changes, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--parts", default=",".join(map(str, range(len(PARTS)))))
    words = parser.parse_args()
    print(describe_machine())
    print("| left out or replaced | seconds | test | seeds |")
    print("| --- | ---: | ---: | --- |")
    for number in map(int, words.parts.split(",")):
        part = PARTS[number]
        runs = [train(part, seed) for seed in range(words.seeds)]
        seconds, accuracies = zip(*runs, strict=True)
        each = ", ".join(f"{accuracy:.2%}" for accuracy in accuracies)
        mean = statistics.mean(accuracies)
        print(
            f"| {part.words} | {statistics.mean(seconds):.0f} | {mean:.2%} | {each} |", flush=True
        )


def train(part: Part, seed: int) -> tuple[float, float]:
    """Return the seconds and the test accuracy of one training."""
    with part.replaced():
        run = train_once(RECIPE, seed, **part.settings)
    return run.seconds, run.test.accuracy


def random_filters(whitening: speednet.Whitening, _x: Tensor) -> None:
    """Fill the first layer with random filters of length 1, each with both signs as it has them."""
    with torch.no_grad():
        half = torch.randn_like(whitening.weight[: len(whitening.weight) // 2])
        half = F.normalize(half.flatten(1)).view_as(half)
        whitening.weight.copy_(torch.cat([half, -half]))


@contextmanager
def mirrored_at_random() -> Iterator[None]:
    """Draw in each epoch anew whether a picture is mirrored."""
    move, drawn = augment._move, augment.uniform

    def moved(images: Tensor, config: DataConfig, seed: int, epoch: int, indices: Tensor) -> Tensor:
        def uniform(seed: int, purpose: str, _epoch: int, indices: Tensor) -> augment.Draws:
            return drawn(seed, purpose, epoch, indices)  # that of "flip" is 0 for all epochs

        with patch.object(augment, "uniform", uniform):
            return move(images, config, seed, epoch, indices)

    with patch.object(augment, "_move", moved):
        yield


@contextmanager
def lengths_not_held() -> Iterator[None]:
    """Let the weights of convolutions grow as they do: undo that an update scales them first."""
    update = Muon._update

    def free(self: Muon, weight: Tensor, group: dict[str, Any]) -> None:
        before = weight.clone()
        update(self, weight, group)
        if group["orthogonal"]:
            scale = len(before) ** 0.5 / (before.norm() + TINY)
            weight.add_(before * (1 - scale))

    with patch.object(Muon, "_update", free):
        yield


@contextmanager
def first_block_frozen() -> Iterator[None]:
    """Train the first block for a part of the updates only."""
    step = loop.train_step

    def freezing(state: TrainState, x: Tensor, y: Tensor, plan: Plan) -> None:
        if state.step == int(FROZEN_FROM * plan.total_steps):
            assert isinstance(state.model, speednet.SpeedNet)
            state.model.blocks[0].requires_grad_(False)
        step(state, x, y, plan)

    with patch.object(loop, "train_step", freezing):
        yield


class ScalingNorm(nn.BatchNorm2d):
    """The norm of speednet, which also scales."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, momentum=speednet.MOMENTUM)


PARTS = (
    Part("nothing"),
    Part("whitening: random filters, not trained either",
         replaced=lambda: patch.object(speednet.Whitening, "fit", random_filters)),
    Part("Dirac's first weights: torch's", replaced=lambda: patch.object(nn.init, "dirac_")),
    Part("GELU: ReLU", replaced=lambda: patch.object(speednet.F, "gelu", F.relu)),
    Part("norms that only shift: they scale as well",
         replaced=lambda: patch.object(speednet, "Norm", ScalingNorm)),
    Part("batch norm's short memory: torch's 0.1",
         replaced=lambda: patch.object(speednet, "MOMENTUM", 0.1)),
    Part("first logits near zero: torch's first weights",
         replaced=lambda: patch.object(speednet.SpeedNet, "_start_small")),
    Part("Muon: SGD, rate 0.1, momentum 0.9",
         {"optim.name": "sgd", "optim.lr": 0.1, "optim.momentum": 0.9, "optim.weight_decay": 5e-4}),
    Part("Muon: AdamW, rate 5e-3", {"optim.name": "adamw", "optim.lr": 5e-3}),
    Part("Muon's held lengths", replaced=lengths_not_held),
    Part("falling rate: constant", {"optim.schedule": "constant"}),
    Part("label smoothing 0.1: none", {"label_smoothing": 0.0}),
    Part("label smoothing 0.1: 0.2", {"label_smoothing": 0.2}),
    Part("mirroring by turns: at random", replaced=mirrored_at_random),
    Part("mirroring", {"flip": False}),
    Part("shifts", {"shift_pixels": 0}),
    Part("added: squares of 8 pixels covered", {"cutout": 8}),
    Part("added: 20 pixels for the first 60 %", {"small_size": 20, "small_fraction": 0.6}),
    Part("added: the first block frozen for the last 40 %", replaced=first_block_frozen),
)  # fmt: skip  # a part is a line or two


if __name__ == "__main__":
    main()
