"""(f) The last batch.

    python examples/mistakes/f_last_batch.py [--seeds 3]

`view(batch_size, -1)` cuts a smaller last batch into rows of another length: an error at the next
linear layer, and silence where none follows. With `drop_last` there is no error, and test pictures
that are never looked at.
"""

from collections.abc import Callable

import torch
from plain import Data, Row, error_of, main, network, train
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

BATCH = 128  # pictures


def wrong_rows(features: Tensor) -> Tensor:
    """Return one row a picture, if the batch is full."""
    return features.view(BATCH, -1)


def right_rows(features: Tensor) -> Tensor:
    """Return one row a picture (B, F)."""
    return features.flatten(1)


def measure(data: Data, seeds: int, epochs: int) -> list[Row]:
    """Show the last batch to the two ways of making rows, and count what drop_last leaves."""
    order = data.y_test.argsort(stable=True)  # as class folders give them
    x, y = data.x_test[order], data.y_test[order]
    models = [network(data, seed) for seed in range(seeds)]
    for model in models:
        train(model, data, epochs)
    found = [[answers(model, x, y, drop_last) for model in models] for drop_last in (True, False)]
    last = int(y.max())
    makers = (wrong_rows, right_rows)
    return [
        Row("drop_last: test pictures measured", *(len(f[0][1]) for f in found)),
        Row(
            f"drop_last, sorted by class: pictures of class {last}",
            *(int((f[0][1] == last).sum()) for f in found),
        ),
        Row("drop_last, sorted by class: test accuracy", *([share(*a) for a in f] for f in found)),
        Row(
            f"view and a linear layer, batches of {BATCH}",
            *(error_of(logits, models[0], x, m) for m in makers),
        ),
        Row("view alone, 192 pictures: rows", *(rows_made(x[:192], m) for m in makers)),
    ]


def logits(model: nn.Sequential, x: Tensor, make_rows: Callable[[Tensor], Tensor]) -> list[Tensor]:
    """Return what the network says of pictures, batch after batch, with these rows in it."""
    return [model[-1](make_rows(model[:-2](part))) for part in x.split(BATCH)]


def rows_made(x: Tensor, make_rows: Callable[[Tensor], Tensor]) -> int:
    """Return the number of rows that are made of pictures."""
    return sum(len(make_rows(part)) for part in x.split(BATCH))


@torch.no_grad()
def answers(model: nn.Module, x: Tensor, y: Tensor, drop_last: bool) -> tuple[Tensor, Tensor]:
    """Return predicted classes and labels of the pictures that a loader gives."""
    model.eval()
    loader = DataLoader(TensorDataset(x, y), batch_size=BATCH, drop_last=drop_last)
    pairs = [(model(x).argmax(1), y) for x, y in loader]
    predicted, labels = (torch.cat(part) for part in zip(*pairs, strict=True))
    return predicted, labels


def share(predicted: Tensor, labels: Tensor) -> float:
    """Return the accuracy."""
    return float((predicted == labels).double().mean())


if __name__ == "__main__":
    main(__doc__, measure)
