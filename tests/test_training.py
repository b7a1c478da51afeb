"""One step, the loop, and what must never happen in them."""

import copy
import math
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import nunbit
from conftest import noisy_picture
from nunbit import evaluation
from nunbit.config import OptimConfig, RunConfig
from nunbit.data.loader import TrainLoader
from nunbit.data.pictures import ImageSet
from nunbit.data.preprocess import Preprocess
from nunbit.data.rows import Stoppable, batches
from nunbit.data.stats import digests
from nunbit.errors import DivergedError, StoppedError
from nunbit.evaluation import collect_logits, fitting, inputs
from nunbit.metrics import measure, wilson_interval
from nunbit.models.registry import build_model
from nunbit.progress import Display
from nunbit.run import train_run
from nunbit.runtime import Runtime, limited_threads, seeded
from nunbit.training import loop, step
from nunbit.training.loop import Batch, EpochResult, fit, keep_best, score_of, should_stop
from nunbit.training.loss import balanced_weights, penalty
from nunbit.training.optim import build_optimizer
from nunbit.training.schedule import lr_at
from nunbit.training.state import TrainState
from nunbit.training.step import Plan, train_step

CPU = Runtime(torch.device("cpu"), "fp32", 1)
PLAIN = Preprocess(height=8, width=8, channels=1, resize="crop", mean=(0.5,), std=(0.25,))


def stripes(n: int, seed: int = 0) -> ImageSet:
    """Pictures with bright rows (class 0) or bright columns (class 1) under noise."""
    rng = np.random.default_rng(seed)
    labels = torch.arange(n) % 2
    images = rng.integers(0, 120, (n, 8, 8, 1))
    images[0::2, ::2] += 120
    images[1::2, :, ::2] += 120
    pixels = torch.from_numpy(images.astype(np.uint8))
    return ImageSet(pixels, labels, [str(i) for i in range(n)], digests(pixels))


def parts(config: RunConfig, n: int = 96) -> tuple[TrainState, TrainLoader]:
    with seeded(config.train.seed, "init"):
        model = build_model(
            config.model.name,
            num_classes=2,
            in_channels=1,
            image_size=(8, 8),
            args=config.model.args,
        )
    loader = TrainLoader(stripes(n), PLAIN, config, CPU.device)
    return TrainState(model, build_optimizer(model, config.optim)), loader


def run(config: RunConfig, val: ImageSet | None = None) -> tuple[TrainState, list[EpochResult]]:
    state, loader = parts(config)
    return state, list(fit(state, loader, val, CPU, lambda items, _n, _label: iter(items)))


def weights(state: TrainState) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in state.model.parameters()])


def test_the_sums_are_on_the_device_of_the_network() -> None:
    """An update adds to them there; on the CPU beside a network on a GPU it would fail."""
    with torch.device("meta"):
        model = torch.nn.Linear(3, 2)
    assert TrainState(model, torch.optim.SGD(model.parameters())).sums.device.type == "meta"


def test_training_learns_and_gives_one_result_per_epoch(quick: RunConfig) -> None:
    config = quick.override({"train.epochs": 6, "train.batch_size": 16})
    state, results = run(config, stripes(40, seed=9))
    assert [r.epoch for r in results] == [1, 2, 3, 4, 5, 6]
    assert [r.step for r in results] == [6, 12, 18, 24, 30, 36]
    assert results[-1].train_loss < 0.5 * results[0].train_loss
    assert results[-1].val_accuracy == 1.0
    assert state.epoch == 6


def test_the_same_seed_gives_the_same_bits_and_another_does_not(quick: RunConfig) -> None:
    first, again = run(quick)[0], run(quick)[0]
    assert torch.equal(weights(first), weights(again))
    other = run(quick.override({"train.seed": 1}))[0]
    assert not torch.equal(weights(first), weights(other))


def test_validation_does_not_move_the_training(quick: RunConfig) -> None:
    config = replace(quick, model=replace(quick.model, name="cnn"))
    assert torch.equal(weights(run(config)[0]), weights(run(config, stripes(20))[0]))


