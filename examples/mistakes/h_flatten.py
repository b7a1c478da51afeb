"""(h) A missing Flatten.

    python examples/mistakes/h_flatten.py

A linear layer works on the last axis. Mostly the sizes do not fit, which is an error at the first
batch. Where a row of the feature map is as long as the layer's input, it runs, and answers for
each row of each channel: the loss refuses that, a prediction does not.
"""

import torch
from plain import BATCH, Data, Row, error_of, main, plain_loss
from torch import nn

CHANNELS = 8


def wrong(data: Data, inputs: int) -> nn.Sequential:
    """Return a network without a Flatten, whose linear layer expects `inputs` numbers."""
    torch.manual_seed(0)
    conv = nn.Conv2d(data.x_train.shape[1], CHANNELS, 3, padding=1)
    return nn.Sequential(conv, nn.MaxPool2d(2), nn.Linear(inputs, classes(data)))


def right(data: Data, inputs: int) -> nn.Sequential:
    """Return the network with a Flatten."""
    torch.manual_seed(0)
    conv = nn.Conv2d(data.x_train.shape[1], CHANNELS, 3, padding=1)
    return nn.Sequential(conv, nn.MaxPool2d(2), nn.Flatten(), nn.Linear(inputs, classes(data)))


def classes(data: Data) -> int:
    """Return the number of classes."""
    return int(data.y_train.max()) + 1


def measure(data: Data, _seeds: int, _epochs: int) -> list[Row]:
    """Show one batch to networks with and without Flatten; nothing here is random."""
    x, y = data.x_train[:BATCH], data.y_train[:BATCH]
    height, width = (side // 2 for side in x.shape[2:])
    all_inputs = CHANNELS * height * width
    unfit, fit, good = wrong(data, all_inputs), wrong(data, width), right(data, all_inputs)
    return [
        Row(
            f"a layer for {all_inputs} numbers",
            *(error_of(m, x) for m in (unfit, good)),
        ),
        Row(f"a layer for {width} numbers: shape", *(shape(m(x)) for m in (fit, good))),
        Row("its loss", *(error_of(plain_loss, m, x, y) for m in (fit, good))),
        Row("`argmax()` for one picture", *(int(m(x[:1]).argmax()) for m in (fit, good))),
    ]


def shape(x: torch.Tensor) -> str:
    """Return a shape as text."""
    return " x ".join(map(str, x.shape))


if __name__ == "__main__":
    main(__doc__, measure)
