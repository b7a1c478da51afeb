"""What an update takes, and in which precision it is faster: measured on this machine.

Whether bf16 pays depends on the network as much as on the processor: large convolutions gain twice
and more, small ones lose what it costs to convert between the two. So both are tried, on a copy
of the network that is thrown away. The choice is written into the run's settings, so that a
repeated or resumed run computes the same.
"""

import copy
import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain, count
from typing import Literal

from torch import Tensor, nn

from nunbit.config import RunConfig, TrainConfig
from nunbit.data.loader import TrainLoader
from nunbit.errors import DivergedStepError
from nunbit.runtime import Runtime, limited_threads, multiplies_bf16
from nunbit.training.optim import build_optimizer
from nunbit.training.state import TrainState
from nunbit.training.step import Plan, train_step

SECONDS = 1.8  # for all rounds; two are always made, of which the first warms up
LEAST_GAIN = 1.1  # below it the exact precision stays: the clock is not surer than that
PIXELS = 64 * 32 * 32  # in a batch; larger ones take longer and say the same
FEW = 8  # pictures, with which a slow network shows itself, and which must do for it
MAX_ROUNDS = 10
TIMED_UPDATES = 3  # after one to warm up

Precision = Literal["fp32", "bf16"]
CHOICES: tuple[Precision, ...] = ("fp32", "bf16")


def is_open(config: TrainConfig, runtime: Runtime) -> bool:
    """Return whether the precision is left to the machine, and the machine has two to offer."""
    return config.precision == "auto" and multiplies_bf16(runtime.device)


def settle_precision(model: nn.Module, loader: TrainLoader, runtime: Runtime) -> Runtime:
    """Return `runtime` with the precision in which this network trains faster.

    Only where the settings leave it to the machine, the hardware knows bf16, and the run has
    updates; else `runtime` comes back as it is.

    Args:
        model: on `runtime.device`; not changed.
        loader: gives a batch of the run.
        runtime: device and threads to time on.
    """
    train = loader.config.train
    if not train.epochs or not is_open(train, runtime):
        return runtime
    x, y = next(loader.batches(0))
    trial, choices = Trial(model, loader.config), [replace(runtime, precision=p) for p in CHOICES]
    enough = max(FEW, PIXELS // (x.shape[2] * x.shape[3]))
    end = time.perf_counter() + SECONDS
    try:
        with limited_threads(runtime.threads):
            batch = x[:FEW], y[:FEW]
            rounds = _after_one(trial, choices, *batch)
            if time.perf_counter() + 2 * sum(rounds[0]) * min(enough, len(y)) / FEW < end:
                batch = x[:enough], y[:enough]
                rounds = _after_one(trial, choices, *batch)
            while len(rounds) < MAX_ROUNDS and time.perf_counter() + sum(rounds[-1]) < end:
                rounds.append(_round(trial, choices, *batch))
    except DivergedStepError:  # the training will say it, with its own learning rate
        return runtime
    # Of pairs, which other work on the machine slows alike; one odd time decides nothing.
    gain = statistics.median(exact / short for exact, short in rounds)
    return replace(runtime, precision="bf16" if gain > LEAST_GAIN else "fp32")


def _after_one(
    trial: "Trial", choices: Sequence[Runtime], x: Tensor, y: Tensor
) -> list[list[float]]:
    """Return a round of updates, after one to warm up: kernels are made for a shape."""
    _round(trial, choices, x, y)
    return [_round(trial, choices, x, y)]


def _round(trial: "Trial", choices: Sequence[Runtime], x: Tensor, y: Tensor) -> list[float]:
    """Return the seconds of an update in each precision."""
    seconds = []
    for runtime in choices:
        start = time.perf_counter()
        trial.update(x, y, runtime)
        seconds.append(time.perf_counter() - start)
    return seconds


def update_seconds(model: nn.Module, loader: TrainLoader, runtime: Runtime) -> float:
    """Return the seconds of an update for each picture: the least of a few, after one.

    Args:
        model: on `runtime.device`; not changed.
        loader: gives the batches; reading and augmenting them counts.
        runtime: where and how to compute.
    """
    trial = Trial(model, loader.config)
    batches = chain.from_iterable(loader.batches(epoch) for epoch in count())
    seconds = []
    with limited_threads(runtime.threads):
        for _ in range(1 + TIMED_UPDATES):
            start = time.perf_counter()
            x, y = next(batches)
            trial.update(x, y, runtime)
            seconds.append((time.perf_counter() - start) / len(y))
    return min(seconds[1:])


class Trial:
    """A copy of a network that is trained only to be timed, in whichever precision.

    One for both: of ResNet18 a copy takes 180 MB with its gradients and Adam's moments.
    """

    def __init__(self, model: nn.Module, config: RunConfig) -> None:
        """Copy the network.

        Args:
            model: on the device that it is timed on; not changed.
            config: of the run; its schedule and learning rate are not used.
        """
        # A rate this small cannot diverge: the loss is of no interest here.
        still = replace(config.optim, lr=1e-9, schedule="constant")
        twin = copy.deepcopy(model).train()
        self._state = TrainState(twin, build_optimizer(twin, still))
        self._config = replace(config, optim=still)

    def update(self, x: Tensor, y: Tensor, runtime: Runtime) -> None:
        """Do one update on a batch, as `TrainLoader.batches` gives it, and wait for its end."""
        plan = Plan(self._config, runtime, total_steps=self._state.step + 1)
        train_step(self._state, x, y, plan)
        self._state.sums.tolist()  # waits for a GPU
