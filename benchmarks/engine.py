"""The texts' plain loop against nunbit's, the same network, pictures, batch size and optimizer.

    NUNBIT_DATA=path/to/data python benchmarks/engine.py [--repeats 3] [--networks birds/net,...]

Plain is what the tutorials write: a DataLoader over a list of tensors, NCHW, fp32, `.item()` in
every step. nunbit is `fit` with its own loader in the precision that `nunbit train` would choose.
Both train the same number of pictures in turns (plain, nunbit, plain, ...), in one process with
all cores; reading the pictures and choosing the precision are not timed. The table gives the
medians of the seconds of an epoch (of all training pictures) and the median of the paired ratios.
"""

import argparse
import copy
import statistics
import time
from dataclasses import dataclass, replace

import torch
from machine import describe_machine  # beside this file
from plain import Row, optimizer_of, rows_of, silent, texts_mnist, texts_net, train_epoch
from torch import nn

from nunbit.config import RunConfig
from nunbit.data.loader import TrainLoader
from nunbit.data.sources import open_source
from nunbit.data.splits import open_dataset
from nunbit.recipes import get_recipe
from nunbit.runtime import Runtime, choose_runtime, limited_threads
from nunbit.start import build_start
from nunbit.training.loop import fit
from nunbit.training.optim import build_optimizer
from nunbit.training.state import TrainState
from nunbit.training.tempo import settle_precision

# Recipes, with the pictures of one measurement: dozens of updates, and minutes at most.
PICTURES = {
    "birds/net": 10_000,
    "birds/width": 10_000,
    "birds/resdeep": 1_280,
    "mnist/cnn": 12_000,
    "cifar10/alexnet": 3_200,
    "cifar10/resnet18": 640,
}
WHOLE = {"birds": 10_000, "mnist": 60_000, "cifar10": 50_000}  # training pictures of an epoch


def main() -> None:
    """Time all networks both ways and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--networks", default=",".join(PICTURES))
    words = parser.parse_args()
    print(describe_machine())
    print("| recipe | batch | precision | plain, s an epoch | nunbit, s an epoch | ratio |")
    print("| --- | ---: | --- | ---: | ---: | ---: |")
    ratios = []
    for name in words.networks.split(","):
        row = measure(name, PICTURES[name], words.repeats)
        ratios.append(row.ratio)
        print(
            f"| {name} | {row.batch_size} | {row.precision} | {row.plain:.1f} | {row.ours:.1f} "
            f"| {row.ratio:.2f} |",
            flush=True,
        )
    print(f"\ngeometric mean {statistics.geometric_mean(ratios):.2f}, least {min(ratios):.2f}")


@dataclass(frozen=True)
class Times:
    """Seconds of an epoch both ways."""

    batch_size: int
    precision: str
    plain: float
    ours: float
    ratio: float


def measure(name: str, pictures: int, repeats: int) -> Times:
    """Train a recipe's network on some of its pictures in turns, after one unmeasured turn."""
    model, loader, runtime = prepare(name, pictures)
    config, dataset = loader.config, loader.pictures
    rows = rows_of(dataset, loader.preprocess)
    plain, ours = [], []
    with limited_threads(runtime.threads):
        plain_network = build_plain(name, model)
        for repeat in range(repeats + 1):
            plain.append(train_plain(plain_network, rows, config))
            ours.append(train_ours(model, loader, runtime, repeat))
    scale = WHOLE[name.partition("/")[0]] / len(rows)
    pairs = list(zip(plain, ours, strict=True))[1:]
    return Times(
        config.train.batch_size,
        runtime.precision,
        scale * statistics.median(a for a, _ in pairs),
        scale * statistics.median(b for _, b in pairs),
        statistics.median(a / b for a, b in pairs),
    )


def prepare(name: str, pictures: int) -> tuple[nn.Module, TrainLoader, Runtime]:
    """Return a recipe's network, the batches of some of its pictures, and how to compute."""
    config = get_recipe(name)
    dataset = open_dataset(open_source(config.data.source), config.data, 2, silent)
    some = torch.arange(min(pictures, len(dataset.train)))
    dataset = replace(dataset, train=dataset.train.select(some))
    runtime = choose_runtime(config.train)
    model = build_start(config, dataset, runtime).model
    loader = TrainLoader(dataset.train, dataset.preprocess, config, runtime.device)
    return model, loader, settle_precision(model, loader, runtime)


def build_plain(name: str, model: nn.Module) -> nn.Module:
    """Return the network in NCHW; the small ones with the activation before the pooling."""
    if name in ("birds/net", "birds/width"):
        return texts_net(16 if name == "birds/net" else 32)
    if name == "mnist/cnn":
        return texts_mnist()
    return copy.deepcopy(model).to(memory_format=torch.contiguous_format)  # type: ignore[call-overload,no-any-return]  # torch's stubs lack this form


def train_plain(model: nn.Module, rows: list[Row], config: RunConfig) -> float:
    """Train one epoch as the texts do; return its seconds."""
    optimizer = optimizer_of(model, config.optim)
    start = time.perf_counter()
    train_epoch(model, optimizer, rows, config.train.batch_size)
    return time.perf_counter() - start


def train_ours(model: nn.Module, loader: TrainLoader, runtime: Runtime, seed: int) -> float:
    """Train one epoch with nunbit's loop; return its seconds."""
    config = loader.config.override({"train.epochs": 1, "train.seed": seed})
    state = TrainState(model, build_optimizer(model, config.optim))
    start = time.perf_counter()
    for _ in fit(state, replace(loader, config=config), None, runtime, lambda items, *_: items):
        pass
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
