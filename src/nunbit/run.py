"""One training from settings to a measured model in a run folder."""

import json
import shlex
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nunbit.bundle import MODEL_FILE, Classifier
from nunbit.checkpoint import (
    Checkpointer,
    load_newest,
    remove_litter,
    require_same_run,
    restore,
)
from nunbit.config import RunConfig
from nunbit.data.loader import TrainLoader
from nunbit.data.pictures import ImageSet
from nunbit.data.sources import open_source
from nunbit.data.splits import NAMED_FAULTS, Dataset, UnreadableError, open_dataset
from nunbit.errors import DivergedStepError, StoppedError, UsageError
from nunbit.evaluation import collect_logits
from nunbit.finished import Finished
from nunbit.metrics import Metrics, measure
from nunbit.models.registry import build_model
from nunbit.models.summary import count_parameters
from nunbit.progress import Display
from nunbit.runfolder import (
    EpochLog,
    claim_existing,
    claim_new,
    is_finished,
    require_same_data,
    write_beginning,
    write_result,
)
from nunbit.runtime import Runtime, choose_runtime, limited_threads, seeded, versions
from nunbit.signals import StopRequest, stop_requests
from nunbit.training.loop import Batch, EpochResult, fit, keep_best, should_stop
from nunbit.training.optim import build_optimizer
from nunbit.training.state import TrainState
from nunbit.values import Interval

Publish = Callable[[Finished], None]


def train_run(config: RunConfig, run_dir: Path, display: Display, publish: Publish) -> Finished:
    """Train one model as `config` says and write a new run folder.

    Args:
        config: the whole run.
        run_dir: a folder that is new or empty.
        display: where progress goes.
        publish: writes the report; called before the run counts as finished.

    Raises:
        CannotCreateError: the folder holds something already, or cannot be written.
        LockedError: another process is writing it.
        StoppedError: a signal came; a checkpoint was written.
        NunbitError: bad settings or data; then nothing is left behind.
    """
    with claim_new(run_dir), stop_requests() as stop:
        remove_litter(run_dir)
        runtime = choose_runtime(config.train)
        config = _resolved(config, runtime)
        dataset = _read(config, runtime, display, stop)
        training = _new_training(config, dataset, runtime, run_dir)
        write_beginning(run_dir, config, dataset)
        finished = _finish(training, stop, display)
        _conclude(finished, publish)
        return finished


def resume_run(run_dir: Path, display: Display, publish: Publish) -> Finished | None:
    """Go on with a run exactly where its newest whole checkpoint left it.

    The weights end as those of an undisturbed run, bit for bit, on the same torch build, CPU kind
    and thread count. A run that ended already gives None: there is nothing to do.

    Raises:
        MissingInputError: no such run.
        DataError: its data changed, or every checkpoint is damaged.
        LockedError: another process is writing it.
    """
    with claim_existing(run_dir) as config, stop_requests() as stop:
        remove_litter(run_dir)
        if is_finished(run_dir):
            return None
        runtime = choose_runtime(config.train)
        checkpoint = load_newest(run_dir, display.say)
        dataset = _read(config, runtime, display, stop)
        require_same_data(run_dir, dataset)
        training = _new_training(config, dataset, runtime, run_dir)
        if checkpoint is not None:
            require_same_run(checkpoint, training.checkpointer.facts)
            restore(training.state, checkpoint)
            training.history.extend(checkpoint.history)
        state = training.state
        display.say(f"going on after epoch {state.epoch}, step {state.step}")
        finished = _finish(training, stop, display)
        _conclude(finished, publish)
        return finished


def _conclude(finished: Finished, publish: Publish) -> None:
    """Publish the report, and count the run as finished even if drawing it failed."""
    try:
        publish(finished)
    finally:
        write_result(finished.run_dir, finished.record())


@dataclass
class _Training:
    """What a training needs at hand."""

    config: RunConfig
    runtime: Runtime
    dataset: Dataset
    loader: TrainLoader
    state: TrainState
    checkpointer: Checkpointer
    history: list[EpochResult]
    run_dir: Path


def _read(config: RunConfig, runtime: Runtime, display: Display, stop: StopRequest) -> Dataset:
    def track(items: Iterable[Any], count: int, label: str) -> Iterator[Any]:
        for item in display.track(items, count, label):
            stop.check()
            yield item

    source = open_source(config.data.source)
    if source.ignored:
        first = source.ignored[0]
        display.say(
            f"ignored {len(source.ignored)} files that are no pictures by name: {first}, ..."
        )
    try:
        dataset = open_dataset(source, config.data, runtime.threads, track)
    except UnreadableError as error:
        if len(error.skipped) > NAMED_FAULTS:  # the error's one line cannot name all of them
            for fault in error.skipped:
                display.say(f"cannot read {fault.name}: {fault.reason}")
        raise
    for fault in dataset.skipped:
        display.say(f"left out {fault.name}: {fault.reason}")
    if config.train.patience and dataset.val is None:
        raise UsageError("train.patience needs validation pictures: set data.val_fraction above 0")
    if dataset.leaks:
        display.say(f"left out {dataset.leaks} training pictures that are held out as well")
    return dataset


