"""CIFAR-10's ten classes: the texts' larger networks, and the fastest way to an accuracy.

The recipes that are not the texts' train on the whole training split too, with settings that were
chosen before: nothing is selected, and the test split is measured once.
"""

from nunbit.config import (
    DataConfig,
    EvalConfig,
    ModelConfig,
    OptimConfig,
    RunConfig,
    TrainConfig,
)

# Rates of airbench (K. Jordan, 2024), without a warm-up: batch norm and Muon need none.
MUON = OptimConfig(
    name="muon", lr=0.24, momentum=0.6, weight_decay=1.5e-3, schedule="linear", warmup_fraction=0.0
)


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
    """Train the fastest way to the texts' best accuracy that was found for ordinary computers.

    Whitening, Muon, pictures of 20 pixels first, and little else: docs/speed.md says what each part
    brings and which settings reach more.
    """
    return RunConfig(
        recipe="cifar10/speed",
        data=DataConfig(
            source="cifar10", val_fraction=0.0, flip=True, shift_pixels=2, small_size=20
        ),
        model=ModelConfig(name="speednet", args={"width": 32}),
        optim=MUON,
        train=TrainConfig(epochs=3, batch_size=500, label_smoothing=0.2),
        eval=EvalConfig(batch_size=500),
    )
