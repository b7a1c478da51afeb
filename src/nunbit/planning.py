"""A plan for this machine and this time: how wide a network, for how many updates.

`--budget 60s` is the time for everything from the call to the report. A short probe trains each
width for a few updates; the plan is plain settings, so that a run can be repeated exactly.

How much of the time goes into a wider network and how much into more updates follows one rule: the
pictures trained on are in proportion to the cost of a picture. It was read off trainings of 50 to
100 s with widths 16 to 32 (docs/log.md) and also meets the recipe of K. Jordan (arXiv 2404.00498),
whose network costs six times as much a picture and sees five times as many. Pictures that are shown
often teach less each time: then more of the time goes into width.
"""

import math
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace

import torch

from nunbit.config import RunConfig
from nunbit.data.loader import TrainLoader
from nunbit.data.named import NAMED
from nunbit.data.splits import Dataset
from nunbit.errors import UsageError
from nunbit.evaluation import VIEW_COUNT
from nunbit.language import tr
from nunbit.models.mode import eval_mode
from nunbit.progress import Display
from nunbit.reading import Read, read_dataset
from nunbit.recipes.speed import SHIFT_PIXELS, fast
from nunbit.runtime import Runtime, choose_runtime
from nunbit.sections import MOST_EPOCHS
from nunbit.signals import stop_requests
from nunbit.start import build_start
from nunbit.training.check import SAMPLE
from nunbit.training.norms import PRECISE_PICTURES
from nunbit.training.tempo import settle_precision, update_seconds

RECIPE = "budget"  # of runs whose network is chosen here
# Multiples of 16 channels fill matrix units: width 24 takes 0.9 times as long as 32 (docs/log.md).
WIDTHS = (8, 16, 32, 48, 64, 96, 128)
BALANCE = 2.5e-3  # pictures trained on for each FLOP of a forward pass over one picture
FRESH_EPOCHS = 8  # after which showing a picture again teaches less (docs/log.md)
PROBE_PICTURES = 256
WANTED_UPDATES = 300  # fewer learn too little, more make batches too small for the hardware
BATCH_SIZES = (64, 128, 256, 512)
FORWARD_COST = 0.36  # of an update: one of three passes, and a little for what is around them
REPORT_SECONDS = 5.0  # for the report and the model file, on two cores
MEASURED = 5_000  # training pictures at the end; of large sets all would take a tenth of the time
MANY_EPOCHS = 8  # from which on photographs are also enlarged and relit, not learned by heart
# Of photographs then, as in `photos/cnn`.
PHOTOGRAPHS = {"data.shift_pixels": 4, "data.zoom": 0.3, "data.light": 0.2}
# A setting beside a budget that decides it would be two answers to one question.
LENGTH = ("train.epochs", "train.max_steps")
CHOSEN = (*LENGTH, "train.batch_size")


@dataclass(frozen=True)
class Candidate:
    """One network, and how fast it trains here."""

    config: RunConfig
    runtime: Runtime
    flops: float
    """Of a forward pass over one picture."""
    small_seconds: float
    """Of an update, for each picture, while pictures are shown smaller; 0 where they never are."""
    full_seconds: float
    """The same in full size."""

    @property
    def seconds(self) -> float:
        """Mean time of a picture over the run."""
        small = self.config.data.small_fraction if self.config.data.small_size else 0.0
        return small * self.small_seconds + (1 - small) * self.full_seconds

    def pictures(self, dataset: Dataset, budget_seconds: float) -> float:
        """Return how many pictures can be trained on in the time, with repeats.

        Args:
            dataset: its test pictures, and some of the training's, are measured at the end.
            budget_seconds: for updates, measuring and the report.
        """
        settings, train = self.config.eval, len(dataset.train)
        passes = 1 + (VIEW_COUNT[settings.views] if settings.views != "one" else 0)
        measured = passes * len(dataset.test) + min(settings.train_pictures or train, train)
        forward = FORWARD_COST * self.full_seconds
        validated = len(dataset.val) / train if dataset.val else 0.0  # for each that is trained on
        norms = min(PRECISE_PICTURES, train) if self.config.train.precise_bn else 0
        measured += min(SAMPLE, train)  # for units that are dead
        if dataset.val:
            validated += norms / train
            measured += 2 * len(dataset.val) if settings.max_error else 0  # to decide by
        else:
            measured += norms
        left = budget_seconds - REPORT_SECONDS - measured * forward
        return left / (self.seconds + validated * forward)


