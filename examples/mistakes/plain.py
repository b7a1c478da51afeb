"""The plain PyTorch that the experiments share: pictures, a network, a loop and a table.

Only the reading of the pictures is nunbit's. Each experiment changes one thing of what is here.

Shapes: N pictures, B batch, C channels, H and W pixels, K classes.
"""

import argparse
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from nunbit.config import DataConfig
from nunbit.data.sources import open_source
from nunbit.data.splits import open_dataset

BATCH = 64  # pictures
LR, MOMENTUM = 0.05, 0.9  # of SGD; about 98 % on the digits after eight epochs
Cell = str | int | Sequence[float]
Loss = Callable[[nn.Module, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Data:
    """Pictures in memory, normalised by the training pictures."""

    x_train: Tensor
    """float32 (N, C, H, W)."""
    y_train: Tensor
    """int64 (N,)."""
    x_test: Tensor
    y_test: Tensor
    mean: Tensor
    """Of training pixels from 0 to 1, (C, 1, 1)."""
    std: Tensor


@dataclass(frozen=True)
class Row:
    """One line of a table: what was measured, with the mistake and without it.

    A sequence holds accuracies in [0, 1], one per seed; a number is a count; text stays as it is.
    """

    what: str
    wrong: Cell
    right: Cell


Measure = Callable[[Data, int, int], list[Row]]


def read(source: str = "digits") -> Data:
    """Read a data source of nunbit: no validation split, 20 % of the digits for the test."""
    config = DataConfig(source=source, val_fraction=0.0)
    found = open_dataset(open_source(source), config, 1, lambda items, _n, _label: iter(items))
    x_train, x_test = (
        found.preprocess.normalize(part.images[:]).clone(memory_format=torch.contiguous_format)
        for part in (found.train, found.test)
    )
    levels = (found.preprocess.mean, found.preprocess.std)
    mean, std = (torch.tensor(level)[:, None, None] for level in levels)
    return Data(x_train, found.train.labels, x_test, found.test.labels, mean, std)


def network(
    data: Data, seed: int, layer: Callable[[int], nn.Module] = nn.Identity
) -> nn.Sequential:
    """Return two convolutions and a linear layer.

    Args:
        data: its shape decides the network's.
        seed: of the initial weights.
        layer: makes what follows each convolution, from its number of channels.
    """
    torch.manual_seed(seed)
    channels, height, width = data.x_train.shape[1:]
    return nn.Sequential(
        nn.Conv2d(channels, 16, 3, padding=1), layer(16), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), layer(32), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(32 * (height // 4) * (width // 4), int(data.y_train.max()) + 1),
    )  # fmt: skip  # a line for each convolution


def plain_loss(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Return the cross entropy of one batch."""
    return cross_entropy(model(x), y)


def train(
    model: nn.Module,
    data: Data,
    epochs: int,
    *,
    loss_of: Loss = plain_loss,
    optimizer: torch.optim.Optimizer | None = None,
    shuffle: bool = True,
) -> list[list[float]]:
    """Train with SGD; return the losses of each epoch's batches.

    The order of the pictures is the same for all models.
    """
    optimizer = optimizer or sgd(model)
    generator = torch.Generator().manual_seed(0)
    count = len(data.y_train)
    losses: list[list[float]] = []
    model.train()
    for _ in range(epochs):
        losses.append([])
        order = torch.randperm(count, generator=generator) if shuffle else torch.arange(count)
        for indices in order.split(BATCH):
            loss = loss_of(model, data.x_train[indices], data.y_train[indices])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses[-1].append(loss.item())
    return losses


def sgd(model: nn.Module, lr: float = LR) -> torch.optim.SGD:
    """Return the optimizer of the experiments."""
    return torch.optim.SGD(model.parameters(), lr=lr, momentum=MOMENTUM)


@torch.no_grad()
def accuracy(model: nn.Module, x: Tensor, y: Tensor) -> float:
    """Return the share of right answers in eval mode."""
    model.eval()
    return float((model(x).argmax(1) == y).double().mean())


def error_of(action: Callable[..., object], *args: object, **options: object) -> str:
    """Call something and return the first sentence of the error that it ends with."""
    try:
        action(*args, **options)
    except Exception as error:  # noqa: BLE001  # the text of any error is what is shown
        first = str(error).strip().splitlines()[0].partition(". ")[0]
        return f"{type(error).__name__}: {first[:120]}"
    return "no error"


def table(rows: Sequence[Row]) -> str:
    """Return rows as a table in Markdown."""
    lines = ["| measured | wrong | right |", "| --- | --- | --- |"]
    return "\n".join(lines + [f"| {r.what} | {cell(r.wrong)} | {cell(r.right)} |" for r in rows])


def cell(value: Cell) -> str:
    """Return mean and standard deviation over the seeds in percent, or the value as it is."""
    if isinstance(value, str):
        return value.replace("|", "/")
    if isinstance(value, int):
        return f"{value:,}"
    spread = f" ± {100 * statistics.stdev(value):.1f}" if len(value) > 1 else ""
    return f"{100 * statistics.fmean(value):.1f}{spread} %"


def parse(doc: str | None) -> argparse.ArgumentParser:
    """Return the options that every experiment has."""
    parser = argparse.ArgumentParser(description=(doc or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each kind")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--data", default="digits", help="any source of nunbit")
    return parser


def main(doc: str | None, measure: Measure) -> None:
    """Run one experiment and print its table; on one thread, where tiny networks are fastest."""
    words = parse(doc).parse_args()
    torch.set_num_threads(1)
    print(table(measure(read(words.data), words.seeds, words.epochs)))
