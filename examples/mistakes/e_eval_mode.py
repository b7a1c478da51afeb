"""(e) Measuring without `eval()`.

    python examples/mistakes/e_eval_mode.py [--seeds 3]

Dropout goes on dropping, so that the answer to a picture changes from call to call. Batch norm
uses the statistics of whatever else lies in the batch, and learns from the test pictures, even
inside `no_grad`.
"""

import copy
from collections.abc import Callable

import torch
from plain import BATCH, Data, Row, main, network, train
from torch import Tensor, nn

Measured = Callable[[nn.Module, Tensor, int], Tensor]


@torch.no_grad()
def wrong(model: nn.Module, x: Tensor, batch: int) -> Tensor:
    """Return the predicted classes (N,) in the mode that training left."""
    model.train()  # `train` did so already; the mistake is that nothing follows
    return torch.cat([model(part).argmax(1) for part in x.split(batch)])


@torch.no_grad()
def right(model: nn.Module, x: Tensor, batch: int) -> Tensor:
    """Return the predicted classes (N,) in eval mode."""
    model.eval()
    return torch.cat([model(part).argmax(1) for part in x.split(batch)])


def measure(data: Data, seeds: int, epochs: int) -> list[Row]:
    """Measure networks with dropout and with batch norm in both ways."""
    dropout = trained(data, seeds, epochs, lambda _channels: nn.Dropout2d(0.4))
    norm = trained(data, seeds, epochs, nn.BatchNorm2d)
    order = data.y_test.argsort(stable=True)  # as class folders give them
    x, y = data.x_test[order], data.y_test[order]

    def scores(models: list[nn.Module], batch: int) -> list[list[float]]:
        """Return accuracies, wrong and right, of copies: measuring wrongly changes a network."""
        return [
            [share(measured(copy.deepcopy(model), x, batch), y) for model in models]
            for measured in (wrong, right)
        ]

    passes = [[measured(dropout[0], x, BATCH) for _ in range(2)] for measured in (wrong, right)]
    changes = [tensors_changed(norm[0], x, measured) for measured in (wrong, right)]
    return [
        Row("dropout: test accuracy", *scores(dropout, BATCH)),
        Row(
            f"dropout: answers that differ in a second pass, of {len(y)}",
            *(int((first != second).sum()) for first, second in passes),
        ),
        Row("batch norm, pictures sorted by class: test accuracy", *scores(norm, BATCH)),
        Row("batch norm, one picture at a time: test accuracy", *scores(norm, 1)),
        Row("batch norm: tensors of the model that measuring changed", *changes),
    ]


def trained(
    data: Data, seeds: int, epochs: int, layer: Callable[[int], nn.Module]
) -> list[nn.Module]:
    """Return trained networks with a layer after each convolution."""
    models = [network(data, seed, layer) for seed in range(seeds)]
    for model in models:
        train(model, data, epochs)
    return list(models)


def share(found: Tensor, y: Tensor) -> float:
    """Return the accuracy."""
    return float((found == y).double().mean())


def tensors_changed(model: nn.Module, x: Tensor, measured: Measured) -> int:
    """Count the parameters and buffers that are others after measuring."""
    model = copy.deepcopy(model)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    measured(model, x, BATCH)
    return sum(not torch.equal(before[name], t) for name, t in model.state_dict().items())


if __name__ == "__main__":
    main(__doc__, measure)