def budget_config(source: str) -> RunConfig:
    """Return the settings that a plan for a data source starts from; its width is left open."""
    config = fast(RECIPE, source)
    size = 16 if source == "digits" else 0  # 8 pixels leave nothing to three halvings
    return replace(
        config,
        data=replace(config.data, size=size),
        model=replace(config.model, args={}),
    )


def is_width_open(config: RunConfig) -> bool:
    """Return whether a plan may choose the network's width: nobody named a network or a width."""
    return config.recipe == RECIPE and not config.model.args


def refuse_chosen(config: RunConfig, names: Iterable[str]) -> None:
    """Refuse settings that the budget decides.

    Args:
        config: what is to be trained.
        names: dotted names of what was given.

    Raises:
        UsageError: one of them, or a last layer that is fitted first.
    """
    chosen = CHOSEN if is_width_open(config) else LENGTH
    for name in names:
        if name in chosen:
            raise UsageError("'{name}' follows from the budget: leave one of them out", name=name)
    if config.model.head == "logistic":
        raise UsageError(
            "no plan counts the fitting of a last layer: leave out either model.head logistic or "
            "the budget, or use nunbit finetune"
        )


def planned(
    config: RunConfig, deadline: float, display: Display, given: Collection[str] = ()
) -> tuple[RunConfig, Read]:
    """Return settings for a budget, and what hands the pictures on that were read for them.

    Args:
        config: from `budget_config`, or of a recipe whose length is to be chosen.
        deadline: when all must be done, on the clock of `time.perf_counter`.
        display: where progress goes.
        given: dotted names of settings that were asked for; they stay.
    """
    runtime = choose_runtime(config.train)
    with stop_requests() as stop:
        dataset = read_dataset(config, runtime, display, stop)
        stop.check()  # nobody asks it after this block
    chosen = plan_training(config, dataset, runtime, deadline, display.say, given)
    return chosen, lambda *_: dataset


def plan_training(
    config: RunConfig,
    dataset: Dataset,
    runtime: Runtime,
    deadline: float,
    say: Callable[[str], None],
    given: Collection[str] = (),
) -> RunConfig:
    """Return settings that use the time until `deadline` best, and say which.

    Args:
        config: what is to be trained; its length is replaced and, where `is_width_open`, its width
            and batch size. No more than `MEASURED` training pictures are measured at the end,
            unless the settings say how many.
        dataset: its pictures, read already.
        runtime: the device and threads.
        deadline: when all must be done, on the clock of `time.perf_counter`.
        say: prints one line.
        given: dotted names of settings that were asked for; they stay.

    Raises:
        UsageError: the time is too short for one update.
    """
    if not config.eval.train_pictures and "eval.train_pictures" not in given:
        config = config.override({"eval.train_pictures": MEASURED})
    # Timed with all that it may do to pictures, also where the length turns out too short for it.
    timed = config.override(PHOTOGRAPHS) if _may_change_more(config, given) else config
    if is_width_open(config):
        candidate = _choose(timed, dataset, runtime, deadline)
    else:
        candidate = _time(timed, dataset, runtime)
    left = deadline - time.perf_counter()
    loader = TrainLoader(
        dataset.train, dataset.preprocess, candidate.config, candidate.runtime.device
    )
    per_update = len(dataset.train) / loader.steps_per_epoch  # batches are equal, most below full
    affordable = int(candidate.pictures(dataset, left) / per_update)
    steps = min(affordable, MOST_EPOCHS * loader.steps_per_epoch)
    if steps < 1:
        raise UsageError(
            "the budget leaves {left:.0f} s, which is too little to train; give a longer one",
            left=max(0.0, left),
        )
    chosen = _with_length(candidate, steps, math.ceil(steps / loader.steps_per_epoch))
    if chosen.train.epochs < MANY_EPOCHS:
        chosen = replace(chosen, data=config.data)
    say(_describe(chosen, steps / loader.steps_per_epoch, per_update, candidate.seconds))
    return chosen


