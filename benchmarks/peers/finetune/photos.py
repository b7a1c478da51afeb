"""What every recipe is given, and how it answers: the photographs, the split and the network.

A recipe is a script of its own process:

    python fastai_recipe.py SPLIT.csv WEIGHTS.pth --size 128 --epochs 2 --seed 0

SPLIT.csv (path,label,split) and WEIGHTS.pth (a plain state dict of timm's tf_efficientnet_lite0,
its ImageNet weights) were written by `__main__.py` with nunbit, so that all start from the same
tensors and are measured on the same test pictures. A recipe's last line is one JSON object.

`seconds` counts from the end of the imports to the trained network: reading, training, and the
validation that a recipe does by itself. Measuring the test pictures comes after it. The driver also
times the whole process.
"""

import argparse
import csv
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import timm
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

MODEL = "tf_efficientnet_lite0"
MEAN = STD = (0.5, 0.5, 0.5)  # of these weights, timm's `default_cfg`
TEST_BATCH = 64
WORKERS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 2


@dataclass
class Order:
    """What one process is asked for; it counts its time from here."""

    rows: dict[str, list[tuple[str, int]]]
    """Path and label of the pictures of each split: train, val, test."""
    class_names: list[str]
    weights: Path
    size: int
    """Side in pixels of the network's input."""
    epochs: int
    variant: str
    start: float = field(default_factory=time.perf_counter)
    history: list[tuple[float, float]] = field(default_factory=list)
    """Seconds and validation accuracy after each epoch."""

    def elapsed(self) -> float:
        """Return the seconds since the imports."""
        return time.perf_counter() - self.start

    def note(self, accuracy: float) -> None:
        """Keep an epoch's validation accuracy."""
        self.history.append((round(self.elapsed(), 1), round(accuracy, 4)))


class Photos(Dataset):
    """Pictures of one split, decoded when they are asked for, as the recipes do it."""

    def __init__(self, rows: list[tuple[str, int]], transform: Callable[[Image.Image], Any]):
        self.rows, self.transform = rows, transform

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        path, label = self.rows[index]
        with Image.open(path) as image:
            return self.transform(image.convert("RGB")), label


def read_order(epochs: int, variants: tuple[str, ...] = ("plain",)) -> Order:
    """Read the command line and the files that it names, and seed torch.

    Args:
        epochs: of the recipe, as its documentation has it.
        variants: the recipe's forms; the first is the default.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("split", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=epochs)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--variant", choices=variants, default=variants[0])
    words = parser.parse_args()
    torch.manual_seed(words.seed)
    with words.split.open(encoding="utf-8", newline="") as lines:
        table = list(csv.DictReader(lines))
    names = sorted({row["label"] for row in table})
    rows: dict[str, list[tuple[str, int]]] = {"train": [], "val": [], "test": []}
    for row in table:
        rows[row["split"]].append((row["path"], names.index(row["label"])))
    return Order(rows, names, words.weights, words.size, words.epochs, words.variant)


def network(order: Order) -> nn.Module:
    """Return timm's network with the ImageNet weights and a new last layer.

    https://huggingface.co/docs/timm/quickstart, "Fine-Tune a Pretrained Model"; the file instead of
    the hub by `pretrained_cfg_overlay`.
    """
    return timm.create_model(
        MODEL,
        pretrained=True,
        pretrained_cfg_overlay={"file": str(order.weights)},
        num_classes=len(order.class_names),
    )


@torch.inference_mode()
def accuracy(model: nn.Module, loader: DataLoader) -> float:
    """Return the share of right answers, in eval mode."""
    model.eval()
    correct = count = 0
    for x, labels in loader:
        logits: Tensor = model(x)
        correct += int((logits.argmax(1) == labels).sum())
        count += len(labels)
    return correct / count


def held_out(order: Order, part: str, transform: Callable[[Image.Image], Any]) -> DataLoader:
    """Return batches of val or test in a fixed order."""
    return DataLoader(Photos(order.rows[part], transform), TEST_BATCH, num_workers=WORKERS)


def answer(recipe: str, version: str, order: Order, *, seconds: float, test: float) -> None:
    """Print the result as one JSON object."""
    result = {
        "recipe": recipe,
        "variant": order.variant,
        "version": version,
        "size": order.size,
        "epochs": order.epochs,
        "seconds": seconds,
        "test_accuracy": test,
        "n": len(order.rows["test"]),
        "history": order.history,
    }
    print(json.dumps(result), flush=True)
