"""The epochs of a run: logged, shown, saved, and stopped where one may go on."""

import shlex
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from nunbit.checkpoint import Checkpointer
from nunbit.config import RunConfig
from nunbit.data.loader import TrainLoader
from nunbit.data.splits import Dataset
from nunbit.errors import DivergedStepError, StoppedError
from nunbit.events import Events
from nunbit.headstart import HeadStart
from nunbit.language import tr
from nunbit.liveline import Sums
from nunbit.progress import Display, Follow
from nunbit.runfolder import EpochLog
from nunbit.runlines import epoch_cells
from nunbit.runtime import Runtime, limited_threads
from nunbit.signals import StopRequest
from nunbit.start import Start
from nunbit.training.check import dead_fault, norm_fault, watch_start
from nunbit.training.loop import Batch, EpochResult, fit, should_stop
from nunbit.training.state import TrainState


@dataclass
class Training:
    """What a training needs at hand."""

    config: RunConfig
    runtime: Runtime
    dataset: Dataset
    loader: TrainLoader
    state: TrainState
    checkpointer: Checkpointer
    history: list[EpochResult]
    run_dir: Path
    start: Start
    start_seconds: float = 0.0
    """Wall time before the first epoch."""
    head: HeadStart | None = None
    """Fitted in this process; None after a resume, and where the head is random."""


def train_epochs(training: Training, events: Events, stop: StopRequest, display: Display) -> None:
    """Run the epochs that are left: log, show and save each, and stop early if it is due."""
    state, config, history = training.state, training.config, training.history
    log = EpochLog(training.run_dir, history, display)
    steps = training.loader.total_steps
    try:
        with display.live(steps, lambda: Sums(state.step, *state.sums.tolist())) as follow:
            epochs = _epochs(training, follow, stop, display)
            while not should_stop(state, config) and (result := next(epochs, None)) is not None:
                history.append(result)
                log.add(result)
                events.add(result)
                display.say_cells(epoch_cells(result, training.loader.epochs))
                if result.epoch == 1:
                    _look_at_units(training, display)
                if stop.received is not None:  # while validation was measured
                    break
    except DivergedStepError as error:
        raise DivergedStepError(f"{error} {_batch_names(training)}") from error
    except StoppedError:
        training.checkpointer.save(state, history)
        raise
    training.checkpointer.save(state, history)
    stop.check()


def _epochs(
    training: Training, follow: Follow, stop: StopRequest, display: Display
) -> Iterator[EpochResult]:
    """Run `fit` with all that looks at a training between two updates."""
    state, num_classes = training.state, len(training.dataset.class_names)

    def watch(batches: Iterable[Batch], _count: int, label: str) -> Iterator[Batch]:
        checked = watch_start(batches, state, num_classes, display.say)
        shown = follow(checked, label)
        return training.checkpointer.watch(shown, state, training.history, stop.check)

    val, check = training.dataset.val, stop.check
    return fit(state, training.loader, val, training.runtime, watch, check)


def _look_at_units(training: Training, display: Display) -> None:
    """Say whether many units are dead after the first epoch."""
    dataset, runtime = training.dataset, training.runtime
    shown = (dataset.train.images, dataset.preprocess, runtime, training.config.eval.batch_size)
    with limited_threads(runtime.threads):
        fault = dead_fault(training.state.model, *shown)
    if fault:
        display.say(tr("check: {fault}", fault=fault))


def look_at_norms(training: Training, accuracy: float, display: Display) -> None:
    """Say whether the last epoch was clearly better than its weights are afterwards.

    Args:
        training: after its last epoch, with that epoch's weights.
        accuracy: of the training pictures, in eval mode.
        display: where to say it.
    """
    if training.config.train.precise_bn or training.config.train.ema:  # other weights than its own
        return
    last = training.history[-1]
    fault = norm_fault(training.state.model, last.running_accuracy, last.images, accuracy)
    if fault:
        display.say(tr("check: {fault}", fault=fault))


def _batch_names(training: Training) -> str:
    """Name the pictures of the batch that a training stopped at."""
    state = training.state
    names = training.loader.names(state.epoch, state.step_in_epoch)
    more = ", ..." if len(names) > 3 else ""
    return tr(
        "(epoch {epoch}, pictures {names}{more})",
        epoch=state.epoch + 1,
        names=", ".join(names[:3]),
        more=more,
    )


@contextmanager
def resumable(training: Training) -> Iterator[None]:
    """Say where a training was stopped, and how to go on with it."""
    try:
        yield
    except StoppedError as error:
        state, folder = training.state, shlex.quote(str(training.run_dir))
        where = tr("after epoch {epoch}, step {step}", epoch=state.epoch, step=state.step)
        again = tr("go on with: nunbit resume {run_dir}", run_dir=folder)
        raise StoppedError(f"{error} {where}; {again}", error.exit_code - 128) from None
