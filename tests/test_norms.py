"""Batch norms measured anew: what changes, what must not, and when a user is told of them."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from conftest import require_same_weights
from nunbit import run, running
from nunbit.config import RunConfig
from nunbit.data.loader import TrainLoader
from nunbit.data.pictures import untracked
from nunbit.data.sources import open_source
from nunbit.data.splits import open_dataset
from nunbit.errors import StoppedError
from nunbit.finished import Finished
from nunbit.models.freeze import freeze
from nunbit.progress import Display
from nunbit.runtime import Runtime
from nunbit.training import loop
from nunbit.training.check import norm_fault
from nunbit.training.norms import measure_norms

FP32 = Runtime(torch.device("cpu"), "fp32", 1)


def small_network() -> nn.Sequential:
    """Return two norms with dropout between them, in train mode."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Dropout(0.9), nn.Conv2d(3, 2, 3),
        nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(32, 2),
    ).train()  # fmt: skip  # one layer a line would say no more


def batches(count: int) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    labels = torch.zeros(8, dtype=torch.int64)
    return [(torch.randn(8, 1, 8, 8, generator=generator), labels) for _ in range(count)]


def test_statistics_are_means_over_the_batches_with_dropout_off() -> None:
    model, shown = small_network(), batches(5)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    measure_norms(model, shown, FP32)
    first, second = model[1], model[5]
    assert isinstance(first, nn.BatchNorm2d)
    assert isinstance(second, nn.BatchNorm2d)
    with torch.no_grad():
        inputs = [model[0](x) for x, _ in shown]
        mean = torch.stack([x.mean((0, 2, 3)) for x in inputs]).mean(0)
        var = torch.stack([x.var((0, 2, 3)) for x in inputs]).mean(0)
        norms = [nn.functional.batch_norm(x, None, None, training=True) for x in inputs]
        deeper = [model[4](x.relu()) for x in norms]  # scale 1 and shift 0; nothing dropped
        deep_mean = torch.stack([x.mean((0, 2, 3)) for x in deeper]).mean(0)
    torch.testing.assert_close(first.running_mean, mean)
    torch.testing.assert_close(first.running_var, var)
    torch.testing.assert_close(second.running_mean, deep_mean)
    assert (first.momentum, second.momentum) == (0.1, 0.1)
    assert all(module.training for module in model.modules())
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]) == (".running_" not in name and "num_" not in name)


def test_a_second_measuring_forgets_the_first() -> None:
    model = small_network()
    measure_norms(model, batches(2), FP32)
    measure_norms(model, batches(7), FP32)
    once = small_network()
    measure_norms(once, batches(7), FP32)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, once.state_dict()[name]), name


def test_frozen_norms_keep_what_belongs_to_their_weights() -> None:
    model = small_network()
    freeze(model, "1")
    kept = model[1].state_dict()["running_mean"].clone()
    moved = model[5].state_dict()["running_mean"].clone()
    model.train()
    measure_norms(model, batches(3), FP32)
    assert torch.equal(model[1].state_dict()["running_mean"], kept)
    assert not torch.equal(model[5].state_dict()["running_mean"], moved)


@pytest.fixture
def lagging(quick: RunConfig, monkeypatch: pytest.MonkeyPatch) -> RunConfig:
    """Settings of a network whose norms follow so slowly that they fit no weights it ever had."""
    original = run.build_start

    def slow(*args: object) -> object:
        start = original(*args)  # type: ignore[arg-type]
        for module in start.model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 0.002
        return start

    monkeypatch.setattr(run, "build_start", slow)
    return quick.override({"model.name": "net-batchnorm", "data.val_fraction": 0.0})


def trained(config: RunConfig, folder: Path) -> Finished:
    return run.train_run(config, folder, Display(), lambda _finished: None)


