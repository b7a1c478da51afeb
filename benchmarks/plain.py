"""The texts' own loop for birds, rewritten: what nunbit's accuracy is compared with.

    NUNBIT_DATA=path/to/data python benchmarks/plain.py [--epochs 100] [--seed 0] [--threads 1]

Plain PyTorch throughout: a DataLoader over a list of tensors, NCHW, one `.item()` per step. Only
the reading of the pictures is nunbit's, so that both see the same pixels and statistics.
"""

import argparse
import time

import torch
from torch import nn

from nunbit.data.sources import open_source
from nunbit.data.splits import open_dataset
from nunbit.recipes import get_recipe


def main() -> None:
    """Train the texts' network as the texts do and print both accuracies."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    words = parser.parse_args()
    torch.set_num_threads(words.threads)
    torch.manual_seed(words.seed)

    config = get_recipe("birds/net").data
    dataset = open_dataset(open_source("birds"), config, 2, lambda items, _n, _label: iter(items))
    sets = {}
    for part in ("train", "test"):
        pictures = getattr(dataset, part)
        x = dataset.preprocess.normalize(pictures.images[:]).contiguous()
        sets[part] = list(zip(x, pictures.labels.tolist(), strict=True))

    model = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.Tanh(), nn.MaxPool2d(2),
        nn.Conv2d(16, 8, 3, padding=1), nn.Tanh(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(512, 32), nn.Tanh(), nn.Linear(32, 2),
    )  # fmt: skip  # as the text prints it
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
    loader = torch.utils.data.DataLoader(sets["train"], batch_size=64, shuffle=True)
    start = time.perf_counter()
    for epoch in range(1, words.epochs + 1):
        total = 0.0
        for x, y in loader:
            loss = nn.functional.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()
        if epoch % 10 == 0 or epoch == words.epochs:
            scores = ", ".join(f"{part} {accuracy(model, rows):.4f}" for part, rows in sets.items())
            seconds = time.perf_counter() - start
            print(f"epoch {epoch}: loss {total / len(loader):.4f}, {scores}, {seconds:.0f} s")


def accuracy(model: nn.Module, rows: list[tuple[torch.Tensor, int]]) -> float:
    """Return the share of right answers, as the texts count it."""
    correct = 0
    with torch.no_grad():
        for x, y in torch.utils.data.DataLoader(rows, batch_size=64):
            correct += int((model(x).argmax(1) == y).sum())
    return correct / len(rows)


if __name__ == "__main__":
    main()
