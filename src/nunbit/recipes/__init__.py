"""Named runs: functions that return a `RunConfig`, one file per family.

A recipe whose validation share is 0 trains on the whole training split and measures the test split
once, after the last epoch, with no selection: those of the texts ("classic"), and the fast ones.
"""

from collections.abc import Callable

from nunbit.config import RunConfig
from nunbit.errors import UsageError, did_you_mean
from nunbit.language import mark
from nunbit.recipes import birds, cifar10, digits, imagenet, mnist, photos

RECIPES: dict[str, Callable[[], RunConfig]] = {
    "digits/cnn": digits.cnn,
    "birds/mlp": birds.mlp,
    "birds/mlp-deep": birds.mlp_deep,
    "birds/net": birds.net,
    "birds/width": birds.width,
    "birds/l2": birds.l2,
    "birds/dropout": birds.dropout,
    "birds/batchnorm": birds.batchnorm,
    "birds/depth": birds.depth,
    "birds/res": birds.res,
    "birds/resdeep": birds.resdeep,
    "birds/speed": birds.speed,
    "mnist/cnn": mnist.cnn,
    "mnist/speed": mnist.speed,
    "cifar10/alexnet": cifar10.alexnet,
    "cifar10/resnet18": cifar10.resnet18,
    "cifar10/resnet34": cifar10.resnet34,
    "cifar10/speed": cifar10.speed,
    "cifar10/best": cifar10.best,
    "imagenet/alexnet": imagenet.alexnet,
    "photos/cnn": photos.cnn,
}
# Sets whose pictures must not be mirrored, or that have a recipe of their own.
DEFAULTS = {"digits": "digits/cnn", "mnist": "mnist/cnn", "birds": "birds/net"}

# What a learner explains instead of training it: `nunbit explain NAME`.
LESSONS = {
    "basics/linear": mark("A linear layer by hand: what Parameter, Buffer and plain tensor mean."),
    "basics/convolution": mark("What a convolution and a pooling do to one picture."),
}


def get_recipe(name: str | None, source: str | None = None) -> RunConfig:
    """Return the settings of a recipe, on other data if `source` is given.

    Without a name: the default recipe for the embedded digits, or the one for any other data.

    Raises:
        UsageError: no such recipe.
    """
    if name is None:
        name = DEFAULTS.get(source or "digits", "photos/cnn")
    if name in LESSONS:
        raise UsageError(
            "{name} is a lesson, not a training; write: nunbit explain {name}", name=name
        )
    if name not in RECIPES:
        raise UsageError("no recipe '{name}'; {hint}", name=name, hint=did_you_mean(name, RECIPES))
    config = RECIPES[name]()
    if config.recipe != name:
        raise AssertionError(f"recipe '{name}' calls itself '{config.recipe}'")
    return config if source is None else config.override({"data.source": source})