def test_a_training_says_that_its_norms_lag_and_precise_ones_do_not(
    lagging: RunConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = trained(lagging, tmp_path / "a")
    assert "try --train.precise-bn true" in capsys.readouterr().err
    precise = trained(lagging.override({"train.precise_bn": True}), tmp_path / "b")
    assert "check:" not in capsys.readouterr().err
    assert precise.test.accuracy >= plain.test.accuracy + 0.1
    assert precise.train.accuracy >= precise.epochs[-1].running_accuracy - 0.05
    # The training itself is the same, bit for bit: only what is measured afterwards differs.
    assert [e.metrics() for e in precise.epochs] == [e.metrics() for e in plain.epochs]
    weights = dict(plain.classifier.module.named_parameters())
    for name, parameter in precise.classifier.module.named_parameters():
        assert torch.equal(parameter, weights[name]), name


def test_the_best_epoch_is_chosen_by_precise_norms(lagging: RunConfig, tmp_path: Path) -> None:
    config = lagging.override({"data.val_fraction": 0.2, "train.precise_bn": True})
    finished = trained(config, tmp_path / "r")
    best = max(e.val_accuracy or 0.0 for e in finished.epochs)
    assert finished.epochs[finished.kept_epoch - 1].val_accuracy == best
    plain = trained(config.override({"train.precise_bn": False}), tmp_path / "plain")
    assert best >= max(e.val_accuracy or 0.0 for e in plain.epochs) + 0.1
    assert finished.dataset.val is not None
    logits = finished.classifier.logits(finished.dataset.val.images)
    right = (logits.argmax(1) == finished.dataset.val.labels).double().mean()
    assert right == pytest.approx(best)


def test_a_network_without_batch_norms_is_as_before(quick: RunConfig, tmp_path: Path) -> None:
    plain = trained(quick, tmp_path / "a")
    precise = trained(quick.override({"train.precise_bn": True}), tmp_path / "b")
    assert torch.equal(plain.test_logits, precise.test_logits)


def test_a_resumed_run_ends_with_the_same_norms(
    quick: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = quick.override(
        {
            "model.name": "net-batchnorm",
            "data.val_fraction": 0.0,
            "train.epochs": 3,
            "train.precise_bn": True,
            "train.checkpoint_every": "7steps",
        }
    )
    whole = trained(config, tmp_path / "a")
    original = running.fit

    def stopping(*args: object) -> object:
        for result in original(*args):  # type: ignore[arg-type]
            yield result
            if result.epoch == 2:
                raise StoppedError("stopped", 2)

    monkeypatch.setattr(running, "fit", stopping)
    with pytest.raises(StoppedError):
        trained(config, tmp_path / "b")
    monkeypatch.undo()
    run.resume_run(tmp_path / "b", Display(quiet=True), lambda _finished: None)
    require_same_weights(whole.run_dir, tmp_path / "b")


def test_only_a_clear_fall_of_a_network_with_batch_norms_is_named() -> None:
    model = small_network()
    assert norm_fault(model, 0.9, 10_000, 0.86) is None
    assert norm_fault(model, 0.9, 10_000, 0.95) is None
    assert norm_fault(nn.Linear(2, 2), 0.9, 10_000, 0.5) is None
    assert norm_fault(model, 0.9, 64, 0.8) is None, "64 pictures may have been lucky"
    line = norm_fault(model, 0.9, 10_000, 0.75)
    assert line is not None
    assert line.startswith("90.0% of the last epoch's pictures were right while it trained, 75.0%")


def test_norms_are_measured_in_the_size_that_is_classified(
    quick: RunConfig, colours: Path, tmp_path: Path
) -> None:
    config = quick.override(
        {
            "data.source": str(colours), "data.size": 16, "data.small_size": 10,
            "data.small_fraction": 0.9, "model.name": "speednet", "data.val_fraction": 0.0,
            "train.epochs": 1, "train.batch_size": 8, "train.precise_bn": True,
        }
    )  # fmt: skip  # one setting a line would say no more
    finished = trained(config, tmp_path / "r")
    dataset, model = finished.dataset, finished.classifier.module.train()
    loader = TrainLoader(
        dataset.train, dataset.preprocess, config.override({"data.small_size": 0}), FP32.device
    )
    found = {n: t.clone() for n, t in model.state_dict().items() if "running" in n}
    measure_norms(model, loader.batches(0), FP32)
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, model.state_dict()[name], msg=name)


def test_as_many_pictures_are_seen_as_were_meant(quick: RunConfig) -> None:
    dataset = open_dataset(open_source("digits"), quick.data, 1, untracked)
    config = quick.override({"train.batch_size": 1_000, "data.small_size": 4})
    loader = TrainLoader(dataset.train, dataset.preprocess, config, FP32.device)
    assert loader.steps_per_epoch == 2, "batches are as equal as can be, here 647 and 648"
    shown = [x for x, _ in loop._shown_anew(loader, 0, lambda: None)]
    assert sum(map(len, shown)) == len(dataset.train) == 1_295, "all, where there are fewer"
    assert {x.shape[2:] for x in shown} == {(8, 8)}
