"""Large pictures: the network of 2012 on ImageNet, or on any other folder."""

from nunbit.config import DataConfig, ModelConfig, OptimConfig, RunConfig, TrainConfig


def alexnet() -> RunConfig:
    """Train torchvision's AlexNet from random weights on 224 pixels; name a folder with --data.

    The text printed the network's structure and trained nothing. The settings are the paper's
    (Krizhevsky, Sutskever and Hinton, 2012: SGD 1e-2 with momentum 0.9, decay 5e-4, batch 128, 90
    epochs, mirrored pictures), with a cosine where the authors lowered the rate by hand, and
    without their random crops and change of colours.

    ImageNet is not offered for download, so without --data a folder `imagenet` with train/ and
    val/ is expected. A decoded picture takes 150 kB, in memory or, where that is too small,
    in the cache folder: take a part of it.
    """
    return RunConfig(
        recipe="imagenet/alexnet",
        data=DataConfig(source="imagenet", size=224, channels=3, val_fraction=0.0, flip=True),
        model=ModelConfig(name="torchvision:alexnet"),
        optim=OptimConfig(name="sgd", lr=1e-2, momentum=0.9, weight_decay=5e-4, schedule="cosine"),
        train=TrainConfig(epochs=90, batch_size=128),
    )
