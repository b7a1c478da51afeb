"""(c) The optimizer holds other parameters.

    python examples/mistakes/c_optimizer.py [--seeds 3]

An optimizer holds tensors and not a model's name. Nothing fails: the loss is computed, gradients
arrive, and other tensors are stepped. Two ways to get there: a second model, and a last layer that
was replaced after the optimizer had been built.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from plain import Data, Row, accuracy, main, network, sgd, train
from torch import nn

Build = Callable[[Data, int], tuple[nn.Sequential, torch.optim.Optimizer]]


def wrong_model(data: Data, seed: int) -> tuple[nn.Sequential, torch.optim.Optimizer]:
    """Build the optimizer on a model, then train another."""
    model = network(data, seed + 1000)
    optimizer = sgd(model)
    model = network(data, seed)
    return model, optimizer


def right_model(data: Data, seed: int) -> tuple[nn.Sequential, torch.optim.Optimizer]:
    """Build the optimizer on the model that is trained."""
    model = network(data, seed)
    optimizer = sgd(model)
    return model, optimizer


def wrong_layer(data: Data, seed: int) -> tuple[nn.Sequential, torch.optim.Optimizer]:
    """Replace the last layer when the optimizer has been built."""
    model = network(data, seed)
    optimizer = sgd(model)
    model[-1] = new_layer(data)
    return model, optimizer


def right_layer(data: Data, seed: int) -> tuple[nn.Sequential, torch.optim.Optimizer]:
    """Replace the last layer, then build the optimizer."""
    model = network(data, seed)
    model[-1] = new_layer(data)
    optimizer = sgd(model)
    return model, optimizer


def new_layer(data: Data) -> nn.Linear:
    """Return another last layer."""
    layer = network(data, seed=2000)[-1]
    assert isinstance(layer, nn.Linear)
    return layer


def frozen(build: Build) -> Build:
    """Let only the last layer of what is built learn, as in the usual fine-tuning."""

    def built(data: Data, seed: int) -> tuple[nn.Sequential, torch.optim.Optimizer]:
        model, optimizer = build(data, seed)
        model[:-1].requires_grad_(False)
        return model, optimizer

    return built


@dataclass(frozen=True)
class Outcome:
    """What became of one training."""

    accuracy: float
    """On test pictures."""
    moved: int
    """Tensors that are not what they were at the start."""
    gradient: float
    """Length of the gradient that the last update left."""


def measure(data: Data, seeds: int, epochs: int) -> list[Row]:
    """Train with the right and with the wrong optimizers."""

    def both(wrong: Build, right: Build) -> list[list[Outcome]]:
        return [[outcome(b, data, s, epochs) for s in range(seeds)] for b in (wrong, right)]

    model = both(wrong_model, right_model)
    layer = both(wrong_layer, right_layer)
    head = both(frozen(wrong_layer), frozen(right_layer))
    return [
        Row("another model's: test accuracy", *accuracies(model)),
        Row("another model's: tensors that moved, of 6", *(found[0].moved for found in model)),
        Row(
            "another model's: length of the last gradient",
            *(f"{found[0].gradient:.2g}" for found in model),
        ),
        Row("last layer replaced too late: test accuracy", *accuracies(layer)),
        Row("the same, only the last layer learns: test accuracy", *accuracies(head)),
    ]


def accuracies(found: list[list[Outcome]]) -> list[list[float]]:
    """Return the accuracies alone."""
    return [[outcome.accuracy for outcome in outcomes] for outcomes in found]


def outcome(build: Build, data: Data, seed: int, epochs: int) -> Outcome:
    """Train one network with the optimizer that was built for it, or for another."""
    model, optimizer = build(data, seed)
    before = [p.detach().clone() for p in model.parameters()]
    train(model, data, epochs, optimizer=optimizer)
    pairs = zip(before, model.parameters(), strict=True)
    moved = sum(not torch.equal(old, new) for old, new in pairs)
    gradients = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
    length = float(torch.cat(gradients).norm())
    return Outcome(accuracy(model, data.x_test, data.y_test), moved, length)


if __name__ == "__main__":
    main(__doc__, measure)
