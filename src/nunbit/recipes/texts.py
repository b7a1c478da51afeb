"""What the tutorials printed for their networks, to set beside what is measured here.

The texts measured one run each, on the original CIFAR-10. Accuracies are fractions of the training
and validation pictures (their validation pictures are CIFAR-10's test split).
"""

from dataclasses import dataclass

from nunbit.language import mark


@dataclass(frozen=True)
class TextFigures:
    """The printed figures of one network, and what is done otherwise here."""

    train: float | None
    test: float
    loss: tuple[float, float] | None = None
    """Least and largest last training loss in nats that was printed."""
    otherwise: str = ""
    """A mistake of the text that is mended here, or another known reason to differ."""


# By the label of a comparison's row: a recipe, perhaps with settings.
TEXTS: dict[str, TextFigures] = {
    "birds/mlp": TextFigures(None, 0.82),
    "birds/net": TextFigures(0.935, 0.89, (0.15, 0.17)),
    "birds/width": TextFigures(0.96, 0.90),
    "birds/l2": TextFigures(
        0.50,
        0.50,
        otherwise=mark("the text adds the factor to the penalty; here they are multiplied"),
    ),
    "birds/dropout": TextFigures(
        0.90, 0.89, otherwise=mark("the text measures with dropout on; here it is off (eval mode)")
    ),
    "birds/batchnorm": TextFigures(
        0.99,
        0.87,
        otherwise=mark("the text measures in training mode; here with running statistics"),
    ),
    "birds/depth": TextFigures(0.96, 0.90),
    "birds/res": TextFigures(0.97, 0.90),
    "birds/resdeep": TextFigures(
        0.98, 0.88, otherwise=mark("the text uses one block 100 times; here 100 blocks")
    ),
    "birds/resdeep:model.shared=true": TextFigures(
        0.98,
        0.88,
        otherwise=mark("the text measures in training mode; here with running statistics"),
    ),
    "cifar10/alexnet": TextFigures(None, 0.7508),
    "cifar10/resnet18": TextFigures(None, 0.8298),
}
