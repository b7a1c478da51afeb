"""The training doctor: silent where all is well, a line for each planted fault, no bit changed."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import nunbit.run as run_module
from nunbit import get_recipe, running
from nunbit.config import RunConfig
from nunbit.data.loader import TrainLoader
from nunbit.data.preprocess import Preprocess
from nunbit.finished import Finished
from nunbit.progress import Display
from nunbit.reading import read_dataset
from nunbit.run import train_run
from nunbit.runtime import choose_runtime
from nunbit.signals import StopRequest
from nunbit.start import build_start
from nunbit.training import check, heart
from nunbit.training.heart import ByHeart, learn_by_heart

QUIET = Display(quiet=True)


def said_of(config: RunConfig, folder: Path, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Train and return what the doctor said."""
    train_run(config, folder, Display(), lambda _finished: None)
    return [x for x in capsys.readouterr().err.splitlines() if x.startswith("check: ")]


def plant(monkeypatch: pytest.MonkeyPatch, change: Callable[[nn.Module], None]) -> None:
    """Let every new training begin with a changed network."""
    original = run_module.build_start

    def changed(*args: object) -> object:
        start = original(*args)  # type: ignore[arg-type]
        with torch.no_grad():
            change(start.model)
        return start

    monkeypatch.setattr(run_module, "build_start", changed)


def last_linear(model: nn.Module) -> nn.Linear:
    return [m for m in model.modules() if isinstance(m, nn.Linear)][-1]


