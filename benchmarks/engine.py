"""The texts' plain loop against nunbit's, the same network, pictures, batch size and optimizer.

    NUNBIT_DATA=path/to/data python benchmarks/engine.py [--repeats 3] [--networks birds/net,...]

Plain is what the tutorials write: a DataLoader over a list of tensors, NCHW, fp32, `.item()` in
every step. nunbit is `fit` with its own loader in the precision that `nunbit train` would choose.
Both train the same number of pictures in turns (plain, nunbit, plain, ...), in one process with
all cores; reading the pictures and choosing the precision are not timed. The table gives the
medians of the seconds of an epoch (of all training pictures) and the median of the paired ratios.
"""

import argparse
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from machine import describe_machine  # beside this file
from torch import Tensor, nn

from nunbit.config import RunConfig
from nunbit.data.loader import TrainLoader
from nunbit.data.sources import open_source
from nunbit.data.splits import Dataset, open_dataset
from nunbit.recipes import get_recipe
from nunbit.runtime import Runtime, choose_runtime, limited_threads
from nunbit.start import build_start
from nunbit.training.loop import fit
from nunbit.training.optim import build_optimizer
from nunbit.training.state import TrainState
from nunbit.training.tempo import settle_precision

# Pictures of one measurement: enough for dozens of updates, few enough for minutes.
NETWORKS = {
    "birds/net": 10_000,
    "birds/width": 10_000,
    "birds/resdeep": 1_280,
    "mnist/cnn": 12_000,
    "cifar10/alexnet": 3_200,
    "cifar10/resnet18": 640,
}


def main() -> None:
    """Time all networks both ways and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--networks", default=",".join(NETWORKS))
    words = parser.parse_args()
    print(describe_machine())
    print("| recipe | batch | precision | plain, s an epoch | nunbit, s an epoch | ratio |")
    print("| --- | ---: | --- | ---: | ---: | ---: |")
    ratios = []
    for name in words.networks.split(","):
        row = measure(name, NETWORKS[name], words.repeats)
        ratios.append(row.ratio)
        print(
            f"| {name} | {row.batch_size} | {row.precision} | {row.plain:.1f} | {row.ours:.1f} "
            f"| {row.ratio:.2f} |",
            flush=True,
        )
    print(f"\ngeometric mean {statistics.geometric_mean(ratios):.2f}, least {min(ratios):.2f}")


@dataclass(frozen=True)
class Row:
    """Seconds of an epoch both ways."""

    batch_size: int
    precision: str
    plain: float
    ours: float
    ratio: float


def measure(name: str, pictures: int, repeats: int) -> Row:
    """Train a recipe's network on some of its pictures in turns, after one unmeasured turn."""
    config = get_recipe(name)
    dataset = open_dataset(open_source(config.data.source), config.data, 2, _silent)
    whole = len(dataset.train)
    dataset = replace(dataset, train=dataset.train.select(torch.arange(min(pictures, whole))))
    runtime = choose_runtime(config.train)
    model = build_start(config, dataset, runtime).model
    loader = TrainLoader(dataset.train, dataset.preprocess, config, runtime.device)
    runtime = settle_precision(model, loader, runtime)
    x = dataset.preprocess.normalize(dataset.train.images).contiguous()
    rows = list(zip(x, dataset.train.labels.tolist(), strict=True))
    plain, ours = [], []
    with limited_threads(runtime.threads):
        plain_network = build_plain(name, config, dataset, runtime)
        for repeat in range(repeats + 1):
            plain.append(train_plain(plain_network, rows, config))
            ours.append(train_ours(model, loader, runtime, repeat))
    scale = whole / len(rows)
    pairs = list(zip(plain, ours, strict=True))[1:]
    return Row(
        config.train.batch_size,
        runtime.precision,
        scale * statistics.median(a for a, _ in pairs),
        scale * statistics.median(b for _, b in pairs),
        statistics.median(a / b for a, b in pairs),
    )


def build_plain(name: str, config: RunConfig, dataset: Dataset, runtime: Runtime) -> nn.Module:
    """Return the network as the texts write it: activation before pooling, NCHW."""
    if name in ("birds/net", "birds/width"):
        n = 16 if name == "birds/net" else 32
        return nn.Sequential(
            nn.Conv2d(3, n, 3, padding=1), nn.Tanh(), nn.MaxPool2d(2),
            nn.Conv2d(n, n // 2, 3, padding=1), nn.Tanh(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(32 * n, 32), nn.Tanh(), nn.Linear(32, 2),
        )  # fmt: skip  # as the text prints it
    if name == "mnist/cnn":
        return nn.Sequential(
            nn.Conv2d(1, 16, 5), nn.ReLU(), nn.Conv2d(16, 32, 5), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 5), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(576, 100), nn.ReLU(), nn.Linear(100, 10),
        )  # fmt: skip  # as the text prints it
    model = build_start(config, dataset, runtime).model
    return model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload,no-any-return]  # torch's stubs lack this form


def train_plain(model: nn.Module, rows: list[tuple[Tensor, int]], config: RunConfig) -> float:
    """Train one epoch as the texts do; return its seconds."""
    rate = config.optim.lr
    if config.optim.name == "sgd":
        optimizer: torch.optim.Optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    else:
        optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    loader = torch.utils.data.DataLoader(
        rows,  # type: ignore[arg-type]  # a list is a data set of the map style
        batch_size=config.train.batch_size,
        shuffle=True,
    )
    model.train()
    start, total = time.perf_counter(), 0.0
    for x, y in loader:
        loss = nn.functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item()
    return time.perf_counter() - start


def train_ours(model: nn.Module, loader: TrainLoader, runtime: Runtime, seed: int) -> float:
    """Train one epoch with nunbit's loop; return its seconds."""
    config = loader.config.override({"train.epochs": 1, "train.seed": seed})
    state = TrainState(model, build_optimizer(model, config.optim))
    start = time.perf_counter()
    for _ in fit(state, replace(loader, config=config), None, runtime, lambda items, *_: items):
        pass
    return time.perf_counter() - start


def _silent(items: Iterator[object], _count: int, _label: str) -> Iterator[object]:
    return iter(items)


if __name__ == "__main__":
    main()
