"""What every peer is asked to do, and how it answers: read by all of them, needs only numpy.

A peer is a script of its own process:

    python lightning_peer.py TASK.npz --epochs 5 --seed 0 --variant bf16

TASK.npz holds pictures, labels and the settings of one of nunbit's recipes, written by
`__main__.py`. The peer prints one JSON object on its last line.

What is timed: the peer's call that trains (`trainer.fit`, `learn.fit`, `model.fit`, `net.fit`, the
loop of timm), from its start to its return, the first batch and any compilation included.
What is not: imports, reading the file, scaling the pictures, building network and optimizer where
the peer does that before, and measuring the accuracy.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

Pixels = np.ndarray[Any, np.dtype[np.uint8]]
Labels = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True)
class Task:
    """One recipe of nunbit with its pictures in memory."""

    train_images: Pixels
    """(N, H, W, C)."""
    train_labels: Labels
    test_images: Pixels
    test_labels: Labels
    workload: str
    model: str
    """Name for `nunbit.models.registry.build_model`."""
    model_args: dict[str, Any]
    parameters: int
    """Of the network; every peer asserts that its own has as many."""
    num_classes: int
    batch_size: int
    optimizer: str
    """sgd (without momentum) or adam; neither decays weights."""
    lr: float
    """The same in every update."""
    mean: list[float]
    """Per channel, of pixels scaled to [0, 1]."""
    std: list[float]

    def scaled(self, images: Pixels) -> np.ndarray[Any, np.dtype[np.float32]]:
        """Return pictures (N, H, W, C) as the network wants them."""
        mean, std = np.float32(self.mean), np.float32(self.std)
        return (images.astype(np.float32) / 255 - mean) / std


@dataclass(frozen=True)
class Order:
    """What one process is asked for."""

    task: Task
    epochs: int
    seed: int
    variant: str


def read_order(variants: tuple[str, ...]) -> Order:
    """Read the command line and the file that it names.

    Args:
        variants: ways of training that the peer offers; the first is its plain one.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("task", type=Path)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--variant", choices=variants, default=variants[0])
    words = parser.parse_args()
    with np.load(words.task) as file:
        arrays = {name: file[name] for name in file.files if name != "settings"}
        task = Task(**arrays, **json.loads(str(file["settings"])))
    return Order(task, words.epochs, words.seed, words.variant)


class EpochClock:
    """Notes when epochs end, so that the first one (with compilation) can be told from the rest."""

    def __init__(self) -> None:
        self.marks = [time.perf_counter()]

    def start(self) -> None:
        """Begin to count: called right before training."""
        self.marks = [time.perf_counter()]

    def epoch_ended(self) -> None:
        """Note the end of an epoch."""
        self.marks.append(time.perf_counter())

    @property
    def epochs(self) -> list[float]:
        """Seconds of each epoch; what comes before the first batch counts for the first."""
        return [b - a for a, b in zip(self.marks, self.marks[1:], strict=False)]


def timed(train: Callable[[], object], clock: EpochClock) -> float:
    """Run a training and return its seconds."""
    clock.start()
    train()
    return time.perf_counter() - clock.marks[0]


def answer(
    peer: str, versions: str, order: Order, *, seconds: float, clock: EpochClock, accuracy: float
) -> None:
    """Print the result as one JSON object."""
    later = clock.epochs[1:] or clock.epochs
    result = {
        "peer": peer,
        "version": versions,
        "variant": order.variant,
        "workload": order.task.workload,
        "epochs": order.epochs,
        "seed": order.seed,
        "seconds": seconds,
        "seconds_per_epoch": seconds / order.epochs,
        "later_epoch": statistics.median(later),
        "test_accuracy": accuracy,
    }
    print(json.dumps(result), flush=True)