def test_the_default_training_is_not_commented(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = get_recipe("digits/cnn").override({"train.epochs": 1, "train.threads": 1})
    assert said_of(recipe, tmp_path / "r", capsys) == []


def test_no_bit_is_changed(
    quick: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = quick.override({"model.name": "net-dropout"})  # random numbers in every step

    def trained(folder: Path) -> Finished:
        return train_run(config, folder, QUIET, lambda _finished: None)

    looked = trained(tmp_path / "a")
    monkeypatch.setattr(running, "watch_start", lambda batches, *_: batches)
    monkeypatch.setattr(running, "_look_at_units", lambda *_: None)
    plain = trained(tmp_path / "b")
    weights = plain.classifier.module.state_dict()
    for name, tensor in looked.classifier.module.state_dict().items():
        assert torch.equal(tensor, weights[name]), name
    assert [e.metrics() for e in looked.epochs] == [e.metrics() for e in plain.epochs]


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_learning_rate_of_ten_is_named(
    optimizer: str, quick: RunConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = quick.override({"optim.lr": 10, "optim.name": optimizer, "train.epochs": 1})
    (line,) = said_of(config, tmp_path / "r", capsys)
    assert "times their own length: the learning rate is too high; see: nunbit lr-find" in line


def test_a_learning_rate_is_looked_at_in_short_epochs_too(
    quick: RunConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Few pictures have fewer than ten updates an epoch, and whoever has few needs the line."""
    few = {"train.batch_size": 500, "train.epochs": 2}
    (line,) = said_of(quick.override({**few, "optim.lr": 10}), tmp_path / "r", capsys)
    assert "the first 3 updates moved the weights" in line
    assert "the learning rate is too high" in line
    assert not said_of(quick.override({**few, "optim.lr": 1e-8}), tmp_path / "s", capsys)


def test_a_learning_rate_near_zero_is_named(
    quick: RunConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = quick.override({"optim.lr": 1e-8, "train.epochs": 1})
    (line,) = said_of(config, tmp_path / "r", capsys)
    assert "the learning rate is too low" in line


@pytest.mark.parametrize("value", [0.0, 0.01])
def test_constant_weights_are_named(
    value: float, quick: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip  # one fixture a line would say no more
    def level(model: nn.Module) -> None:
        for parameter in model.parameters():
            parameter.fill_(value)

    plant(monkeypatch, level)
    lines = said_of(quick, tmp_path / "r", capsys)
    assert lines[0] == (
        "check: all 4 units of conv1 start with the same weights, so they learn the same: "
        "initialise them at random"
    )


def test_a_zero_last_layer_is_sound(
    quick: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip  # one fixture a line would say no more
    plant(monkeypatch, lambda model: last_linear(model).weight.zero_())
    assert said_of(quick, tmp_path / "r", capsys) == []


def test_a_huge_bias_of_the_last_layer_is_named(
    quick: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip  # one fixture a line would say no more
    plant(monkeypatch, lambda model: last_linear(model).bias[0].fill_(50.0))
    (line,) = said_of(quick, tmp_path / "r", capsys)
    assert "guessing gives ln 10 = 2.30" in line
    assert "biases of the last layer" in line


def test_bytes_that_were_not_divided_are_named(
    quick: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip  # one fixture a line would say no more
    original = Preprocess.normalize
    monkeypatch.setattr(Preprocess, "normalize", lambda self, images: 255 * original(self, images))
    config = quick.override({"data.normalize": "none"})
    lines = said_of(config, tmp_path / "r", capsys)
    assert "were bytes not divided by 255" in lines[0]


def test_dead_units_are_counted_in_every_way_of_writing_relu() -> None:
    class Ways(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            x = x - torch.tensor([0.0, 10.0]).view(1, 2, 1, 1)  # the second channel never fires
            for relu in (torch.relu, nn.functional.relu, nn.ReLU(inplace=True), Tensor.relu):
                x = relu(x)
            return torch.relu_(nn.functional.relu6(x)).flatten(1)

    runtime = choose_runtime(RunConfig().train)
    preprocess = Preprocess(height=4, width=4, channels=1, resize="crop", mean=(0,), std=(1,))
    images = torch.full((300, 4, 4, 1), 200, dtype=torch.uint8)
    model = nn.Sequential(nn.Conv2d(1, 2, 1, bias=False), Ways()).train()
    nn.init.constant_(model[0].weight, 1.0)  # type: ignore[arg-type]
    assert check.dead_fault(model, images, preprocess, runtime, 100) is None, "half is not too many"
    nn.init.constant_(model[0].weight, -1.0)  # type: ignore[arg-type]
    fault = check.dead_fault(model, images, preprocess, runtime, 100)
    assert fault is not None
    assert fault.startswith("12 of 12 ReLU units are 0 for each of 256 training pictures; all of")
    assert model.training
    assert check.dead_fault(nn.Tanh(), images, preprocess, runtime, 100) is None


def test_dead_units_are_named_after_the_first_epoch(
    quick: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip  # one fixture a line would say no more
    plant(monkeypatch, lambda model: model.get_submodule("fc1").bias.fill_(-1e3))  # type: ignore[union-attr,operator]
    config = quick.override({"model.name": "net-depth", "model.width": 4})
    line = said_of(config, tmp_path / "r", capsys)[-1]
    assert "all of ReLU 4 of 4" in line


def by_heart(config: RunConfig, change: Callable[[nn.Module], None] = lambda _: None) -> ByHeart:
    """Return what `learn_by_heart` finds, having compared the network with what it was."""
    runtime = choose_runtime(config.train)
    dataset = read_dataset(config, runtime, QUIET, StopRequest())
    model = build_start(config, dataset, runtime).model
    with torch.no_grad():
        change(model)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    loader = TrainLoader(dataset.train, dataset.preprocess, config, runtime.device)
    found = learn_by_heart(model, loader, runtime)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    return found


@pytest.mark.parametrize("model", ["net-dropout", "cnn", "mlp"])
def test_one_batch_can_be_learned_by_heart(model: str, quick: RunConfig) -> None:
    found = by_heart(quick.override({"model.name": model}))
    assert found.learned
    assert found.updates < 400
    assert "can be learned by heart: " in found.line()


def test_a_network_that_cannot_learn_is_found(
    quick: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heart, "MAX_UPDATES", 50)

    def empty(model: nn.Module) -> None:
        for parameter in model.parameters():
            parameter.zero_()

    found = by_heart(quick, empty)
    assert not found.learned
    assert found.updates == 50
    assert "look for equal pictures with different labels" in found.line()
