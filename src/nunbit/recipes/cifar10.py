"""CIFAR-10's ten classes: the texts' larger networks, and the fastest way to an accuracy.

The recipes that are not the texts' train on the whole training split too, with settings that were
chosen before: nothing is selected, and the test split is measured once.
"""

from dataclasses import replace

from nunbit.config import DataConfig, ModelConfig, OptimConfig, RunConfig, TrainConfig
from nunbit.recipes.speed import fast


def _cifar10(recipe: str, network: str) -> RunConfig:
    return RunConfig(
        recipe=recipe,
        data=DataConfig(source="cifar10", val_fraction=0.0, normalize="half"),
        model=ModelConfig(name=network),
        optim=OptimConfig(name="adam", lr=1e-3),
        train=TrainConfig(epochs=50, batch_size=32),
    )


def alexnet() -> RunConfig:
    """Train the small AlexNet with the text's settings (Adam 1e-3, batch 32, 50 epochs).

    The text printed a loss of 1.657 after the first epoch and of 0.610 after the tenth, and 75.08 %
    on test pictures after the fiftieth.
    """
    return _cifar10("cifar10/alexnet", "alexnet-small")


def resnet18() -> RunConfig:
    """Train ResNet18 for small pictures with the same settings; hours without a graphics card.

    The text printed 82.98 % on test pictures.
    """
    return _cifar10("cifar10/resnet18", "resnet18")


def resnet34() -> RunConfig:
    """Train ResNet34 for small pictures with the same settings; hours without a graphics card.

    The text built it but printed no result.
    """
    return _cifar10("cifar10/resnet34", "resnet34")


def speed() -> RunConfig:
    """Train the fastest way to about 83 % that was found for ordinary computers.

    Whitening, Muon, label smoothing, and little else: docs/log.md has what each part brings,
    docs/speed.md how long it takes. The texts' best is 82.98 %.
    """
    return fast("cifar10/speed", "cifar10", width=32, epochs=2)


def best() -> RunConfig:
    """Train the same network wider and longer, with squares covered, and look six times.

    Made for an hour of two cores: 50 minutes, 90.9 % and 91.8 % over views on the JPEG copy, where
    the same width has 89.3 % after six epochs and ten minutes (docs/speed.md). One plain forward
    pass a picture and the mean over six views are reported apart.
    """
    config = fast("cifar10/best", "cifar10", width=64, epochs=28, batch_size=500)
    views = replace(config.eval, views="both")
    return replace(config, data=replace(config.data, cutout=8), eval=views)
