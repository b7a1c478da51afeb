"""(a) The factor of L2 is added.

    python examples/mistakes/a_penalty.py [--seeds 3]

An added factor has no gradient. The penalty works with a factor of 1, whatever is asked for, and
pulls every weight to zero.
"""

import torch
from plain import Data, Loss, Row, accuracy, main, network, plain_loss, train
from torch import Tensor, nn

L2, OTHER_L2 = 1e-3, 1e-2


def squares(model: nn.Module) -> Tensor:
    """Return the sum of the squared weights; biases are not penalised."""
    return torch.stack([p.square().sum() for p in model.parameters() if p.ndim > 1]).sum()


def wrong(factor: float) -> Loss:
    """Return a loss whose factor has no effect."""
    return lambda model, x, y: plain_loss(model, x, y) + factor + squares(model)


def right(factor: float) -> Loss:
    """Return a loss with a penalty of factor * sum of squares."""
    return lambda model, x, y: plain_loss(model, x, y) + factor * squares(model)


def measure(data: Data, seeds: int, epochs: int) -> list[Row]:
    """Train with both losses and with two factors."""
    scores, sizes, changes = [], [], []
    for make in (wrong, right):
        models = [trained(data, seed, epochs, make(L2)) for seed in range(seeds)]
        other = trained(data, 0, epochs, make(OTHER_L2))
        scores.append([accuracy(model, data.x_test, data.y_test) for model in models])
        sizes.append(sum(float(squares(model).detach()) for model in models) / seeds)
        changes.append(distance(models[0], other))
    return [
        Row(f"test accuracy, factor {L2:g}", *scores),
        Row("sum of the squared weights after training", *(f"{size:.3g}" for size in sizes)),
        Row(f"largest change of a weight with factor {OTHER_L2:g}", *(f"{c:.2g}" for c in changes)),
    ]


def trained(data: Data, seed: int, epochs: int, loss_of: Loss) -> nn.Module:
    """Return a network trained with a loss."""
    model = network(data, seed)
    train(model, data, epochs, loss_of=loss_of)
    return model


def distance(one: nn.Module, other: nn.Module) -> float:
    """Return the largest difference between two networks' weights."""
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return max(float((a - b).detach().abs().max()) for a, b in pairs)


if __name__ == "__main__":
    main(__doc__, measure)
