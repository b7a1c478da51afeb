"""A network by its name alone, without data: what `nunbit models` and `nunbit explain` show."""

from collections.abc import Mapping
from typing import NamedTuple

from torch import nn

from nunbit.config import ModelConfig, RunConfig, require_used
from nunbit.models.registry import build_model, usual_side
from nunbit.sections import require
from nunbit.values import Setting

MOST_CLASSES = 100_000


class Alone(NamedTuple):
    """A network with random weights, and the square pictures that it is built for."""

    model: nn.Module
    channels: int
    side: int
    """In pixels."""


def build_alone(name: str, classes: int, settings: Mapping[str, Setting], verb: str) -> Alone:
    """Build a network for pictures that settings describe; by default those it is mostly for.

    Args:
        name: a network of nunbit's, timm:NAME or torchvision:NAME.
        classes: number of outputs.
        settings: `data.size`, `data.channels` and options of the network (`model.width`).
        verb: the command, for errors.

    Raises:
        UsageError: an unknown network or option, or numbers that it cannot take.
    """
    require(1 <= classes <= MOST_CLASSES, "classes", classes, f"1 to {MOST_CLASSES}")
    require_used(settings, verb, "data.size", "data.channels")
    config = RunConfig(model=ModelConfig(name=name)).override(settings)
    channels, side = config.data.channels or 3, config.data.size or usual_side(name)
    model = build_model(
        name,
        num_classes=classes,
        in_channels=channels,
        image_size=(side, side),
        args=config.model.args,
    )
    return Alone(model, channels, side)
