"""The parts of a fast training: precision by the clock, whitening, small pictures, views."""

import ctypes
import json
import math
import resource
import signal
import statistics
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import nunbit
from conftest import write_classes
from nunbit.cli import main
from nunbit.cli.train import result_lines
from nunbit.comparison import precision as shared
from nunbit.comparison.plan import plan_runs
from nunbit.config import RunConfig
from nunbit.data.loader import TrainLoader
from nunbit.data.preprocess import Preprocess
from nunbit.errors import StoppedError
from nunbit.evaluation import VIEW_COUNT, _views, collect_logits
from nunbit.finetuning import probe as probing
from nunbit.finished import Finished
from nunbit.models.registry import build_model
from nunbit.models.speednet import PATCH_EIGENVALUE_FLOOR, SpeedNet, Whitening
from nunbit.progress import Display
from nunbit.reading import OnceReader
from nunbit.reporting.page import run_page
from nunbit.reporting.reopen import reopened
from nunbit.run import resume_run, train_run
from nunbit.runtime import Runtime, seeded
from nunbit.signals import StopRequest
from nunbit.training import tempo
from nunbit.training.loop import fit
from nunbit.training.optim import build_optimizer
from nunbit.training.state import TrainState
from nunbit.training.step import Plan, train_step
from test_training import stripes

CPU = Runtime(torch.device("cpu"), "fp32", 1)
PLAIN = Preprocess(height=8, width=8, channels=1, resize="crop", mean=(0.5,), std=(0.25,))
SPEED = {
    "model.name": "speednet",
    "model.width": 4,
    "optim.name": "muon",
    "optim.lr": 0.1,
    "optim.momentum": 0.6,
    "optim.schedule": "linear",
    "data.flip": True,
    "data.cutout": 3,
    "data.small_size": 10,
    "data.small_fraction": 0.5,
    "train.batch_size": 16,
    "train.epochs": 4,
    "train.max_steps": 9,
    "eval.views": "both",
}


def parts(config: RunConfig, n: int = 96, name: str = "cnn") -> tuple[TrainState, TrainLoader]:
    with seeded(0, "init"):
        model = build_model(
            name, num_classes=2, in_channels=1, image_size=(8, 8), args={"width": 4}
        )
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    loader = TrainLoader(stripes(n), PLAIN, config, CPU.device)
    return TrainState(model, build_optimizer(model, config.optim)), loader


def epochs_of(state: TrainState, loader: TrainLoader) -> list[Any]:
    return list(fit(state, loader, None, CPU, lambda items, _n, _label: iter(items)))


# The number of updates


def test_a_run_ends_inside_an_epoch_with_its_schedule(quick: RunConfig) -> None:
    config = quick.override(
        {"train.batch_size": 16, "train.epochs": 5, "train.max_steps": 8, "optim.lr": 0.09,
         "optim.schedule": "linear", "optim.warmup_fraction": 0.0}
    )  # fmt: skip
    labels: list[str] = []
    state, loader = parts(config)

    def watch(items: Any, _count: int, label: str) -> Any:
        labels.append(label)
        return iter(items)

    first, last = fit(state, loader, None, CPU, watch)
    assert (first.step, first.images, last.step, last.images) == (6, 96, 8, 32)
    assert first.lr == pytest.approx(0.03)
    assert last.lr == pytest.approx(0.01), "a ninth of the peak: the schedule ended"
    assert (state.step, state.epoch, last.epoch) == (8, 2, 2)
    assert labels == ["epoch 1/2", "epoch 2/2"]


@pytest.mark.parametrize("most", [0, 8])
def test_an_epoch_is_counted_though_the_run_was_killed_after_its_last_update(
    quick: RunConfig, most: int
) -> None:
    config = quick.override({"train.batch_size": 16, "train.epochs": 2, "train.max_steps": most})
    whole = epochs_of(*parts(config))
    state, loader = parts(config)
    for result in fit(state, loader, None, CPU, lambda items, _n, _label: iter(items)):
        assert result.epoch == 1
        break
    plan = Plan(config, CPU, loader.total_steps)
    torch_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for x, y in list(loader.batches(1))[: loader.total_steps - 6]:
        train_step(state, x, y, plan)
    torch.set_num_threads(torch_threads)
    state.seconds_in_epoch = 1.0
    (last,) = epochs_of(state, loader)
    assert last.metrics() == whole[-1].metrics()