def _new_training(
    config: RunConfig, dataset: Dataset, runtime: Runtime, run_dir: Path
) -> _Training:
    preprocess = dataset.preprocess
    with seeded(config.train.seed, "init"):
        model = build_model(
            config.model.name,
            num_classes=len(dataset.class_names),
            in_channels=preprocess.channels,
            image_size=(preprocess.height, preprocess.width),
            args=config.model.args,
        ).to(runtime.device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs lack this form
    state = TrainState(model, build_optimizer(model, config.optim))
    state.sums = state.sums.to(runtime.device)
    facts = {"config": json.loads(config.to_json()), "fingerprint": dataset.fingerprint}
    every = Interval.parse(config.train.checkpoint_every)
    return _Training(
        config=config,
        runtime=runtime,
        dataset=dataset,
        loader=TrainLoader(dataset.train, preprocess, config, runtime.device),
        state=state,
        checkpointer=Checkpointer(run_dir, every, facts),
        history=[],
        run_dir=run_dir,
    )


def _finish(training: _Training, stop: StopRequest, display: Display) -> Finished:
    """Train to the end, measure, and write the model file."""
    config, runtime, dataset = training.config, training.runtime, training.dataset
    state, run_dir = training.state, training.run_dir
    display.say(_header(config, dataset, runtime, state.model))
    _train(training, stop, display)
    kept = keep_best(state.model, state) or state.epoch
    with limited_threads(runtime.threads):
        train, _ = _measure(training, dataset.train)
        test, test_logits = _measure(training, dataset.test)
    classifier = Classifier(
        state.model,
        dataset.class_names,
        dataset.preprocess,
        _card(config, dataset, train, test),
        runtime,
    )
    classifier.save(run_dir / MODEL_FILE)
    return Finished(
        run_dir, config, runtime, dataset, classifier, tuple(training.history), kept,
        train, test, test_logits,
    )  # fmt: skip  # one name a line would take ten


def _train(training: _Training, stop: StopRequest, display: Display) -> None:
    """Run the epochs that are left: log, show and save each, and stop early if it is due."""
    state, config, history = training.state, training.config, training.history
    log = EpochLog(training.run_dir, history, display)

    def watch(batches: Iterable[Batch], count: int, label: str) -> Iterator[Batch]:
        shown = display.track(batches, count, label)
        return training.checkpointer.watch(shown, state, history, stop.check)

    epochs = fit(state, training.loader, training.dataset.val, training.runtime, watch)
    try:
        while not should_stop(state, config) and (result := next(epochs, None)) is not None:
            history.append(result)
            log.add(result)
            display.say(_line(result, config.train.epochs))
    except StoppedError as error:
        again = f"go on with: nunbit resume {shlex.quote(str(training.run_dir))}"
        where = f"after epoch {state.epoch}, step {state.step}"
        raise StoppedError(f"{error} {where}; {again}", error.exit_code - 128) from None
    except DivergedStepError as error:
        raise DivergedStepError(f"{error} {_batch_names(training)}") from error
    training.checkpointer.save(state, history)


def _batch_names(training: _Training) -> str:
    """Name the pictures of the batch that a training stopped at."""
    state = training.state
    names = training.loader.names(state.epoch, state.step_in_epoch)
    more = ", ..." if len(names) > 3 else ""
    return f"(epoch {state.epoch + 1}, pictures {', '.join(names[:3])}{more})"


def _resolved(config: RunConfig, runtime: Runtime) -> RunConfig:
    """Return the settings with what the machine chose, so that the run can be repeated."""
    train = replace(
        config.train,
        device=str(runtime.device),
        precision=runtime.precision,
        threads=runtime.threads,
    )
    return replace(config, train=train)


def _measure(training: _Training, pictures: ImageSet) -> tuple[Metrics, Tensor]:
    dataset, config = training.dataset, training.config
    logits_NK = collect_logits(
        training.state.model,
        pictures.images,
        dataset.preprocess,
        training.runtime,
        config.eval.batch_size,
    )
    return measure(logits_NK, pictures.labels, dataset.class_names), logits_NK


def _card(config: RunConfig, dataset: Dataset, train: Metrics, test: Metrics) -> dict[str, Any]:
    """Return what travels with the weights."""
    return {
        "recipe": config.recipe,
        "model": {"name": config.model.name, "args": dict(config.model.args)},
        "metrics": {
            part: {"split": part, "n": m.n, "accuracy": m.accuracy, "ci95": list(m.ci95)}
            for part, m in (("train", train), ("test", test))
        },
        "config": json.loads(config.to_json()),
        "data": {"source": config.data.source, "fingerprint": dataset.fingerprint},
        "versions": versions(),
    }


def _header(config: RunConfig, dataset: Dataset, runtime: Runtime, model: nn.Module) -> str:
    p = dataset.preprocess
    val = f" + {len(dataset.val):,} validation" if dataset.val else ""
    return (
        f"{config.recipe}: {config.model.name}, {count_parameters(model):,} parameters; "
        f"{len(dataset.train):,} training{val} + {len(dataset.test):,} test pictures, "
        f"{len(dataset.class_names)} classes, {p.width}x{p.height}x{p.channels}; "
        f"{runtime.describe()}"
    )


def _line(result: EpochResult, epochs: int) -> str:
    width = len(str(epochs))
    val = (
        f"  val {result.val_accuracy:6.2%} (loss {result.val_loss:.3f})"
        if result.val_accuracy is not None
        else ""
    )
    return (
        f"epoch {result.epoch:{width}}/{epochs}  loss {result.train_loss:.4f}  "
        f"running {result.running_accuracy:6.2%}{val}  "
        f"{result.images_per_second:,.0f} images/s  {result.seconds:.1f} s"
    )
