"""The training loop, whole: a generator that gives one result per epoch to the caller's `for`."""

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from nunbit.config import RunConfig
from nunbit.data.loader import TrainLoader
from nunbit.data.pictures import ImageSet
from nunbit.data.rows import Stoppable
from nunbit.evaluation import collect_logits
from nunbit.metrics import measure_briefly
from nunbit.runtime import Runtime, limited_threads
from nunbit.training.ema import averaged
from nunbit.training.norms import PRECISE_PICTURES, measure_norms
from nunbit.training.schedule import lr_at
from nunbit.training.state import Best, TrainState, copy_weights, start_epoch
from nunbit.training.step import Plan, require_finite_epoch, train_step

Batch = tuple[Tensor, Tensor]
Watch = Callable[[Iterable[Batch], int, str], Iterator[Batch]]
TIMINGS = ("seconds", "images_per_second")


@dataclass(frozen=True)
class EpochResult:
    """What one epoch did."""

    epoch: int
    """Counts from 1."""
    step: int
    lr: float
    """Of the last update."""
    train_loss: float
    """Mean cross entropy in nats, while weights changed, with dropout and augmentation."""
    running_accuracy: float
    """Of the same forward passes; not comparable with validation, measured in eval mode. Of a blend
    of two pictures the class with the larger share is right."""
    val_loss: float | None
    val_accuracy: float | None
    images: int
    """Pictures trained on."""
    seconds: float
    """Wall time of the epoch's updates, of measuring norms, and of validation."""
    images_per_second: float
    """Training pictures over the wall time of the updates."""

    def metrics(self) -> dict[str, Any]:
        """Return what a repeated run repeats bit for bit: a line of `metrics.jsonl`."""
        return {name: value for name, value in asdict(self).items() if name not in TIMINGS}

    def timings(self) -> dict[str, Any]:
        """Return the rest: a line of `timings.jsonl`."""
        return {"epoch": self.epoch, **{name: getattr(self, name) for name in TIMINGS}}


def fit(
    state: TrainState,
    loader: TrainLoader,
    val: ImageSet | None,
    runtime: Runtime,
    watch: Watch,
    check: Callable[[], None] = lambda: None,
) -> Iterator[EpochResult]:
    """Train from wherever `state` stands to the last update; break out to stop early.

    Args:
        state: changed in place; after the last result it holds the last weights, in `average` their
            average (`train.ema`), and in `best` what did best on validation; `keep_best` puts that
            into the network.
        loader: training batches; its config is the run's.
        val: measured after each epoch in eval mode, or None.
        runtime: where and how to compute.
        watch: wraps the batches of an epoch, (batches, count, label) -> batches: to show progress,
            and between two updates to save the state or to raise.
        check: asked before each batch that is measured; may raise, and the state is then that after
            the last update, from which the same call goes on.

    Raises:
        DivergedError: a loss, or the network's outputs on validation, are not finite.
    """
    config = loader.config
    plan = Plan.of(loader, runtime, loader.total_steps)
    # A run may go on after the last update of an epoch that was not counted yet.
    while state.step < plan.total_steps or state.step_in_epoch:
        with limited_threads(runtime.threads):
            last = time.perf_counter()
            state.model.train()
            first = state.step_in_epoch
            label = f"epoch {state.epoch + 1}/{loader.epochs}"
            count = min(loader.steps_per_epoch - first, plan.total_steps - state.step)
            batches = islice(loader.batches(state.epoch, first), count)
            for x, y in watch(batches, count, label):
                train_step(state, x, y, plan)
                now = time.perf_counter()
                state.seconds_in_epoch, last = state.seconds_in_epoch + now - last, now
            loss_sum, correct, images = state.sums.tolist()
            require_finite_epoch(loss_sum, state.step, config.optim.lr)
            train_seconds = state.seconds_in_epoch
            is_measured = val is not None or state.step == plan.total_steps
            with averaged(state):
                if config.train.precise_bn and is_measured:
                    measure_norms(state.model, _shown_anew(loader, state.epoch, check), runtime)
                val_loss, val_accuracy = _validate(state, val, loader, runtime, check)
            start_epoch(state)  # from here on this one counts
        yield EpochResult(
            epoch=state.epoch,
            step=state.step,
            lr=lr_at(state.step - 1, plan.total_steps, config.optim),
            train_loss=loss_sum / images,
            running_accuracy=correct / images,
            val_loss=val_loss,
            val_accuracy=val_accuracy,
            images=int(images),
            seconds=train_seconds + time.perf_counter() - last,
            images_per_second=images / train_seconds,
        )


def _shown_anew(loader: TrainLoader, epoch: int, check: Callable[[], None]) -> Iterator[Batch]:
    """Yield the first batches of an epoch again, as pictures are classified: whole, full size."""
    full = loader.unmixed().override({"data.small_size": 0})
    count = math.ceil(PRECISE_PICTURES * loader.steps_per_epoch / len(loader.pictures))
    for batch in islice(full.batches(epoch), count):
        check()
        yield batch


def _validate(
    state: TrainState,
    val: ImageSet | None,
    loader: TrainLoader,
    runtime: Runtime,
    check: Callable[[], None],
) -> tuple[float | None, float | None]:
    """Measure the validation split and keep the weights if they are the best so far."""
    if val is None:
        return None, None
    size = loader.config.eval.batch_size
    images = Stoppable(val.images, check)
    logits_NK = collect_logits(state.model, images, loader.preprocess, runtime, size)
    accuracy, loss = measure_briefly(logits_NK, val.labels)
    chosen_by = score_of(logits_NK, val.labels, loader.config)
    score = (chosen_by, -loss)  # equal accuracies are common on small splits
    if state.best is None or score > (state.best.accuracy, -state.best.loss):
        weights = copy_weights(state.model)
        state.best = Best(state.epoch + 1, chosen_by, loss, weights)
        state.epochs_since_best = 0
    else:
        state.epochs_since_best += 1
    return loss, accuracy


def score_of(logits_NK: Tensor, labels_N: Tensor, config: RunConfig) -> float:
    """Return the accuracy by which an epoch is chosen: where classes count the same, their mean."""
    right_N = (logits_NK.argmax(1) == labels_N).double()
    if config.train.class_weight != "balanced":
        return float(right_N.mean())
    counts = torch.bincount(labels_N)
    return float((torch.bincount(labels_N, right_N) / counts)[counts > 0].mean())


def should_stop(state: TrainState, config: RunConfig) -> bool:
    """Return whether validation has not improved for `train.patience` epochs."""
    return 0 < config.train.patience <= state.epochs_since_best


def keep_best(model: nn.Module, state: TrainState) -> int | None:
    """Put the best weights on validation back into the model; return their epoch, if any.

    Without validation the average is put into it, where the training has one.
    """
    if state.best is None:
        if state.average is not None:
            model.load_state_dict(state.average)
        return None
    model.load_state_dict(state.best.weights)
    return state.best.epoch