def test_a_training_goes_on_from_any_step_with_the_same_bits(quick: RunConfig) -> None:
    config = quick.override({"train.epochs": 3, "train.batch_size": 32, "data.shift_pixels": 1})
    whole, _ = run(config)
    state, loader = parts(config)
    plan = Plan(config, CPU, config.train.epochs * loader.steps_per_epoch)
    with limited_threads(1):
        for x, y in list(loader.batches(0))[:2]:
            train_step(state, x, y, plan)
    list(fit(state, loader, None, CPU, lambda items, _n, _label: iter(items)))
    assert torch.equal(weights(whole), weights(state))
    assert state.step == 9


class Dropping(nn.Module):
    """A network whose outputs are only dropout, to see its random numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.5)
        self.weight = nn.Parameter(torch.ones(1))
        self.seen: list[torch.Tensor] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.drop(torch.ones(len(x), 2)) * self.weight
        self.seen.append(out.detach())
        return out


def test_dropout_is_a_function_of_the_step(quick: RunConfig) -> None:
    seen = []
    for noise in (1, 2):
        torch.manual_seed(noise)
        model = Dropping()
        state = TrainState(model, torch.optim.SGD(model.parameters(), lr=1e-9))
        for _ in range(2):
            x, y = torch.zeros(64, 1, 8, 8), torch.zeros(64, dtype=torch.int64)
            train_step(state, x, y, Plan(quick, CPU, 10))
        seen.append(model.seen)
    assert torch.equal(seen[0][0] > 0, seen[1][0] > 0)
    assert not torch.equal(seen[0][0] > 0, seen[0][1] > 0)


def test_balanced_weights_let_each_class_count_the_same() -> None:
    labels = torch.tensor([0] * 6 + [1] * 3 + [2])
    weights_K = balanced_weights(labels)
    assert weights_K.tolist() == pytest.approx([10 / 18, 10 / 9, 10 / 3])
    assert weights_K[labels].mean().item() == pytest.approx(1)
    sums = torch.bincount(labels, weights_K[labels].double())
    assert torch.allclose(sums, sums[:1].expand(3))


def test_a_balanced_update_weighs_the_loss_of_each_picture(quick: RunConfig) -> None:
    """torch's own `weight` would spread the smoothed share by weight: see below."""
    config = quick.override({"train.class_weight": "balanced", "train.label_smoothing": 0.1})
    state, loader = parts(config)
    loader = replace(
        loader, pictures=loader.pictures.select(torch.tensor([*range(0, 40, 2), 1, 3]))
    )
    same = copy.deepcopy(state.model)
    x, y = next(loader.batches(0))
    plan = Plan.of(loader, CPU, 10)
    assert plan.class_weight is not None
    assert plan.class_weight.tolist() == pytest.approx([22 / 40, 22 / 4])
    train_step(state, x, y, plan)
    logits = same(x)
    target = F.one_hot(y, 2) * 0.9 + 0.1 / 2
    loss_B = -(target * logits.log_softmax(1)).sum(1)
    (plan.class_weight[y] * loss_B).mean().backward()
    found = {n: p.grad for n, p in state.model.named_parameters()}
    for name, parameter in same.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad, msg=name)
    plain = F.cross_entropy(logits, y) * len(y)
    assert float(state.sums[0]) == pytest.approx(plain.item()), "what is logged is not weighted"
    assert Plan.of(parts(quick)[1], CPU, 10).class_weight is None


def test_an_epoch_is_chosen_by_what_the_training_asks_for(quick: RunConfig) -> None:
    labels = torch.tensor([0] * 8 + [1] * 2)
    logits = F.one_hot(torch.tensor([0] * 10), 2).float()
    assert score_of(logits, labels, quick) == pytest.approx(0.8)
    balanced = quick.override({"train.class_weight": "balanced"})
    assert score_of(logits, labels, balanced) == pytest.approx(0.5), "the mean over classes"
    assert score_of(logits[:8], labels[:8], balanced) == 1, "of the classes that are there"