# Small pictures first


def test_a_network_of_one_size_is_refused_in_one_line(
    colours: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", "--data", str(colours), "--data.size", "16", "--run-dir", "r", "--quiet"]
    assert main([*words, "--model", "net", "--data.small-size", "8"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "cannot take pictures of 8 pixels: set data.small_size to 0" in error
    assert main([*words, "--data.small-size", "16"]) == 2
    assert "data.small_size is 16; the pictures are 16x16" in capsys.readouterr().err
    for name in ("cutout", "shift_pixels"):  # a picture would be one grey, or turned over and over
        given = [f"--data.{name}", "16"]
        assert main([*words, *given]) == 2
        assert f"data.{name} is 16; the pictures are 16x16: set it below" in capsys.readouterr().err
    assert not Path("r").exists()


# Going on


def train_quietly(config: RunConfig, run_dir: Path) -> Finished:
    """Train without the pages, which take longer than such a training."""
    return train_run(config, run_dir, Display(quiet=True), lambda _finished: None)


def stop_after(updates: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a signal come after some updates."""
    done: list[int] = []

    def counted(*args: Any) -> None:
        train_step(*args)
        done.append(1)
        if len(done) == updates:
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr("nunbit.training.loop.train_step", counted)


@pytest.mark.parametrize("updates", [4, 9])
def test_all_of_it_goes_on_bit_for_bit(
    updates: int, quick: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Four of nine updates are of small pictures: a run stops before the change and goes on behind
    # it, or it stops after its last update, inside an epoch.
    data = write_classes(tmp_path / "data", 30)
    config = quick.override({**SPEED, "data.source": str(data), "data.size": 16})
    whole = train_quietly(config, tmp_path / "whole")
    assert [e.step for e in whole.epochs] == [5, 9]
    assert TrainLoader(whole.dataset.train, PLAIN, config, CPU.device).small_steps == 4
    with monkeypatch.context() as patch:
        stop_after(updates, patch)
        with pytest.raises(StoppedError):
            train_quietly(config, tmp_path / "other")
    other = resume_run(tmp_path / "other", Display(quiet=True), lambda _finished: None)
    assert other is not None
    first, second = (run.classifier.module.state_dict() for run in (whole, other))
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert [e.metrics() for e in whole.epochs] == [e.metrics() for e in other.epochs]
    assert torch.equal(whole.test_logits, other.test_logits)
    assert whole.views == other.views


# Views


class Corner(nn.Module):
    """Answers with the pixel in the upper left corner, so that views can be told apart."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.stack([x[:, 0, 0, 0], -x[:, 0, 0, 0]], 1)


def test_views_are_the_mean_of_what_each_gives() -> None:
    images = torch.arange(2 * 4 * 5, dtype=torch.uint8).view(2, 4, 5, 1)
    plain = replace(PLAIN, height=4, width=5, mean=(0.0,), std=(1 / 255,))

    def seen(views: str) -> list[float]:
        logits = collect_logits(Corner(), images, plain, CPU, 2, views)  # type: ignore[arg-type]
        assert torch.equal(logits[:, 1], -logits[:, 0])
        return logits[:, 0].tolist()

    assert seen("one") == [0, 20]
    assert seen("mirror") == [2, 22]  # corners 0 and 4
    # Up and left fills by reflection, pixel (1, 1) = 6; down and right shows (1, 1) as well; their
    # mirror images begin with (1, 3) = 8.
    assert seen("shift") == pytest.approx([(0 + 2 * 6) / 3, (20 + 2 * 26) / 3])
    assert seen("both") == pytest.approx([(0 + 4 + 2 * (6 + 8)) / 6, 20 + 32 / 6])


def test_two_views_are_the_mean_of_both_networks_answers() -> None:
    with seeded(0, "init"):
        model = build_model("cnn", num_classes=3, in_channels=1, image_size=(8, 8))
    images = stripes(10).images
    one = collect_logits(model, images, PLAIN, CPU, 4)
    other = collect_logits(model, images.flip(2), PLAIN, CPU, 4)
    both = collect_logits(model, images, PLAIN, CPU, 4, "mirror")
    torch.testing.assert_close(both, (one + other) / 2)
    assert not torch.equal(both, one)
    tiny = torch.zeros(1, 1, 1, 1, dtype=torch.uint8)
    lone = replace(PLAIN, height=1, width=1)
    assert collect_logits(Corner(), tiny, lone, CPU, 1, "both").isfinite().all()


def test_the_result_over_views_stands_beside_the_plain_one(
    quick: RunConfig, tmp_path: Path
) -> None:
    config = quick.override({"train.epochs": 1})
    plain = train_quietly(config, tmp_path / "one").to_dict()
    finished = train_quietly(config.override({"eval.views": "mirror"}), tmp_path / "two")
    result = json.loads((tmp_path / "two" / "result.json").read_text())
    assert "test_views" not in plain
    assert result["test"] == plain["test"], "the figure of one view is as it was"
    views = result["test_views"]
    assert (views["views"], views["n"]) == ("mirror", plain["test"]["n"])
    low, high = views["ci95"]
    assert low < views["accuracy"] < high
    said = f"mean over views (mirror) {views['accuracy']:.2%} (95 % interval {low:.2%} to"
    assert said in "\n".join(result_lines(finished.to_dict()))
    assert "mean over views" not in "\n".join(result_lines(plain))
    page = run_page(finished)
    assert "Mean over views" in page
    assert f"mirror; 95 % interval {100 * low:.1f}" in page
    assert "Mean over views" not in run_page(replace(finished, views=None))
    with reopened(tmp_path / "two", Display(quiet=True)) as again:
        assert again.views == finished.views


# Whitening


def correlated(n: int, channels: int = 3, side: int = 12) -> torch.Tensor:
    """Smooth pictures whose channels are alike, as photographs are."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, 1, side, side, generator=generator)
    x = F.avg_pool2d(F.pad(x, (1,) * 4, "reflect"), 3, stride=1)
    return x + 0.1 * torch.randn(n, channels, side, side, generator=generator)


@pytest.mark.parametrize(("channels", "filters"), [(1, 4), (3, 12)])
def test_whitened_patches_are_uncorrelated(channels: int, filters: int) -> None:
    x = correlated(200, channels)
    layer = Whitening(channels, 1)
    assert layer.channels_out == 2 * filters
    patches = F.unfold(x, 2, stride=2).transpose(1, 2).flatten(0, 1)
    moments = patches.T @ patches / len(patches)
    assert (moments - moments.diag().diag()).abs().max() > 0.09, "they are correlated before"
    layer.fit(x)
    white = F.conv2d(x, layer.weight, stride=2).transpose(0, 1).flatten(1)
    found = white @ white.T / white.shape[1]
    # The variance v of a direction becomes v / (v + floor).
    values = torch.linalg.eigvalsh(moments).flip(0)
    once = (values / (values + PATCH_EIGENVALUE_FLOOR)).diag()
    expected = torch.cat([torch.cat([once, -once], 1), torch.cat([-once, once], 1)])
    torch.testing.assert_close(found, expected, atol=2e-3, rtol=0)
    assert float(once.diag().min()) > 0.9
    assert torch.equal(layer.weight[filters:], -layer.weight[:filters])


def test_larger_patches_keep_the_directions_of_greatest_variance() -> None:
    x = correlated(60, 3, 16)
    layer = Whitening(3, 2)
    assert layer.weight.shape == (48, 3, 4, 4)
    layer.fit(x)
    patches = F.unfold(x, 4, stride=4).transpose(1, 2).flatten(0, 1)
    values = torch.linalg.eigvalsh(patches.T @ patches / len(patches)).flip(0)[:24]
    length = layer.weight[:24].flatten(1).square().sum(1)
    torch.testing.assert_close(length, 1 / (values + PATCH_EIGENVALUE_FLOOR), rtol=1e-3, atol=0)


def test_the_whitening_is_fitted_to_all_classes_never_trained_and_stored(
    quick: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_classes(tmp_path / "data", 12)
    monkeypatch.setattr("nunbit.start.PREPARE_PICTURES", 9)
    monkeypatch.setattr("nunbit.start.PREPARE_PIXELS", 1)
    given: list[torch.Tensor] = []
    fit_it = Whitening.fit

    def spy(self: Whitening, x: torch.Tensor) -> None:
        assert torch.get_num_threads() == 1, "of the run"
        fit_it(self, x)
        given.extend([x, self.weight.clone()])

    monkeypatch.setattr(Whitening, "fit", spy)
    settings = {"model.name": "speednet", "model.width": 4, "train.epochs": 1, "data.size": 16}
    finished = train_quietly(quick.override({**settings, "data.source": str(data)}), tmp_path / "r")
    pictures, weight = given
    assert pictures.shape == (9, 3, 16, 16)
    hues = {int(picture.mean((1, 2)).argmax()) for picture in pictures}
    assert hues == {0, 1, 2}, "red, green and blue, though the folders are in order"
    stored = nunbit.load(tmp_path / "r").module
    assert isinstance(stored, SpeedNet)
    assert torch.equal(stored.whitening.weight, weight)
    kept = finished.classifier.module.state_dict()
    assert torch.equal(stored.whitening.weight, kept["whitening.weight"])
    assert "whitening.weight" not in dict(stored.named_parameters())


def test_the_first_logits_say_little() -> None:
    torch.manual_seed(0)
    model = SpeedNet(10, 3, (32, 32), width=8)
    x, y = torch.randn(64, 3, 32, 32), torch.arange(64) % 5
    for classes in (10, 5):
        model.reset_head(classes)
        loss = F.cross_entropy(model(x), y).item()
        assert loss == pytest.approx(math.log(classes), abs=0.5)


def test_a_large_first_layer_is_bounded_before_it_takes_memory() -> None:
    with torch.device("meta"):
        assert Whitening(3, 32).weight.shape == (48, 3, 64, 64)
    assert Whitening(3, 32).weight.numel() < 600_000


def test_a_plan_counts_as_many_views_as_are_measured() -> None:
    x = torch.rand(2, 3, 8, 8)
    for views, count in VIEW_COUNT.items():
        assert len(_views(x, views)) == count  # type: ignore[arg-type]  # its keys are the words


# Precision


class Clock:
    """A clock that an update moves by what its precision is said to cost."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, *, by_picture: bool = False, **costs: float
    ) -> None:
        self.now, self.updates = 0.0, {"fp32": 0, "bf16": 0}
        step = tempo.train_step

        def timed(state: TrainState, x: torch.Tensor, y: torch.Tensor, plan: Plan) -> None:
            step(state, x, y, plan)
            self.now += costs[plan.runtime.precision] * (len(y) if by_picture else 1)
            self.updates[plan.runtime.precision] += 1

        monkeypatch.setattr(tempo, "train_step", timed)
        monkeypatch.setattr(tempo, "time", SimpleNamespace(perf_counter=lambda: self.now))


def has_bf16(monkeypatch: pytest.MonkeyPatch, answer: bool) -> None:
    monkeypatch.setattr(tempo, "multiplies_bf16", lambda _device: answer)


@pytest.mark.parametrize(
    ("fp32", "bf16", "chosen"),
    [(0.2, 0.1, "bf16"), (0.1, 0.2, "fp32"), (0.105, 0.1, "fp32"), (0.115, 0.1, "bf16")],
)
def test_the_faster_precision_is_taken_and_nothing_is_changed(
    fp32: float, bf16: float, chosen: str, quick: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    has_bf16(monkeypatch, True)
    state, loader = parts(quick.override({"train.precision": "auto", "optim.name": "sgd"}))
    before = {key: value.clone() for key, value in state.model.state_dict().items()}
    assert any("running_mean" in key for key in before)
    random, state.model.training = torch.get_rng_state(), False
    clock = Clock(monkeypatch, fp32=fp32, bf16=bf16)
    found = tempo.settle_precision(state.model, loader, CPU)
    assert found == replace(CPU, precision=chosen)
    assert 3 <= clock.updates["fp32"] == clock.updates["bf16"] <= tempo.MAX_ROUNDS + 3
    assert clock.now <= tempo.SECONDS
    after = state.model.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert torch.equal(torch.get_rng_state(), random)
    assert not state.model.training
    assert all(p.grad is None for p in state.model.parameters())


def test_a_slow_network_is_timed_on_fewer_pictures(
    quick: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An update of resnet18 with 32 pictures takes 0.63 and 0.34 s on two cores."""
    has_bf16(monkeypatch, True)
    state, loader = parts(quick.override({"train.precision": "auto", "train.batch_size": 32}))
    clock = Clock(monkeypatch, by_picture=True, fp32=0.63 / 32, bf16=0.34 / 32)
    assert tempo.settle_precision(state.model, loader, CPU).precision == "bf16"
    assert clock.updates["bf16"] >= 3
    assert clock.now < 1.8


def test_one_odd_time_does_not_choose_the_precision(
    quick: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The least of ten times chose fp32 for birds/net in two of five processes."""
    has_bf16(monkeypatch, True)
    state, loader = parts(quick.override({"train.precision": "auto"}))
    clock = Clock(monkeypatch, fp32=0.02, bf16=0.01)
    step = tempo.train_step

    def with_one_jump(state: TrainState, x: torch.Tensor, y: torch.Tensor, plan: Plan) -> None:
        step(state, x, y, plan)
        if plan.runtime.precision == "fp32" and clock.updates["fp32"] == 6:
            clock.now -= 0.015  # as if it had taken a quarter

    monkeypatch.setattr(tempo, "train_step", with_one_jump)
    assert tempo.settle_precision(state.model, loader, CPU).precision == "bf16"


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="needs glibc's allocator")
def test_the_memory_of_tensors_that_are_gone_is_used_again() -> None:
    """Else the system would clear all their pages for each update; seen in a fresh process."""
    code = """import resource, torch
from nunbit.runtime import limited_threads
with limited_threads(1):
    for _ in range(15):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        many = [torch.ones(2 * 2**20) for _ in range(20)]  # of 8 MiB, as activations are
        del many
        print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    faults = [int(line) for line in done.stdout.split()]
    pages = 160 * 2**20 // resource.getpagesize()
    assert statistics.median(faults[4:]) < pages / 20, faults  # a few find gaps that are too small


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="needs glibc's figures")
@pytest.mark.slow
def test_measuring_many_batches_takes_no_more_memory_than_a_few() -> None:
    """Their rows, kept apart, left up to 79 gaps for pictures, all too small; a fresh process."""
    code = """import ctypes, random, torch
from nunbit.data.preprocess import Preprocess
from nunbit.evaluation import collect_logits
from nunbit.models.registry import build_model
from nunbit.runtime import Runtime, limited_threads

class Heap(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in ("bytes", *"abcdefghi")]

heap_now = ctypes.CDLL(None).mallinfo2
heap_now.restype = Heap
model = build_model("net", num_classes=10, in_channels=3, image_size=(16, 16), args={"width": 4})
as_it_is = dict(height=16, width=16, channels=3, resize="crop", mean=(0,) * 3, std=(1,) * 3)
given = Preprocess(**as_it_is), Runtime(torch.device("cpu"), "fp32", 1), 256
images = torch.zeros(100 * 256, 16, 16, 3, dtype=torch.uint8)
before = heap_now().bytes
for _ in range(5):
    with limited_threads(1):
        collect_logits(model, images, *given)
    gaps = [torch.empty(random.randrange(700_000)) for _ in range(4)][::2]
print(heap_now().bytes - before)"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    batches = int(done.stdout) / (256 * 16 * 16 * 3 * 4)
    assert batches < 30, f"the heap grew by {batches:.0f} of 500 batches"


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="needs glibc's figures")
def test_blocks_that_no_gap_would_fit_go_back_to_the_system() -> None:
    """Kept by malloc, blocks of 64 MB took up to 600 MB more in half of all processes."""
    code = """import ctypes, torch
from nunbit.runtime import limited_threads

class Heap(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in "abcd" "efghij"]

heap_now = ctypes.CDLL(None).mallinfo2
heap_now.restype = Heap
with limited_threads(1):
    before = heap_now().e  # bytes of blocks that the system gave for themselves
    x = torch.empty(16 * 2**20)
    print(heap_now().e - before)
    del x
    print(heap_now().e - before)"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    held, afterwards = map(int, done.stdout.split())
    assert held >= 64 * 2**20
    assert afterwards <= 0


@pytest.mark.parametrize(("precision", "answer"), [("auto", False), ("fp32", True)])
def test_nothing_is_timed_where_nothing_is_to_choose(
    precision: str, answer: bool, quick: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    has_bf16(monkeypatch, answer)
    state, loader = parts(quick.override({"train.precision": precision}))
    clock = Clock(monkeypatch, fp32=1, bf16=0.1)
    assert tempo.settle_precision(state.model, loader, CPU) == CPU
    assert clock.now == 0


def test_a_network_that_diverges_at_once_is_left_to_the_training(
    quick: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    has_bf16(monkeypatch, True)
    state, loader = parts(quick.override({"train.precision": "auto"}))
    nn.init.constant_(next(state.model.parameters()), float("nan"))
    assert tempo.settle_precision(state.model, loader, CPU) == CPU


def test_the_choice_is_written_down_and_kept(
    quick: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    has_bf16(monkeypatch, True)
    clock = Clock(monkeypatch, fp32=0.2, bf16=0.1)
    auto = quick.override({"train.precision": "auto", "train.epochs": 1})
    finished = train_quietly(auto, tmp_path / "r")
    assert finished.runtime.precision == "bf16"
    written = RunConfig.from_json((tmp_path / "r" / "config.json").read_text())
    assert written.train.precision == "bf16"
    timed = clock.now
    again = train_quietly(written, tmp_path / "again")
    assert torch.equal(again.test_logits, finished.test_logits)
    (tmp_path / "r" / "result.json").unlink()
    resumed = resume_run(tmp_path / "r", Display(quiet=True), lambda _finished: None)
    assert resumed is not None
    assert resumed.runtime.precision == "bf16"
    assert torch.equal(resumed.test_logits, finished.test_logits)
    assert clock.now == timed, "neither repeating nor resuming times anything"


def test_seeds_of_a_recipe_share_one_precision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["digits/cnn:model.width=4", "digits/cnn:model.width=8"]
    _, runs = plan_runs(names, 3, None, {"train.threads": 1, "train.device": "cpu"}, tmp_path)
    has_bf16(monkeypatch, True)
    clock = Clock(monkeypatch, fp32=0.2, bf16=0.1)
    read, quiet, go_on = OnceReader(), Display(quiet=True), StopRequest()
    settled = shared.share_precision(runs, runs, read, quiet, go_on)
    assert [run.config.train.precision for run in settled] == ["bf16"] * 6
    assert clock.updates["bf16"] <= 2 * tempo.MAX_ROUNDS, "once for each recipe"
    # One seed has begun in fp32: the others of its recipe follow it, and nothing is timed for them.
    begun = settled[0].config.override({"train.precision": "fp32"})
    runs[0].run_dir.mkdir(parents=True)
    (runs[0].run_dir / "config.json").write_text(begun.to_json())
    settled = shared.share_precision(runs, runs[1:], read, quiet, go_on)
    found = {(r.label, r.config.train.precision) for r in settled}
    assert found == {(names[0], "fp32"), (names[1], "bf16")}
    has_bf16(monkeypatch, False)
    settled = shared.share_precision(runs, runs, read, quiet, go_on)
    assert [r.config.train.precision for r in settled] == ["fp32", "auto"] * 3


def test_seeds_that_are_added_on_another_machine_have_the_precision_of_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["digits/cnn:model.width=4", "digits/cnn:model.width=8"]
    _, runs = plan_runs(names, 2, None, {"train.threads": 1, "train.device": "cpu"}, tmp_path)
    begun = runs[0].config.override({"train.precision": "bf16"})
    runs[0].run_dir.mkdir(parents=True)
    (runs[0].run_dir / "config.json").write_text(begun.to_json())
    has_bf16(monkeypatch, False)
    settled = shared.share_precision(runs, runs[1:], OnceReader(), Display(), StopRequest())
    assert [r.config.train.precision for r in settled] == ["auto", "bf16", "auto"]
    said = capsys.readouterr().err
    assert said.count(f"{names[0]} goes on in bf16") == 1
    assert names[1] not in said


def test_finetuning_settles_the_precision_of_its_features() -> None:
    def probe(precision: Any, forward: float, fresh: int = 100) -> probing.Probe:
        return probing.Probe(96, forward, fresh, 9.0, precision)

    for exact, short, taken in (
        (probe("fp32", 0.2), probe("bf16", 0.1), "bf16"),
        (probe("fp32", 0.105), probe("bf16", 0.1), "fp32"),
        (probe("fp32", 0.2, fresh=0), probe("bf16", 0.1), "fp32"),  # known already
        (probe("fp32", 0.1), probe("bf16", 0.2, fresh=3), "bf16"),
    ):
        assert probing._faster(exact, short).precision == taken