def _choose(config: RunConfig, dataset: Dataset, runtime: Runtime, deadline: float) -> Candidate:
    """Return the candidate whose width and length are in balance for the time left."""
    config = config.override({"train.batch_size": PROBE_PICTURES})
    # Once, at the default width: the narrowest networks gain less from bf16 than those chosen.
    precision = settle_precision(*_build(config, dataset, runtime), runtime).precision
    config = config.override({"train.precision": precision})
    best, nearest, pictures = None, math.inf, 0.0
    for width in WIDTHS:
        candidate = _time(config.override({"model.width": width}), dataset, runtime)
        affordable = max(1.0, candidate.pictures(dataset, deadline - time.perf_counter()))
        distance = abs(math.log(_length_over_width(affordable, candidate.flops, dataset)))
        if distance >= nearest:  # the wider, the fewer pictures: it only gets worse
            break
        best, nearest, pictures = candidate, distance, affordable
    assert best is not None
    # Again at its own batch size: the length follows from this time.
    return _time(
        best.config.override({"train.batch_size": _batch_size(pictures)}), dataset, runtime
    )


def _length_over_width(pictures: float, flops: float, dataset: Dataset) -> float:
    """Return how far a training is from balance: above 1 it is too long for so narrow a network.

    Args:
        pictures: trained on, with repeats.
        flops: of a forward pass over one picture.
        dataset: its training pictures are those that are repeated.
    """
    repeats = max(1.0, pictures / len(dataset.train) / FRESH_EPOCHS)
    return pictures / flops / BALANCE * repeats


def _with_length(candidate: Candidate, steps: int, epochs: int) -> RunConfig:
    """Return a candidate's settings for so many updates."""
    config, precision = candidate.config, candidate.runtime.precision
    train = replace(config.train, epochs=epochs, max_steps=steps, precision=precision)
    return replace(config, train=train)


def _may_change_more(config: RunConfig, given: Collection[str]) -> bool:
    """Return whether pictures may be changed as photographs are: nobody said how else."""
    data = config.data
    is_own = (data.shift_pixels, data.zoom, data.light) == (SHIFT_PIXELS, 0.0, 0.0)
    is_own = is_own and not PHOTOGRAPHS.keys() & set(given)
    return is_own and config.recipe == RECIPE and data.source not in NAMED


def _describe(config: RunConfig, passes: float, per_update: float, seconds: float) -> str:
    """Say what will be trained, for how long; `seconds` are those of a picture."""
    train, width = config.train, config.model.args.get("width")
    return tr(
        "plan: {name}{width}, {steps:,} updates of {batch} pictures ({passes:.1f} epochs), "
        "about {seconds:.0f} s of training in {precision}",
        name=config.model.name,
        width="" if width is None else tr(" of width {width}", width=width),
        steps=train.max_steps,
        batch=round(per_update),
        passes=passes,
        seconds=train.max_steps * per_update * seconds,
        precision=train.precision,
    )


def _batch_size(pictures: float) -> int:
    """Return the batch size that gives about the wanted number of updates."""
    return min(BATCH_SIZES, key=lambda size: abs(math.log(pictures / size / WANTED_UPDATES)))


def _build(
    config: RunConfig, dataset: Dataset, runtime: Runtime
) -> tuple[torch.nn.Module, TrainLoader]:
    """Return a network and batches to try it on; of few pictures they are smaller."""
    most = len(dataset.train)
    probe = config.override({"train.batch_size": min(config.train.batch_size, most)})
    model = build_start(probe, dataset, runtime).model
    return model, TrainLoader(dataset.train, dataset.preprocess, probe, runtime.device)


def _time(config: RunConfig, dataset: Dataset, runtime: Runtime) -> Candidate:
    """Train a network for a few updates that are thrown away."""
    from torch.utils.flop_counter import FlopCounterMode  # imports much

    model, loader = _build(config, dataset, runtime)
    runtime = settle_precision(model, loader, _in_precision(config, runtime))
    with eval_mode(model), torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(dataset.preprocess.normalize(dataset.train.images[:1]).to(runtime.device))
    small = config.data.small_size
    # In a run as long as this the first updates show all pictures small, if any are.
    long = loader.override({"train.epochs": 1000})
    full = long.override({"data.small_size": 0})
    full_seconds = update_seconds(model, full, runtime)
    small_seconds = update_seconds(model, long, runtime) if small else 0.0
    return Candidate(config, runtime, counter.get_total_flops(), small_seconds, full_seconds)


def _in_precision(config: RunConfig, runtime: Runtime) -> Runtime:
    """Return the runtime with the precision that the settings name, if they do."""
    precision = config.train.precision
    return runtime if precision == "auto" else replace(runtime, precision=precision)