def test_a_rare_class_is_found_more_often_if_it_counts_as_much(
    quick: RunConfig, tmp_path: Path
) -> None:
    for name, count, first in (("blue", 300, 0), ("green", 30, 500)):
        (tmp_path / "data" / name).mkdir(parents=True)
        for i in range(count):  # colours that overlap: neither is sure
            shade = int(np.random.default_rng(first + i).normal(120 if name == "blue" else 130, 8))
            picture = noisy_picture((60, shade, 120), first + i, (12, 12))
            picture.save(tmp_path / "data" / name / f"{i}.png")
    recalls = {}
    for kind in ("none", "balanced"):
        config = quick.override(
            {
                "data.source": str(tmp_path / "data"), "data.size": 8, "data.val_fraction": 0.0,
                "optim.lr": 3e-3, "train.epochs": 5, "train.batch_size": 32,
                "train.class_weight": kind, "train.label_smoothing": 0.1,
            }
        )  # fmt: skip  # one setting a line would say no more
        found = train_run(config, tmp_path / kind, Display(quiet=True), lambda _finished: None)
        recalls[kind] = found.train.per_class[1].recall
    assert recalls["none"] <= 0.3
    assert recalls["balanced"] >= 0.7


def test_a_loss_that_is_not_finite_stops_before_the_update(quick: RunConfig) -> None:
    state, loader = parts(quick)
    before = weights(state)
    x, y = next(iter(loader.batches(0)))
    x[0, 0, 0, 0] = math.nan
    with pytest.raises(DivergedError, match=r"step 0 \(learning rate 0.005\)"):
        train_step(state, x, y, Plan(quick, CPU, 10))
    assert torch.equal(weights(state), before)
    assert state.step == 0


