"""The benchmarks are commands that documents name: each can be imported, and reads what it says."""

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

from nunbit.data.sources import open_source

FOLDER = Path(__file__).parents[1] / "benchmarks"
COMMANDS = sorted(path.stem for path in FOLDER.glob("*.py"))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_benchmark_finds_what_it_imports(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    for loaded in COMMANDS:  # plain.py is also the name of an example
        monkeypatch.delitem(sys.modules, loaded, raising=False)
    assert callable(vars(importlib.import_module(name)).get("main", print))


@pytest.mark.real
def test_the_peers_get_the_pictures_that_nunbit_trains_on(
    real_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(FOLDER / "peers"))
    prepare = importlib.import_module("prepare")
    done = prepare.prepare("mnist-cnn", tmp_path, quick=True)
    held = np.load(done.task)
    test = open_source("mnist").parts["test"]
    assert held["train_images"].shape == (prepare.QUICK, 28, 28, 1)
    assert np.array_equal(held["test_images"], test.items[: prepare.QUICK])
    assert held["test_labels"].tolist() == test.labels[: prepare.QUICK].tolist()
