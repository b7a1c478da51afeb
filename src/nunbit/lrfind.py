"""Which learning rate? Train with a rate that grows from tiny to huge, and watch the loss.

Source: L. Smith, Cyclical Learning Rates for Training Neural Networks (arXiv 1506.01186, 3.3). As
in fastai's `lr_find` the rate grows exponentially, the loss is smoothed, the test stops when that
is four times its least value, and the rate is read off by a rule ("minimum" and "steep" there).
"""

import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import chain, count, islice
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from nunbit.asked import asked_config, dotted
from nunbit.config import RunConfig
from nunbit.data.loader import TrainLoader
from nunbit.data.sources import refuse_inside
from nunbit.errors import DataError, DivergedStepError, UsageError
from nunbit.headstart import fit_start
from nunbit.language import tr
from nunbit.places import free_picture, write_picture
from nunbit.progress import Display
from nunbit.reading import read_dataset, stoppable
from nunbit.runtime import choose_runtime, limited_threads
from nunbit.signals import stop_requests
from nunbit.start import build_start
from nunbit.training.heart import ByHeart, learn_by_heart
from nunbit.training.loop import Batch
from nunbit.training.optim import build_optimizer
from nunbit.training.state import TrainState
from nunbit.training.step import Plan, train_step
from nunbit.values import Setting

LOWEST, HIGHEST = 1e-7, 10.0  # fastai's range
STEPS = range(20, 10_001)  # allowed
DIVERGED = 4.0  # times the least mean loss, as in fastai
REMEMBERED = 0.9  # of that mean; with fastai's 0.98 a test of 100 updates hardly forgets
CHANCE = 2.0  # a fall of the smoothed loss below so many standard deviations of a batch's is none
UNUSED = (
    "optim.lr", "optim.schedule", "optim.warmup_fraction",
    "train.epochs", "train.max_steps", "train.patience", "train.precise_bn", "train.ema",
)  # fmt: skip  # one name a line would say no more
BLUE, ORANGE, GREY = "#2563a8", "#d9730d", "#6b7280"  # of the report's figures
DPI = 110


@dataclass(frozen=True)
class Point:
    """One update of the test."""

    lr: float
    loss: float
    """Mean cross entropy of the batch before the update, in nats."""
    smoothed: float


@dataclass(frozen=True)
class LrSearch:
    """What a test found."""

    suggestion: float
    """A tenth of the rate at which the smoothed loss is least."""
    least: float
    """The rate at which the smoothed loss is least."""
    steepest: float
    """The rate at which the smoothed loss falls fastest."""
    curve: tuple[Point, ...]
    by_heart: ByHeart
    file: Path
    """The picture."""

    def to_dict(self) -> dict[str, Any]:
        """Return the fields for JSON."""
        return {**asdict(self), "file": str(self.file)}


def lr_find(
    recipe: str | RunConfig | None = None,
    *,
    data: str | Path | None = None,
    model: str | None = None,
    out: str | Path | None = None,
    steps: int = 100,
    quiet: bool = False,
    **settings: Setting,
) -> LrSearch:
    """Test which learning rate suits a training, and whether it can learn one batch by heart.

    Args:
        recipe: as in `train`, with data and model.
        data: in place of the recipe's.
        model: in place of the recipe's.
        out: a new PNG file or a folder for the picture; by default the current folder.
        steps: updates of the test.
        quiet: print nothing.
        settings: single fields, as in `train`, but not those that the test is about.

    Raises:
        NunbitError: wrong settings or data, no file to write, or no rate that lowers the loss.
    """
    refuse_unused(map(dotted, settings))
    config = asked_config(recipe, data, model, settings)
    return search_lr(config, None if out is None else Path(out), steps, Display(quiet=quiet))


def refuse_unused(names: Iterable[str]) -> None:
    """Refuse settings without effect: what the test finds, or replaces.

    Args:
        names: dotted names of what was given.

    Raises:
        UsageError: one of them has no effect.
    """
    for name in names:
        if name in UNUSED:
            raise UsageError(
                "'{name}' has no effect on lr-find, which tests learning rates", name=name
            )


