"""(k) Wrong constants of normalisation.

    python examples/mistakes/k_normalisation.py [--seeds 3]

Constants that are a little off do no harm as long as training and prediction use the same. Other
constants at prediction than in training do. Among the first kind: a standard deviation that is the
mean of the pictures' own, as widely copied for CIFAR-10, is too small, since it leaves out how
much pictures differ from one another.
"""

from collections.abc import Callable
from dataclasses import replace

from plain import Data, Row, accuracy, main, network, train
from torch import Tensor, nn

Normalize = Callable[[Tensor], Tensor]


def measure(data: Data, seeds: int, epochs: int) -> list[Row]:
    """Train with one normalisation and predict with the same or with another."""
    pixels, test = (x * data.std + data.mean for x in (data.x_train, data.x_test))  # 0 to 1
    small = pixels.std((2, 3), correction=0).mean(0)[:, None, None]

    def right(x: Tensor) -> Tensor:
        return (x - data.mean) / data.std

    def half(x: Tensor) -> Tensor:
        return (x - 0.5) / 0.5

    def copied(x: Tensor) -> Tensor:
        return (x - data.mean) / small

    def scores(models: list[nn.Module], prediction: Normalize) -> list[float]:
        """Return test accuracies."""
        return [accuracy(model, prediction(test), data.y_test) for model in models]

    def trained(training: Normalize) -> list[nn.Module]:
        """Return networks trained on pictures that are normalised so."""
        return networks(replace(data, x_train=training(pixels)), seeds, epochs)

    models = trained(right)
    good = scores(models, right)
    other, same = "in prediction alone: test accuracy", "in both: test accuracy"
    return [
        Row(f"from 0 to 255 {other}", scores(models, lambda x: 255 * x), good),
        Row(f"from 0 to 1 {other}", scores(models, lambda x: x), good),
        Row(f"0.5 and 0.5 {other}", scores(models, half), good),
        Row(f"0.5 and 0.5 {same}", scores(trained(half), half), good),
        Row(f"std of each picture, averaged, {same}", scores(trained(copied), copied), good),
        Row("the value of that std", *(numbers(std) for std in (small, data.std))),
    ]


def networks(data: Data, seeds: int, epochs: int) -> list[nn.Module]:
    """Return networks trained on the pictures as they are."""
    models = [network(data, seed) for seed in range(seeds)]
    for model in models:
        train(model, data, epochs)
    return list(models)


def numbers(values: Tensor) -> str:
    """Return a number per channel as text."""
    return ", ".join(f"{value:.4f}" for value in values.flatten().tolist())


if __name__ == "__main__":
    main(__doc__, measure)
