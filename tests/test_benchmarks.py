"""The benchmarks are commands that documents name: each can be imported, and reads what it says."""

import importlib
import json
import runpy
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from torch.nn.utils import parameters_to_vector

from nunbit.config import DataConfig, RunConfig
from nunbit.data.augment import augment
from nunbit.data.download import cache_folder
from nunbit.data.loader import TrainLoader
from nunbit.data.pictures import ImageSet
from nunbit.data.preprocess import Preprocess
from nunbit.data.sources import open_source
from nunbit.data.stats import digests
from nunbit.models.registry import build_model
from nunbit.recipes import get_recipe
from nunbit.runtime import Runtime
from nunbit.training.loop import fit
from nunbit.training.optim import build_optimizer
from nunbit.training.state import TrainState

FOLDER = Path(__file__).parents[1] / "benchmarks"
COMMANDS = sorted(path.stem for path in FOLDER.glob("*.py"))


@pytest.fixture
def _own_modules() -> Iterator[None]:
    """Forget modules of these names before and after: an example is called plain.py as well."""
    names = [*COMMANDS, "prepare", "results"]
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


@pytest.mark.slow
@pytest.mark.usefixtures("_own_modules")
def test_a_whole_command_is_timed_and_weighed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    whole = importlib.import_module("whole")
    run = whole.train("digits/cnn", "--train.max_steps", "2")
    assert run.result["steps"] == run.config["train"]["max_steps"] == 2
    assert run.wall_seconds > run.result["seconds"]
    assert 2e8 < run.peak_bytes < 2e9, "bytes, not kilobytes"
    with pytest.raises(RuntimeError, match="ended with 2"):
        whole.train("digits/cnnn")


@pytest.mark.usefixtures("_own_modules")
def test_a_fine_tuning_that_is_timed_finds_no_features_of_an_earlier_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(FOLDER / "peers" / "finetune"))
    bench = runpy.run_path(str(FOLDER / "peers" / "finetune" / "__main__.py"), run_name="bench")
    answer = {"strategy": "head", "epochs": 0, "seconds": 1.0, "test": {"accuracy": 1.0, "n": 4}}
    caches = []

    def run(command: list[str], *, env: dict[str, str], **_: object) -> CompletedProcess[str]:
        monkeypatch.setattr("os.environ", env)
        caches.append(cache_folder())
        return CompletedProcess(command, 0, json.dumps(answer), "")

    monkeypatch.setattr("subprocess.run", run)
    inputs = bench["Inputs"](tmp_path / "split.csv", tmp_path / "lite0.pth")
    for name in ("90s-0", "90s-1"):
        bench["run_nunbit"]("90s", inputs, tmp_path / name, 0)
    assert caches == [tmp_path / "90s-0" / "cache", tmp_path / "90s-1" / "cache"]


@pytest.mark.usefixtures("_own_modules")
def test_a_mirror_at_random_is_drawn_anew_in_each_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    ablation = importlib.import_module("ablation")
    images, indices = torch.randint(0, 256, (400, 4, 4, 3), dtype=torch.uint8), torch.arange(400)
    config = DataConfig(flip=True)
    with ablation.mirrored_at_random():
        ways = [
            (augment(images, config, 0, epoch, indices) == images).all(dim=(1, 2, 3))
            for epoch in range(3)
        ]
    for one, other in pairwise(ways):
        assert 150 < int((one == other).sum()) < 250, "neither always nor never as before"


@pytest.mark.usefixtures("_own_modules")
@pytest.mark.parametrize(("recipe", "side"), [("birds/net", 32), ("mnist/cnn", 28)])
def test_nunbit_trains_to_the_weights_of_the_texts_loop(
    recipe: str, side: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same first weights and batches in fp32: NHWC, fused updates and pooling before the
    activation change nothing but the last digits."""
    monkeypatch.syspath_prepend(str(FOLDER))
    plain = importlib.import_module("plain")
    config = get_recipe(recipe).override({"train.epochs": 2})
    pictures, loader = _noise(side, 3 if side == 32 else 1, config)
    torch.manual_seed(0)
    texts = plain.NETWORKS[recipe]()
    model = build_model(
        config.model.name,
        num_classes=2 if side == 32 else 10,
        in_channels=pictures.images.shape[3],
        image_size=(side, side),
        args=config.model.args,
    ).to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs lack this form
    torch.nn.utils.vector_to_parameters(
        parameters_to_vector(texts.parameters()), model.parameters()
    )
    first = parameters_to_vector(texts.parameters()).detach().clone()

    state = TrainState(model, build_optimizer(model, config.optim))
    runtime = Runtime(torch.device("cpu"), "fp32", 1)
    results = list(fit(state, loader, None, runtime, lambda items, _count, _label: iter(items)))

    optimizer = plain.optimizer_of(texts, config.optim)
    losses = []
    for epoch in range(2):
        for x, y in loader.batches(epoch):
            loss = F.cross_entropy(texts(x.contiguous()), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    ours, theirs = (parameters_to_vector(m.parameters()).detach() for m in (model, texts))
    assert len(losses) == 10
    assert (ours - theirs).norm() < 1e-3 * (theirs - first).norm()
    assert [r.train_loss for r in results] == pytest.approx(
        [float(np.mean(losses[:5])), float(np.mean(losses[5:]))], rel=1e-5
    )


def _noise(side: int, channels: int, config: RunConfig) -> tuple[ImageSet, TrainLoader]:
    """Return random pictures in five equal batches of the recipe's size."""
    count = 5 * config.train.batch_size
    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.integers(0, 256, (count, side, side, channels), dtype=np.uint8))
    labels = torch.arange(count) % (2 if channels == 3 else 10)
    pictures = ImageSet(images, labels, [str(i) for i in range(count)], digests(images))
    preprocess = Preprocess(
        height=side,
        width=side,
        channels=channels,
        resize="crop",
        mean=(0.5,) * channels,
        std=(0.25,) * channels,
    )
    return pictures, TrainLoader(pictures, preprocess, config, torch.device("cpu"))


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
