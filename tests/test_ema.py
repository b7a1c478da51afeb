"""The average of weights: what it is, where it is measured, and that a run goes on with it."""

from pathlib import Path

import pytest
import torch
from torch import nn

import nunbit
from conftest import require_same_weights
from nunbit.checkpoint import load_newest
from nunbit.config import RunConfig
from nunbit.errors import StoppedError, UsageError
from nunbit.evaluation import collect_logits
from nunbit.progress import Display
from nunbit.run import resume_run, train_run
from nunbit.training import loop
from nunbit.training.ema import averaged, update_average
from nunbit.training.state import TrainState, copy_weights
from test_training import CPU, parts, stripes


def small() -> TrainState:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    return TrainState(model, torch.optim.SGD(model.parameters(), lr=0.1))


def test_an_average_follows_the_weights_and_forgets_the_first_ones_soon() -> None:
    state = small()
    weight = state.model[0].weight.data  # type: ignore[index]
    expected = None
    for step, value in enumerate([5.0, 1.0, 2.0, 2.5]):
        weight.fill_(value)
        state.model[1].num_batches_tracked.fill_(step)  # type: ignore[index]
        state.step = step
        update_average(state, 0.2)
        stays = min(0.2, (1 + step) / (10 + step))
        expected = value if expected is None else stays * expected + (1 - stays) * value
        assert state.average is not None
        assert state.average["0.weight"].flatten().tolist() == pytest.approx([expected] * 4)
        assert state.average["1.num_batches_tracked"] == step
    assert weight[0, 0] == 2.5, "the network is as it was"


def test_the_network_holds_the_average_while_it_is_measured_and_its_own_weights_after() -> None:
    state = small()
    own = copy_weights(state.model)
    with averaged(state):
        pass
    assert state.average is None
    state.average = {name: tensor + 1 for name, tensor in own.items()}

    def measure() -> None:
        with averaged(state):
            for name, tensor in state.model.state_dict().items():
                assert torch.equal(tensor, own[name] + 1)
            state.model[1].running_mean.fill_(7)  # type: ignore[index]
            raise StoppedError("stopped", 2)

    with pytest.raises(StoppedError):
        measure()
    for name, tensor in state.model.state_dict().items():
        assert torch.equal(tensor, own[name]), name
    assert state.average["1.running_mean"].tolist() == [7, 7], "measured anew, for the average"
    assert torch.equal(state.average["0.weight"], own["0.weight"] + 1)


def test_a_block_that_is_used_twice_is_exchanged_once() -> None:
    block = nn.Linear(2, 2)
    model = nn.Sequential(block, nn.Tanh(), block)
    state = TrainState(model, torch.optim.SGD(model.parameters(), lr=0.1))
    own = copy_weights(model)
    update_average(state, 0.5)
    block.weight.data.add_(1)
    with averaged(state):
        assert torch.equal(block.weight, own["0.weight"])
    assert torch.equal(block.weight, own["0.weight"] + 1)


@pytest.mark.parametrize("with_val", [True, False])
def test_the_average_is_measured_and_kept(with_val: bool, quick: RunConfig) -> None:
    config = quick.override({"train.epochs": 3, "train.batch_size": 8, "train.ema": 0.9})
    state, loader = parts(config)
    val = stripes(40, seed=9) if with_val else None
    means: dict[int, dict[str, torch.Tensor]] = {}
    own: dict[int, dict[str, torch.Tensor]] = {}
    for result in loop.fit(state, loader, val, CPU, lambda items, _n, _label: iter(items)):
        assert state.average is not None
        means[result.epoch] = {name: t.clone() for name, t in state.average.items()}
        own[result.epoch] = copy_weights(state.model)
        if val is not None:
            with averaged(state):
                logits = collect_logits(state.model, val.images, loader.preprocess, CPU, 64)
            assert result.val_accuracy == (logits.argmax(1) == val.labels).double().mean()
    kept = loop.keep_best(state.model, state)
    assert (kept is None) == (val is None)
    expected = means[kept or 3]
    for name, tensor in state.model.state_dict().items():
        assert torch.equal(tensor, expected[name]), name
    assert not torch.equal(expected["fc2.weight"], own[kept or 3]["fc2.weight"])


def test_the_weights_themselves_train_as_without_an_average(quick: RunConfig) -> None:
    config = quick.override({"model.name": "net-batchnorm", "train.precise_bn": True})
    trained = []
    for decay in (0.0, 0.95):
        state, loader = parts(config.override({"train.ema": decay, "train.epochs": 2}))
        for _ in loop.fit(state, loader, None, CPU, lambda items, _n, _label: iter(items)):
            pass
        trained.append(dict(state.model.named_parameters()))
    for name, parameter in trained[0].items():
        assert torch.equal(parameter, trained[1][name]), name


@pytest.mark.parametrize("val_fraction", [0.0, 0.1])
def test_a_run_with_an_average_resumes_bit_for_bit(
    val_fraction: float, quick: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = quick.override(
        {
            "train.ema": 0.95, "model.name": "net-batchnorm", "data.val_fraction": val_fraction,
            "train.epochs": 4, "train.precise_bn": True, "train.checkpoint_every": "7steps",
        }
    )  # fmt: skip  # one setting a line would say no more
    whole = train_run(config, tmp_path / "a", Display(quiet=True), lambda _: None)
    assert whole.test.accuracy > 0.8
    newest = load_newest(tmp_path / "a", print)
    assert newest is not None
    mean = newest.tensors["average/fc2.weight"]
    assert not torch.equal(mean, newest.tensors["model/fc2.weight"])
    if not val_fraction:
        kept = nunbit.load(tmp_path / "a").module.state_dict()
        assert torch.equal(kept["fc2.weight"], mean)
        measured = [name for name in kept if "running" in name]
        assert measured
        for name in measured:
            assert torch.equal(kept[name], newest.tensors[f"average/{name}"]), name

    original = loop.measure_norms

    def stopping(*given: object) -> None:
        original(*given)  # type: ignore[arg-type]
        if len(list((tmp_path / "b" / "checkpoints").glob("*"))) == 2:
            raise StoppedError("stopped", 2)  # while the network holds the average

    monkeypatch.setattr(loop, "measure_norms", stopping)
    with pytest.raises(StoppedError):
        train_run(config, tmp_path / "b", Display(quiet=True), lambda _: None)
    monkeypatch.undo()
    resume_run(tmp_path / "b", Display(quiet=True), lambda _: None)
    require_same_weights(tmp_path / "a", tmp_path / "b")


@pytest.mark.parametrize("value", [-0.1, 1.0, 5])
def test_other_decays_are_refused(value: float) -> None:
    with pytest.raises(UsageError, match=r"train\.ema is .*allowed: 0 to below 1"):
        RunConfig().override({"train.ema": value})
