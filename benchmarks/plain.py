"""The texts' own loop, rewritten: what nunbit's accuracy and speed are compared with.

    NUNBIT_DATA=path/to/data python benchmarks/plain.py [--epochs 100] [--seed 0] [--threads 1]
    NUNBIT_DATA=path/to/data python benchmarks/plain.py mnist/cnn --epochs 10
    NUNBIT_DATA=path/to/data python benchmarks/plain.py cifar10/resnet18 --epochs 10 --keep kept.pt

Plain PyTorch throughout: a DataLoader over a list of tensors, NCHW, one `.item()` per step. Only
the reading of the pictures is nunbit's, so that both see the same pixels and statistics, and the
layers of AlexNet and ResNet18. With --keep, a training that takes hours goes on after the last
whole epoch.
"""

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from nunbit.config import OptimConfig
from nunbit.data.pictures import ImageSet
from nunbit.data.preprocess import Preprocess
from nunbit.data.sources import open_source
from nunbit.data.splits import open_dataset
from nunbit.models.registry import build_model
from nunbit.recipes import get_recipe

Row = tuple[Tensor, int]


def main() -> None:
    """Train a network of the texts as they do and print both accuracies."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe", nargs="?", choices=NETWORKS, default="birds/net")
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--every", type=int, default=10, help="epochs between measurements")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--keep", type=Path, help="a file to go on from, written after each epoch")
    words = parser.parse_args()
    torch.set_num_threads(words.threads)
    torch.manual_seed(words.seed)

    config = get_recipe(words.recipe)
    dataset = open_dataset(open_source(config.data.source), config.data, 2, silent)
    sets = {part: rows_of(getattr(dataset, part), dataset.preprocess) for part in ("train", "test")}
    model = NETWORKS[words.recipe]()
    optimizer = optimizer_of(model, config.optim)
    done, seconds = go_on(words.keep, model, optimizer)
    for epoch in range(done + 1, words.epochs + 1):
        start = time.perf_counter()
        loss = train_epoch(model, optimizer, sets["train"], config.train.batch_size)
        seconds += time.perf_counter() - start
        print(f"epoch {epoch}: loss {loss:.4f}, {seconds:.0f} s", flush=True)
        if epoch % words.every == 0 or epoch == words.epochs:
            scores = [f"{part} {accuracy(model, rows):.4f}" for part, rows in sets.items()]
            print(f"epoch {epoch}: {', '.join(scores)}", flush=True)
        if words.keep:
            states = [model.state_dict(), optimizer.state_dict(), torch.get_rng_state()]
            torch.save([epoch, seconds, *states], words.keep)


def go_on(
    file: Path | None, model: nn.Module, optimizer: torch.optim.Optimizer
) -> tuple[int, float]:
    """Bring back what was kept; return the epochs that are done and the seconds they took."""
    if file is None or not file.exists():
        return 0, 0.0
    epochs, seconds, weights, updates, generator = torch.load(file, weights_only=True)
    model.load_state_dict(weights)
    optimizer.load_state_dict(updates)
    torch.set_rng_state(generator)
    return epochs, seconds


def rows_of(pictures: ImageSet, preprocess: Preprocess) -> list[Row]:
    """Return pictures as the texts hold them: a list of (normalised x (C, H, W), label)."""
    x = preprocess.normalize(pictures.images[:]).contiguous()
    return list(zip(x, pictures.labels.tolist(), strict=True))


def texts_net(n: int) -> nn.Sequential:
    """Return the texts' network for two classes of 32x32 pictures, with `n` channels."""
    return nn.Sequential(
        nn.Conv2d(3, n, 3, padding=1), nn.Tanh(), nn.MaxPool2d(2),
        nn.Conv2d(n, n // 2, 3, padding=1), nn.Tanh(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(32 * n, 32), nn.Tanh(), nn.Linear(32, 2),
    )  # fmt: skip  # as the text prints it


def texts_mnist() -> nn.Sequential:
    """Return the texts' network for ten classes of grey 28x28 pictures."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 5), nn.ReLU(), nn.Conv2d(16, 32, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(576, 100), nn.ReLU(), nn.Linear(100, 10),
    )  # fmt: skip  # as the text prints it


def built(name: str) -> nn.Module:
    """Return a network of nunbit's for ten classes of 32x32 pictures, in NCHW."""
    return build_model(name, num_classes=10, in_channels=3, image_size=(32, 32))


NETWORKS = {
    "birds/net": lambda: texts_net(16),
    "mnist/cnn": texts_mnist,
    "cifar10/alexnet": lambda: built("alexnet-small"),
    "cifar10/resnet18": lambda: built("resnet18"),
}


def optimizer_of(model: nn.Module, config: OptimConfig) -> torch.optim.Optimizer:
    """Return plain SGD or Adam at the recipe's rate."""
    kind = torch.optim.SGD if config.name == "sgd" else torch.optim.Adam
    return kind(model.parameters(), lr=config.lr)


def train_epoch(
    model: nn.Module, optimizer: torch.optim.Optimizer, rows: list[Row], batch_size: int
) -> float:
    """Train one epoch as the texts do; return the mean loss of the batches."""
    loader = DataLoader(rows, batch_size=batch_size, shuffle=True)  # type: ignore[arg-type]  # a list is a data set of the map style
    model.train()
    total = 0.0
    for x, y in loader:
        loss = nn.functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item()
    return total / len(loader)


def accuracy(model: nn.Module, rows: list[Row]) -> float:
    """Return the share of right answers, as the texts count it."""
    correct = 0
    model.eval()
    with torch.no_grad():
        for x, y in DataLoader(rows, batch_size=64):  # type: ignore[arg-type]  # as above
            correct += int((model(x).argmax(1) == y).sum())
    return correct / len(rows)


def silent(items: Iterator[object], _count: int, _label: str) -> Iterator[object]:
    """Show no progress."""
    return iter(items)


if __name__ == "__main__":
    main()
