"""(l) Accuracy counted with dropout on.

    python examples/mistakes/l_running_accuracy.py [--seeds 3]

It costs nothing to count during the training pass, but it measures a network with holes, on weights
that were worse than the last. Beside a test accuracy in eval mode it hides overfitting, and dropout
looks as if it cost accuracy.
"""

from plain import Data, Loss, Row, accuracy, main, network, train
from torch import Tensor, nn
from torch.nn.functional import cross_entropy


def counting(correct: list[int]) -> Loss:
    """Return a loss that also notes how many of each batch were right."""

    def loss_of(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        logits = model(x)
        correct.append(int((logits.argmax(1) == y).sum()))
        return cross_entropy(logits, y)

    return loss_of


def dropping(_channels: int) -> nn.Module:
    """Return the dropout of the texts: 0.4 of the channels."""
    return nn.Dropout2d(0.4)


def measure(data: Data, seeds: int, epochs: int) -> list[Row]:
    """Train with and without dropout; compare the last epoch's count with a pass in eval mode."""
    rows = []
    for share, layer in ((0.4, dropping), (0.0, nn.Identity)):
        running, measured, tests = [], [], []
        for seed in range(seeds):
            correct: list[int] = []
            model = network(data, seed, layer)
            train(model, data, epochs, loss_of=counting(correct))
            last_epoch = correct[-(len(correct) // epochs) :]
            running.append(sum(last_epoch) / len(data.y_train))
            measured.append(accuracy(model, data.x_train, data.y_train))
            tests.append(accuracy(model, data.x_test, data.y_test))
        rows += [
            Row(f"dropout {share}: training accuracy", running, measured),
            Row(f"dropout {share}: test accuracy, beside it", tests, tests),
        ]
    return rows


if __name__ == "__main__":
    main(__doc__, measure)
