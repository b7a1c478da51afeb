"""From nunbit's recipes and data to what all sides train on: the same pictures, written once."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from nunbit.config import RunConfig
from nunbit.data.pictures import ImageSet
from nunbit.data.sources import open_source
from nunbit.data.splits import Dataset, open_dataset
from nunbit.models.registry import build_model
from nunbit.models.summary import count_parameters
from nunbit.recipes import get_recipe

QUICK = 640  # training pictures of --quick


@dataclass(frozen=True)
class Workload:
    """A recipe, and how much of its data."""

    recipe: str
    epochs: int
    """By default."""
    train_pictures: int = 0
    """The first so many of the source's order; 0 takes all."""
    test_pictures: int = 0
    trial_pictures: int = QUICK
    """Training pictures on which the variants of the peers are tried."""


WORKLOADS = {
    "birds-width": Workload("birds/width", epochs=5, trial_pictures=6400),
    "mnist-cnn": Workload("mnist/cnn", epochs=3, trial_pictures=6000),
    "cifar10-resnet18": Workload("cifar10/resnet18", 2, train_pictures=6400, test_pictures=2000),
}


@dataclass(frozen=True)
class Prepared:
    """A workload on the disk."""

    name: str
    recipe: str
    task: Path
    """For the peers, see `task.py`."""
    trial: Path
    """The same with fewer pictures."""
    trial_share: float
    """Of the training pictures."""
    nunbit_data: list[str]
    """Options of `nunbit train` that name the same pictures."""


def prepare(name: str, folder: Path, *, quick: bool) -> Prepared:
    """Read a workload's data with nunbit and write it for all sides.

    Where all pictures of the source are used, nunbit reads the source itself; else it reads a
    folder of PNG files, which hold the same pixels.

    Args:
        name: of `WORKLOADS`.
        folder: an existing one for the files.
        quick: use a few hundred pictures, to try the scripts.
    """
    work = WORKLOADS[name]
    config = get_recipe(work.recipe)
    source = open_source(config.data.source)
    dataset = open_dataset(source, config.data, 2, lambda items, _count, _label: iter(items))
    wanted = (QUICK, QUICK) if quick else (work.train_pictures, work.test_pictures)
    train, test = _first(dataset.train, wanted[0]), _first(dataset.test, wanted[1])
    task, trial = folder / f"{name}.npz", folder / f"{name}-trial.npz"
    few = _first(train, QUICK if quick else work.trial_pictures)
    _write_task(task, name, config, dataset, (train, test))
    _write_task(trial, name, config, dataset, (few, _first(test, QUICK)))
    options = [] if not any(wanted) else _write_folder(folder / name, dataset, train, test)
    return Prepared(name, work.recipe, task, trial, len(few) / len(train), options)


def _first(pictures: ImageSet, count: int) -> ImageSet:
    return pictures.select(torch.arange(count)) if 0 < count < len(pictures) else pictures


def _write_task(
    file: Path, name: str, config: RunConfig, dataset: Dataset, parts: tuple[ImageSet, ImageSet]
) -> None:
    """Write pictures (train, test), labels and settings as `task.Task` takes them."""
    train, test = parts
    preprocess, num_classes = dataset.preprocess, len(dataset.class_names)
    model = build_model(
        config.model.name,
        num_classes=num_classes,
        in_channels=preprocess.channels,
        image_size=(preprocess.height, preprocess.width),
        args=config.model.args,
    )
    # Peers do these updates and no others; a recipe with more would need more here.
    optim = config.optim
    assert optim.schedule == "constant"
    assert not any((optim.momentum, optim.weight_decay, config.train.label_smoothing))
    settings: dict[str, Any] = {
        "workload": name,
        "model": config.model.name,
        "model_args": dict(config.model.args),
        "parameters": count_parameters(model),
        "num_classes": num_classes,
        "batch_size": config.train.batch_size,
        "optimizer": config.optim.name,
        "lr": config.optim.lr,
        "mean": preprocess.mean,
        "std": preprocess.std,
    }
    np.savez(
        file,
        settings=np.array(json.dumps(settings)),
        train_images=train.images[:].numpy(),
        train_labels=train.labels.numpy(),
        test_images=test.images[:].numpy(),
        test_labels=test.labels.numpy(),
    )


def _write_folder(root: Path, dataset: Dataset, train: ImageSet, test: ImageSet) -> list[str]:
    """Write pictures as files, one folder per class, and return the options that name them."""
    for part, pictures in (("train", train), ("test", test)):
        for name in dataset.class_names:
            (root / part / name).mkdir(parents=True, exist_ok=True)
        for i, label in enumerate(pictures.labels.tolist()):
            file = root / part / dataset.class_names[label] / f"{i:05d}.png"
            Image.fromarray(pictures.images[i].numpy().squeeze()).save(file)
    return ["--data", str(root), "--data.channels", str(dataset.preprocess.channels)]
