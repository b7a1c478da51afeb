"""The training doctor is silent on the recipes with their own data and settings."""

import functools
from pathlib import Path

import pytest
import torch

from nunbit import get_recipe
from nunbit.config import RunConfig
from nunbit.data.splits import Dataset
from nunbit.progress import Display
from nunbit.reading import read_dataset
from nunbit.recipes import RECIPES
from nunbit.run import train_run
from nunbit.runtime import choose_runtime
from nunbit.signals import StopRequest

pytestmark = pytest.mark.real
PICTURES = {"birds": 640, "mnist": 1000, "cifar10": 320}  # to train on: ten updates, or 32
SLOW = {"birds/resdeep", "cifar10/resnet18", "cifar10/resnet34"}  # minutes: see docs/watching.md
CHECKED = [name for name in RECIPES if name.split("/")[0] in PICTURES and name not in SLOW]


@functools.cache
def part_of(family: str) -> Dataset:
    """Return the first pictures of the data that the recipes of a family share."""
    config = get_recipe(next(name for name in CHECKED if name.startswith(f"{family}/")))
    runtime, quiet = choose_runtime(config.train), Display(quiet=True)
    whole = read_dataset(config, runtime, quiet, StopRequest())
    train = whole.train.select(torch.arange(PICTURES[family]))
    test = whole.test.select(torch.arange(200))
    return Dataset(**{**vars(whole), "train": train, "test": test})


@pytest.mark.parametrize("recipe", CHECKED)
def test_a_recipe_is_not_commented(
    recipe: str, real_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def read(*_: object) -> Dataset:
        return part_of(recipe.split("/")[0])

    config: RunConfig = get_recipe(recipe).override({"train.epochs": 1, "train.threads": 1})
    train_run(config, tmp_path / "r", Display(), lambda _finished: None, read)
    said = capsys.readouterr().err
    assert "epoch 1/1" in said
    assert "check: " not in said
