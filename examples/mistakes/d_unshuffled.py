"""(d) Training pictures in their order.

    python examples/mistakes/d_unshuffled.py [--seeds 3]

Folders of class folders are read class by class: each update then pulls towards one class, and the
last class wins. Where the pictures were mixed once, the same order in each epoch does little harm.
"""

from dataclasses import replace

from plain import Data, Row, accuracy, main, network, train
from torch import nn


def by_class(data: Data) -> Data:
    """Return the data with its training pictures sorted as class folders give them."""
    order = data.y_train.argsort(stable=True)
    return replace(data, x_train=data.x_train[order], y_train=data.y_train[order])


def measure(data: Data, seeds: int, epochs: int) -> list[Row]:
    """Train on sorted and on mixed pictures, in their order and shuffled anew each epoch."""
    rows = []
    for what, pictures, norm in (
        ("sorted by class", by_class(data), False),
        ("sorted by class, network with batch norm", by_class(data), True),
        ("mixed once", data, False),
    ):
        wrong, right = (
            [score(pictures, seed, epochs, norm, shuffle) for seed in range(seeds)]
            for shuffle in (False, True)
        )
        rows.append(Row(f"{what}: test accuracy", wrong, right))
    return rows


def score(data: Data, seed: int, epochs: int, norm: bool, shuffle: bool) -> float:
    """Return the test accuracy of one training."""
    model = network(data, seed, nn.BatchNorm2d if norm else nn.Identity)
    train(model, data, epochs, shuffle=shuffle)
    return accuracy(model, data.x_test, data.y_test)


if __name__ == "__main__":
    main(__doc__, measure)