def search_lr(config: RunConfig, out: Path | None, steps: int, display: Display) -> LrSearch:
    """Test the learning rates of a training before it begins; only a picture is written.

    Args:
        config: the training; its learning rate, schedule and length are not used.
        out: a new PNG file, or a folder for one; None is the current folder.
        steps: updates from the lowest rate to the highest.
        display: where progress goes.

    Raises:
        UsageError: a number of steps that is not allowed.
        CannotCreateError: the picture exists, or its folder cannot be written.
        DataError: no learning rate lowers the loss.
        NunbitError: settings or data that cannot be used.
        StoppedError: a signal came.
    """
    if steps not in STEPS:
        raise UsageError(
            "steps is {steps}; allowed: {least} to {most}",
            steps=steps,
            least=STEPS[0],
            most=STEPS[-1],
        )
    name = f"lr-find-{config.recipe.replace('/', '-')}"
    file = free_picture(out, name)  # refused before the test
    refuse_inside(file.parent, config.data.source, "--out")
    runtime = choose_runtime(config.train)
    with stop_requests() as stop, limited_threads(runtime.threads):
        track = stoppable(display, stop)
        dataset = read_dataset(config, runtime, display, stop)
        loader = TrainLoader(dataset.train, dataset.preprocess, config, runtime.device)
        loader = loader.override({"train.ema": 0.0})  # of weights that nobody measures
        start = build_start(config, dataset, runtime)
        if config.model.head == "logistic":
            fit_start(start, dataset, runtime, track)
        by_heart = learn_by_heart(start.model, loader, runtime)
        state = TrainState(start.model.train(), build_optimizer(start.model, config.optim))
        rates = [LOWEST * (HIGHEST / LOWEST) ** (i / (steps - 1)) for i in range(steps)]
        batches = chain.from_iterable(map(loader.batches, count()))  # one epoch after another
        shown = track(islice(batches, steps), steps, tr("learning rates"))
        losses = sweep(state, shown, rates, Plan.of(loader, runtime, steps))
    smoothed = smooth(losses, steps // 20)
    points = tuple(map(Point, rates, losses, smoothed))
    least, steepest = read_off(points, by_heart)
    found = LrSearch(round_rate(least / 10), least, steepest, points, by_heart, file)
    return replace(found, file=write_picture(out, name, draw(found)))


def sweep(
    state: TrainState, batches: Iterable[Batch], rates: Sequence[float], plan: Plan
) -> list[float]:
    """Update once with each rate until the loss explodes; return the losses before that.

    Args:
        state: changed.
        batches: as many as there are rates.
        rates: learning rates, growing.
        plan: settings; the rates take the place of their schedule.

    Raises:
        DivergedStepError: the very first loss is not finite.
    """
    losses: list[float] = []
    mean, least = 0.0, math.inf
    for lr, (x, y) in zip(rates, batches, strict=True):
        optim = replace(plan.config.optim, lr=lr, schedule="constant")
        try:
            train_step(state, x, y, replace(plan, config=replace(plan.config, optim=optim)))
        except DivergedStepError:
            if not losses:
                raise
            break
        loss = float(state.sums[0] / state.sums[2])
        state.sums.zero_()
        if not math.isfinite(loss):  # on a GPU `train_step` looks at few losses
            break
        losses.append(loss)
        mean = REMEMBERED * mean + (1 - REMEMBERED) * loss
        # The mean begins at 0; dividing takes the bias away (arXiv 1412.6980, 3).
        unbiased = mean / (1 - REMEMBERED ** len(losses))
        least = min(least, unbiased)
        if unbiased > DIVERGED * least:
            break
    return losses


def smooth(losses: Sequence[float], reach: int) -> list[float]:
    """Return means over the neighbours, nearer ones counting more (a triangle).

    A mean over past losses alone, as fastai's, shifts the curve towards high rates: by almost a
    decade for 100 updates. A loss above `DIVERGED` times the first counts as that.

    Args:
        losses: one for each rate.
        reach: neighbours on either side that count.
    """
    weights = 1 - np.abs(np.arange(-reach, reach + 1)) / (reach + 1)
    clipped = np.minimum(losses, DIVERGED * losses[0])
    padded = np.pad(clipped, reach)
    inside = np.pad(np.ones(len(losses)), reach)
    sums = np.convolve(padded, weights, "valid") / np.convolve(inside, weights, "valid")
    return [float(value) for value in sums]


def read_off(points: Sequence[Point], by_heart: ByHeart) -> tuple[float, float]:
    """Return the rates at which the smoothed loss is least and at which it falls fastest.

    Raises:
        DataError: the loss never falls by more than chance, as the first quarter's batches tell it.
    """
    at = min(range(len(points)), key=lambda i: points[i].smoothed)
    chance = CHANCE * float(np.std([point.loss for point in points[: -(-len(points) // 4)]]))
    if points[at].smoothed >= points[0].smoothed - chance:
        raise DataError(
            "no learning rate from {lowest:g} to {highest:g} lowers the loss; {line}",
            lowest=LOWEST,
            highest=HIGHEST,
            line=by_heart.line(),
        )
    slopes = {  # over equal steps of log rate
        points[i].lr: points[i].smoothed - points[i - 1].smoothed for i in range(1, at + 1)
    }
    return points[at].lr, min(slopes, key=lambda lr: slopes[lr])


def round_rate(rate: float) -> float:
    """Return a rate with two digits: a test of 100 updates knows no more."""
    return float(f"{rate:.2g}")


def draw(found: LrSearch) -> bytes:
    """Return the picture of a test as the bytes of a PNG file."""
    figure = Figure(figsize=(8, 4.2), layout="constrained")
    axes = figure.subplots()
    rates = [point.lr for point in found.curve]
    smoothed = [point.smoothed for point in found.curve]
    axes.plot(rates, [point.loss for point in found.curve], color=GREY, alpha=0.4, lw=0.8,
              label="each batch")  # fmt: skip  # one call
    axes.plot(rates, smoothed, color=BLUE, lw=2, label="smoothed")
    lines = (
        (found.suggestion, ORANGE, "-", f"suggestion {found.suggestion:g}"),
        (found.steepest, GREY, ":", f"falls fastest {round_rate(found.steepest):g}"),
        (found.least, GREY, "--", f"least {round_rate(found.least):g}"),
    )
    for rate, colour, style, label in lines:
        axes.axvline(rate, color=colour, linestyle=style, lw=1.4, label=label)
    low, high = min(smoothed), smoothed[0]
    axes.set_ylim(max(0.0, low - 0.3 * (high - low)), high + 0.8 * (high - low))
    axes.set_xscale("log")
    axes.set_xlabel("learning rate")
    axes.set_ylabel("loss (nats)")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e5e7eb", linewidth=0.8)
    axes.legend(frameon=False, fontsize=9)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=DPI, facecolor="white")
    return stream.getvalue()
