"""The benchmarks are commands that documents name: each can be imported, and reads what it says."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from nunbit.data.sources import open_source

FOLDER = Path(__file__).parents[1] / "benchmarks"
COMMANDS = sorted(path.stem for path in FOLDER.glob("*.py"))


@pytest.fixture
def _own_modules() -> Iterator[None]:
    """Forget modules of these names before and after: an example is called plain.py as well."""
    names = [*COMMANDS, "prepare"]
    others = {name: sys.modules.pop(name) for name in names if name in sys.modules}
    yield
    for name in names:
        sys.modules.pop(name, None)
    sys.modules.update(others)


@pytest.mark.usefixtures("_own_modules")
@pytest.mark.parametrize("name", COMMANDS)
def test_every_benchmark_finds_what_it_imports(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    module = importlib.import_module(name)
    assert Path(str(module.__file__)) == FOLDER / f"{name}.py"


@pytest.mark.usefixtures("_own_modules")
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