def test_losses_that_nobody_looked_at_are_found_at_the_end_of_the_epoch(
    quick: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As on a GPU, where only every 50th is looked at.
    monkeypatch.setattr(step, "stop_if_not_finite", lambda *_: None)
    state, loader = parts(quick)

    def spoiled(batches: Iterable[Batch], _count: int, _label: str) -> Iterator[Batch]:
        for x, y in batches:
            yield x * math.nan, y

    with pytest.raises(
        DivergedError, match=r"the loss became nan before step 2.*--optim\.lr 0.0005"
    ):
        list(fit(state, loader, None, CPU, spoiled))


def test_such_an_epoch_names_no_pictures(
    quick: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoil(state: TrainState, x: torch.Tensor, y: torch.Tensor, plan: Plan) -> None:
        train_step(state, x, y, plan)
        state.sums *= math.nan

    monkeypatch.setattr(loop, "train_step", spoil)
    with pytest.raises(DivergedError, match=r"--optim\.lr 0\.0005$"):
        nunbit.train(quick, run_dir=tmp_path / "r", quiet=True)


def test_a_penalty_on_frozen_weights_is_nothing() -> None:
    model = nn.Linear(2, 2)
    model.weight.requires_grad = False
    assert penalty(model, OptimConfig(l1=1.0, l2=1.0)) == 0


def test_the_optimizer_holds_the_models_parameters_and_all_of_them_move(quick: RunConfig) -> None:
    state, loader = parts(quick.override({"optim.weight_decay": 0.1}))
    held = {id(p) for group in state.optimizer.param_groups for p in group["params"]}
    assert held == {id(p) for p in state.model.parameters()}
    decay = {
        id(p): group["weight_decay"]
        for group in state.optimizer.param_groups
        for p in group["params"]
    }
    for parameter in state.model.parameters():
        assert decay[id(parameter)] == (0.1 if parameter.ndim > 1 else 0.0)
    before = [p.detach().clone() for p in state.model.parameters()]
    x, y = next(iter(loader.batches(0)))
    train_step(state, x, y, Plan(quick, CPU, 10))
    for old, new in zip(before, state.model.parameters(), strict=True):
        assert not torch.equal(old, new)


def test_frozen_parameters_are_not_given_to_the_optimizer() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[0].requires_grad_(False)
    optimizer = build_optimizer(model, OptimConfig(name="sgd"))
    held = [p for group in optimizer.param_groups for p in group["params"]]
    assert {id(p) for p in held} == {id(p) for p in model[1].parameters()}


def test_l2_is_a_weight_decay_of_twice_lambda_for_sgd(quick: RunConfig) -> None:
    sgd = quick.override({"optim.name": "sgd", "optim.lr": 0.05, "train.epochs": 1})
    penalised = run(sgd.override({"optim.l2": 0.01}))[0]
    decayed = run(sgd.override({"optim.weight_decay": 0.02}))[0]
    assert torch.allclose(weights(penalised), weights(decayed), atol=1e-6)
    assert not torch.allclose(weights(penalised), weights(run(sgd)[0]), atol=1e-4)


def test_the_penalty_has_the_gradient_of_its_factor() -> None:
    model = nn.Linear(3, 2)
    penalty(model, OptimConfig(l1=0.5, l2=0.25)).backward()
    expected = 0.5 * model.weight.sign() + 0.5 * model.weight
    assert torch.allclose(model.weight.grad, expected.detach())  # type: ignore[arg-type]
    assert model.bias.grad is None


@pytest.mark.parametrize("steps", [1, 2, 7, 100])
def test_schedules_end_where_they_should(steps: int) -> None:
    for kind in ("constant", "cosine", "onecycle"):
        config = OptimConfig(lr=0.1, schedule=kind, warmup_fraction=0.25)  # type: ignore[arg-type]
        values = [lr_at(step, steps, config) for step in range(steps)]
        assert all(0 <= v <= 0.1 + 1e-12 for v in values)
        if steps > 2:
            end = {"constant": 0.1, "cosine": 0.0, "onecycle": 1e-5}[kind]
            assert values[-1] == pytest.approx(end, abs=1e-9)
    if steps == 100:
        assert max(values) == pytest.approx(0.1, rel=1e-2)
        assert values[0] == pytest.approx(0.1 / 25)
        assert 20 <= values.index(max(values)) <= 30


def test_early_stop_and_the_best_weights(quick: RunConfig) -> None:
    config = quick.override({"train.epochs": 30, "train.patience": 2, "train.batch_size": 16})
    state, loader = parts(config)
    val, seen = stripes(40, seed=3), []
    val.labels[:12] = 1 - val.labels[:12]  # wrong labels: nothing can improve for ever
    for result in fit(state, loader, val, CPU, lambda items, _n, _label: iter(items)):
        seen.append((result.val_accuracy, -result.val_loss))
        if should_stop(state, config):
            break
    assert len(seen) < 30
    best = keep_best(state.model, state)
    assert seen[best - 1] == max(seen)
    logits = collect_logits(state.model, val.images, PLAIN, CPU, 16)
    assert (logits.argmax(1) == val.labels).double().mean() == pytest.approx(seen[best - 1][0])


def reference(model: nn.Module, pictures: ImageSet) -> tuple[int, float]:
    """Count and sum as plainly as one can."""
    model.eval()
    correct, loss = 0, 0.0
    with torch.no_grad():
        for image, label in zip(pictures.images, pictures.labels, strict=True):
            x = ((image.float() / 255 - 0.5) / 0.25).permute(2, 0, 1)[None]
            logits = model(x)
            correct += int(logits.argmax() == label)
            loss += float(F.cross_entropy(logits, label[None]))
    return correct, loss / len(pictures)


@pytest.mark.parametrize("n", [1, 15, 16, 17, 31])
@pytest.mark.parametrize("name", ["net", "cnn"])
def test_evaluation_equals_a_plain_loop_for_any_last_batch(name: str, n: int) -> None:
    with seeded(1, "init"):
        model = build_model(name, num_classes=2, in_channels=1, image_size=(8, 8))
    pictures = stripes(n, seed=n)
    correct, loss = reference(model, pictures)
    model.train()
    model.get_submodule("fc1" if name == "net" else "stem").eval()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    logits = collect_logits(model, pictures.images, PLAIN, CPU, 16)
    found = measure(logits, pictures.labels, ("rows", "columns"))
    assert (found.n, found.correct) == (n, correct)
    assert found.loss == pytest.approx(loss, abs=1e-5)
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert model.training
    assert not model.get_submodule("fc1" if name == "net" else "stem").training


def test_a_network_that_gives_nan_is_not_measured() -> None:
    model = build_model("net", num_classes=2, in_channels=1, image_size=(8, 8))
    nn.init.constant_(model.get_submodule("fc2").weight, math.nan)  # type: ignore[arg-type]
    with pytest.raises(DivergedError, match="not finite"):
        collect_logits(model, stripes(4).images, PLAIN, CPU, 2)


def test_metrics_by_hand() -> None:
    labels = torch.tensor([0, 0, 0, 1, 1, 2])
    predicted = torch.tensor([0, 0, 1, 1, 1, 1])
    found = measure(F.one_hot(predicted, 3).float(), labels, ("a", "b", "c"))
    assert found.confusion == ((2, 1, 0), (0, 2, 0), (0, 1, 0))
    assert found.accuracy == 4 / 6
    a, b, c = found.per_class
    assert (a.precision, a.recall, a.n) == (1.0, pytest.approx(2 / 3), 3)
    assert (b.precision, b.recall) == (0.5, 1.0)
    assert (c.precision, c.recall, c.f1) == (0.0, 0.0, 0.0)


def test_metrics_are_those_of_scikit_learn() -> None:
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    generator = torch.Generator().manual_seed(0)
    labels, predicted = torch.randint(0, 7, (2, 200), generator=generator)
    labels[labels == 5], predicted[predicted == 2] = 4, 3  # a class without pictures, one unnamed
    found = measure(F.one_hot(predicted, 7).float(), labels, tuple("abcdefg"))
    pair = {"y_true": labels, "y_pred": predicted, "labels": range(7)}
    assert found.confusion == tuple(map(tuple, confusion_matrix(**pair).tolist()))
    expected = precision_recall_fscore_support(**pair, zero_division=0)
    rows = [(row.precision, row.recall, row.f1, row.n) for row in found.per_class]
    assert np.allclose(np.array(rows).T, expected, rtol=1e-12)


def test_wilson_intervals_of_the_literature() -> None:
    # Newcombe (1998), table I: 81/263, 15/148, 0/20, 1/29
    for correct, n, low, high in (
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ):
        assert wilson_interval(correct, n) == pytest.approx((low, high), abs=1e-4)
    with pytest.raises(ValueError, match="no pictures"):
        wilson_interval(0, 0)


GOLDEN = [0.7063, 0.6258, 0.3258, 0.0164]


def test_the_loss_trace_is_the_one_that_was_recorded(quick: RunConfig) -> None:
    config = quick.override({"train.epochs": 4, "train.batch_size": 16, "optim.lr": 0.02})
    assert [r.train_loss for r in run(config)[1]] == pytest.approx(GOLDEN, rel=0.05)


@pytest.mark.slow
def test_the_time_of_a_training_has_no_imports_in_it() -> None:
    """torch's first optimizer imports a compiler for a second or two; the second one nothing."""
    code = """
import sys
from nunbit.training.optim import load_optimizers
load_optimizers()
before = set(sys.modules)
from nunbit.config import OptimConfig
from nunbit.models.registry import build_model
from nunbit.training.optim import build_optimizer
model = build_model("cnn", num_classes=2, in_channels=3, image_size=(8, 8))
for name in ("sgd", "adam", "adamw", "muon"):
    build_optimizer(model, OptimConfig(name=name, momentum=0.6 if name == "muon" else 0.0))
print(sum(name.startswith("torch._dynamo") for name in set(sys.modules) - before))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "0"


def test_large_pictures_are_shown_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many `eval.batch_size` allows: 256 of 1,024 pixels are 3 GB, three times over."""
    pictures = stripes(10)
    monkeypatch.setattr(evaluation, "INPUT_BYTES", 4 * 4 * pictures.images[0].numel())
    shown = [len(x) for x in inputs(pictures.images, PLAIN, CPU, 256)]
    assert shown == [4, 4, 2]
    assert [len(x) for x in inputs(pictures.images, PLAIN, CPU, 3)] == [3, 3, 3, 1]
    monkeypatch.setattr(evaluation, "INPUT_BYTES", 1)
    assert [len(x) for x in inputs(pictures.images, PLAIN, CPU, 256)] == [1] * 10


def test_measuring_asks_before_each_batch_whether_to_go_on() -> None:
    pictures, asked = stripes(10), []

    def check() -> None:
        asked.append(True)
        if len(asked) == 3:
            raise StoppedError("stopped", 15)

    model = nn.Sequential(nn.Flatten(), nn.Linear(pictures.images[0].numel(), 2))
    with pytest.raises(StoppedError):
        collect_logits(model, Stoppable(pictures.images, check), PLAIN, CPU, 2)
    assert len(asked) == 3


def test_the_same_batches_are_shown_whoever_cuts_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """`nunbit report` cuts a split before it is shown; other batches may round otherwise."""
    images = stripes(100).images
    monkeypatch.setattr(evaluation, "INPUT_BYTES", 4 * 7 * images[0].numel())
    whole = [len(x) for x in inputs(images, PLAIN, CPU, 24)]
    parts = batches(images, fitting(images.shape, 24))
    assert [len(x) for part in parts for x in inputs(part, PLAIN, CPU, 24)] == whole
