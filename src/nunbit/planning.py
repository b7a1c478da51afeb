"""A plan for this machine and this time: how wide a network, for how many updates.

`--budget 60s` is the time for everything from the call to the report. A short probe trains each
width for a few updates; the plan is plain settings, so that a run can be repeated exactly.

How much of the time goes into a wider network and how much into more updates follows one rule: the
pictures trained on are in proportion to the cost of a picture. It was read off trainings of 50 to
100 s with widths 16 to 32 (docs/log.md) and also meets the recipe of K. Jordan (arXiv 2404.00498),
whose network costs six times as much a picture and sees five times as many.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import chain, count

import torch

from nunbit.config import RunConfig
from nunbit.data.loader import TrainLoader
from nunbit.data.named import NAMED
from nunbit.data.splits import Dataset
from nunbit.errors import UsageError
from nunbit.evaluation import eval_mode
from nunbit.language import tr
from nunbit.progress import Display
from nunbit.reading import Read, read_dataset
from nunbit.recipes.speed import fast
from nunbit.runtime import Runtime, choose_runtime, limited_threads
from nunbit.signals import stop_requests
from nunbit.start import build_start
from nunbit.training.optim import build_optimizer
from nunbit.training.state import TrainState
from nunbit.training.step import Plan, train_step
from nunbit.training.tempo import settle_precision

WIDTHS = (8, 12, 16, 24, 32, 48, 64, 96, 128)
MIDDLE_WIDTH = 32
BALANCE = 2.5e-3  # pictures trained on for each FLOP of a forward pass over one picture
PROBE_PICTURES, PROBE_UPDATES = 256, 4
WANTED_UPDATES = 300  # fewer learn too little, more make batches too small for the hardware
BATCH_SIZES = (64, 128, 256, 512)
SMALL_SIDE, SMALL_FROM = 0.625, 24  # of the side; smaller pictures than 24 pixels stay as they are
FORWARD_COST = 0.36  # of an update
REPORT_SECONDS = 5.0
MEASURED = 5_000  # training pictures at the end
MANY_EPOCHS = 8  # from which on photographs are also enlarged and relit


@dataclass(frozen=True)
class Candidate:
    """One network, and how fast it trains here."""

    config: RunConfig
    runtime: Runtime
    flops: float
    """Of a forward pass over one picture."""
    small_seconds: float
    """Of an update, for each picture, in the first part of the run."""
    full_seconds: float
    """The same in the second part."""

    @property
    def seconds(self) -> float:
        """Mean time of a picture over the run."""
        small = self.config.data.small_fraction if self.config.data.small_size else 0.0
        return small * self.small_seconds + (1 - small) * self.full_seconds

    def pictures(self, dataset: Dataset, budget_seconds: float) -> float:
        """Return how many pictures can be trained on, with repeats."""
        measured = len(dataset.test) + min(MEASURED, len(dataset.train))
        forward = FORWARD_COST * self.full_seconds
        return (budget_seconds - REPORT_SECONDS - measured * forward) / self.seconds


def budget_config(source: str) -> RunConfig:
    """Return the settings that a plan for a data source starts from."""
    config = fast("budget", source, width=WIDTHS[0], epochs=1)
    size = 16 if source == "digits" else 0  # 8 pixels leave nothing to three halvings
    return config.override({"eval.train_pictures": MEASURED, "data.size": size})


def plan_training(
    config: RunConfig,
    dataset: Dataset,
    runtime: Runtime,
    deadline: float,
    say: Callable[[str], None],
) -> RunConfig:
    """Return settings that use the time until `deadline` best, and say which.

    A network that the settings name stays; without one (`recipe` is "budget") its width is chosen.

    Args:
        config: what is to be trained; its epochs, and perhaps more, are replaced.
        dataset: its pictures, read already.
        runtime: the device and threads.
        deadline: when all must be done, on the clock of `time.perf_counter`.
        say: prints one line.

    Raises:
        UsageError: the time is too short for one epoch's share of updates.
    """
    is_free = config.recipe == "budget"
    if is_free:
        side = min(dataset.preprocess.height, dataset.preprocess.width)
        small = round(SMALL_SIDE * side) if side >= SMALL_FROM else 0
        config = replace(config, data=replace(config.data, small_size=small))
    best = _choose(config, dataset, runtime, deadline) if is_free else None
    candidate = best or _time(config, dataset, runtime, config.train.batch_size)
    batch = config.train.batch_size
    if is_free:
        left = deadline - time.perf_counter()
        batch = _batch_size(max(1.0, candidate.pictures(dataset, left)))
        candidate = _time(candidate.config, dataset, candidate.runtime, batch)
    left = deadline - time.perf_counter()
    steps = int(candidate.pictures(dataset, left) / batch)
    if steps < 1:
        raise UsageError(
            "the budget leaves {left:.0f} s, which is too little to train; give a longer one",
            left=max(0.0, left),
        )
    return _settled(candidate, dataset, batch, steps, say)


def planned(config: RunConfig, seconds: float, display: Display) -> tuple[RunConfig, Read]:
    """Return settings for a budget, and what hands the pictures on that were read for them.

    Args:
        config: from `budget_config`, or of a recipe whose length is to be chosen.
        seconds: for everything from here to the report.
        display: where progress goes.
    """
    deadline = time.perf_counter() + seconds
    runtime = choose_runtime(config.train)
    with stop_requests() as stop:
        dataset = read_dataset(config, runtime, display, stop)
    return plan_training(config, dataset, runtime, deadline, display.say), lambda *_: dataset


def _choose(config: RunConfig, dataset: Dataset, runtime: Runtime, deadline: float) -> Candidate:
    """Return the candidate whose width and length are in balance for the time left."""
    best, nearest = None, math.inf
    # Once, for all: at a middle width, since the narrowest gain less from bf16 than those chosen.
    middle = _build(config.override({"model.width": MIDDLE_WIDTH}), dataset, runtime)
    precision = settle_precision(*middle, runtime).precision
    config = config.override({"train.precision": precision})
    runtime = replace(runtime, precision=precision)
    for width in WIDTHS:
        candidate = _time(config.override({"model.width": width}), dataset, runtime)
        pictures = candidate.pictures(dataset, deadline - time.perf_counter())
        distance = abs(math.log(max(pictures, 1.0) / candidate.flops / BALANCE))
        if distance >= nearest:  # the wider, the fewer pictures: it only gets worse
            break
        best, nearest = candidate, distance
    assert best is not None
    return best


def _settled(
    candidate: Candidate, dataset: Dataset, batch: int, steps: int, say: Callable[[str], None]
) -> RunConfig:
    config = candidate.config
    pictures = len(dataset.train)
    epochs = math.ceil(steps / max(1, math.ceil(pictures / batch)))
    data = config.data
    is_photographs = config.recipe == "budget" and data.source not in NAMED
    if is_photographs and epochs >= MANY_EPOCHS:
        data = replace(data, shift_pixels=4, zoom=0.3, light=0.2)
    train = replace(
        config.train,
        batch_size=batch,
        epochs=epochs,
        max_steps=steps,
        precision=candidate.runtime.precision,
    )
    say(
        tr(
            "plan: {name}{width}, {steps:,} updates of {batch} pictures ({passes:.1f} epochs), "
            "about {seconds:.0f} s of training in {precision}",
            name=config.model.name,
            width=tr(" of width {width}", width=config.model.args["width"])
            if "width" in config.model.args
            else "",
            steps=steps,
            batch=batch,
            passes=steps * batch / pictures,
            seconds=steps * batch * candidate.seconds,
            precision=candidate.runtime.precision,
        )
    )
    return replace(config, data=data, train=train)


def _batch_size(pictures: float) -> int:
    """Return the batch size that gives about the wanted number of updates."""
    return min(BATCH_SIZES, key=lambda size: abs(math.log(pictures / size / WANTED_UPDATES)))


def _build(
    config: RunConfig, dataset: Dataset, runtime: Runtime, batch_size: int = PROBE_PICTURES
) -> tuple[torch.nn.Module, TrainLoader]:
    """Return a network and batches to try it on."""
    probe = config.override({"train.batch_size": min(batch_size, len(dataset.train))})
    model = build_start(probe, dataset, runtime).model
    return model, TrainLoader(dataset.train, dataset.preprocess, probe, runtime.device)


def _time(
    config: RunConfig, dataset: Dataset, runtime: Runtime, batch_size: int = PROBE_PICTURES
) -> Candidate:
    """Train a network for a few updates that are thrown away."""
    from torch.utils.flop_counter import FlopCounterMode  # imports much

    model, loader = _build(config, dataset, runtime, batch_size)
    runtime = settle_precision(model, loader, runtime)
    with eval_mode(model), torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(dataset.preprocess.normalize(dataset.train.images[:1]).to(runtime.device))
    full = _update_seconds(model, replace(loader, config=_always(loader.config, 0)), runtime)
    small, shown = config.data.small_size, full
    if small:
        loader = replace(loader, config=_always(loader.config, small))
        shown = _update_seconds(model, loader, runtime)
    return Candidate(config, runtime, counter.get_total_flops(), shown, full)


def _always(config: RunConfig, small_size: int) -> RunConfig:
    """Return settings under which the first updates show pictures of one size."""
    return config.override({"data.small_size": small_size, "train.epochs": 1000})


def _update_seconds(model: torch.nn.Module, loader: TrainLoader, runtime: Runtime) -> float:
    """Return the seconds of an update for each picture: the least of a few, after one."""
    still = replace(loader.config.optim, lr=1e-9, schedule="constant")
    state = TrainState(model.train(), build_optimizer(model, still))
    plan = Plan(replace(loader.config, optim=still), runtime, total_steps=1000)
    batches = chain.from_iterable(loader.batches(epoch) for epoch in count())
    seconds = []
    with limited_threads(runtime.threads):
        for _ in range(PROBE_UPDATES):
            start = time.perf_counter()
            x, y = next(batches)
            train_step(state, x, y, plan)
            state.sums.tolist()  # waits for a GPU
            seconds.append((time.perf_counter() - start) / len(y))
    return min(seconds[1:])
