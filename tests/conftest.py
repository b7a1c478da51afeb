"""Small pictures whose classes a network learns in seconds, and the door to the real data."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import nunbit
from nunbit.config import DataConfig, ModelConfig, OptimConfig, RunConfig, TrainConfig
from nunbit.training import tempo

WORKER = re.fullmatch(r"gw(\d+)", os.environ.get("PYTEST_XDIST_WORKER", ""))
if WORKER and hasattr(os, "sched_setaffinity"):
    # Tests side by side that compute with all cores each would wait for each other at every
    # operation. A core of its own, which whatever the test starts inherits, keeps times honest.
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[int(WORKER[1]) % len(cores)]})
    torch.set_num_threads(1)

# Tests read English, whatever the developer's locale is; test_language.py asks for Korean.
os.environ["NUNBIT_LANG"] = "en"

COLOURS = {"blue": (40, 60, 200), "green": (40, 180, 60), "red": (210, 50, 40)}


def noisy_picture(colour: tuple[int, int, int], seed: int, size: tuple[int, int]) -> Image.Image:
    """Return a picture of (width, height) around a colour, another one for each seed."""
    noise = np.random.default_rng(seed).integers(-40, 40, (size[1], size[0], 3))
    return Image.fromarray((np.array(colour) + noise).clip(0, 255).astype(np.uint8))


def write_classes(root: Path, count: int, *, first_seed: int = 0) -> Path:
    """Write `count` PNG files for each of three colours below `root`."""
    for number, (name, colour) in enumerate(COLOURS.items()):
        (root / name).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            picture = noisy_picture(colour, first_seed + 1000 * number + i, (20, 16))
            picture.save(root / name / f"{i:03}.png")
    return root


def require_same_weights(first: Path, second: Path) -> None:
    """Fail unless two runs ended with the same bits."""
    ours, theirs = (nunbit.load(run).module.state_dict() for run in (first, second))
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert torch.equal(tensor, theirs[name]), name


@pytest.fixture
def colours(tmp_path: Path) -> Path:
    """A folder of three class folders with 20 pictures each."""
    return write_classes(tmp_path / "colours", 20)


@pytest.fixture
def quick() -> RunConfig:
    """Settings that finish in a second on the digits, on one thread."""
    return RunConfig(
        recipe="quick",
        data=DataConfig(source="digits"),
        model=ModelConfig(name="net", args={"width": 4}),
        optim=OptimConfig(name="adamw", lr=5e-3),
        train=TrainConfig(epochs=2, batch_size=64, threads=1, device="cpu", precision="fp32"),
    )


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Keep every test out of the user's cache, the network and the current folder."""
    monkeypatch.setenv("NUNBIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NUNBIT_OFFLINE", "1")
    monkeypatch.delenv("NUNBIT_DATA", raising=False)  # only `real_data` brings it back
    monkeypatch.chdir(tmp_path)
    # Left to the clock, two runs of one test may compute differently; tests of the clock undo this.
    monkeypatch.setattr(tempo, "multiplies_bf16", lambda _device: False)
    threads = torch.get_num_threads()
    yield
    assert torch.get_num_threads() == threads, "a test left another number of threads behind"


REAL_DATA = os.environ.get("NUNBIT_DATA", "")
START_FOLDER = Path.cwd()


@pytest.fixture
def real_data(monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder with the real data sets; a test that asks for it is marked `real`."""
    if not REAL_DATA:
        pytest.skip("NUNBIT_DATA does not name the real data sets")
    folder = START_FOLDER / REAL_DATA.split(os.pathsep)[0]
    monkeypatch.setenv("NUNBIT_DATA", str(folder))
    return folder
