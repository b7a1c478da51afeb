"""One training from settings to a measured model in a run folder."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nunbit.bundle import MODEL_FILE, Classifier
from nunbit.checkpoint import Checkpointer, load_newest, remove_litter, require_same_run, restore
from nunbit.conclusion import conclude, describe_answers, describe_promise
from nunbit.config import RunConfig
from nunbit.data.loader import TrainLoader
from nunbit.data.rows import Stoppable
from nunbit.data.sources import anchored
from nunbit.data.splits import Dataset
from nunbit.errors import StorageError
from nunbit.events import Events, open_events, require_tensorboard
from nunbit.finished import Finished, measure_views
from nunbit.headstart import HeadStart, fit_start
from nunbit.language import tr
from nunbit.metrics import Metrics, measure_briefly
from nunbit.places import make_folder
from nunbit.progress import Display
from nunbit.reading import Read, read_dataset, stoppable
from nunbit.runclaim import claim_existing, claim_new
from nunbit.runfolder import (
    EVENTS,
    is_finished,
    require_same_data,
    write_beginning,
    write_config,
    write_logs,
    write_predictions,
    write_result,
)
from nunbit.runlines import run_header
from nunbit.running import Training, look_at_norms, resumable, train_epochs
from nunbit.runtime import Runtime, choose_runtime, limited_threads, versions
from nunbit.signals import StopRequest, stop_requests
from nunbit.start import Start, build_start, machine_of, resolved
from nunbit.training.loop import keep_best, score_of
from nunbit.training.optim import build_optimizer, load_optimizers
from nunbit.training.state import Best, TrainState, copy_weights
from nunbit.training.tempo import settle_precision
from nunbit.unseen import require_unseen
from nunbit.values import Interval

Publish = Callable[[Finished], object]


def train_run(
    config: RunConfig,
    run_dir: Path | None,
    display: Display,
    publish: Publish,
    read: Read = read_dataset,
    *,
    tensorboard: bool = False,
) -> Finished:
    """Train one model as `config` says and write a new run folder.

    Args:
        config: the whole run.
        run_dir: a folder that is new or empty; None takes the next free one under ./runs.
        display: where progress goes.
        publish: writes the report; called before the run counts as finished.
        read: gives the data; several runs of one process may share what was read once.
        tensorboard: also write events into the run folder; a resumed run goes on with them.

    Raises:
        CannotCreateError: the folder holds something already, or cannot be written.
        LockedError: another process is writing it.
        StoppedError: a signal came; a checkpoint was written.
        NunbitError: bad settings or data; then nothing is left behind.
    """
    if tensorboard:
        require_tensorboard()
    with claim_new(run_dir, config.recipe) as run_dir, stop_requests() as stop:
        remove_litter(run_dir)
        runtime = choose_runtime(config.train)
        dataset = read(config, runtime, display, stop)
        load_optimizers()
        began = time.perf_counter()
        start = build_start(config, dataset, runtime)
        if doubt := require_unseen(config, dataset):
            display.say(doubt)
        runtime = settle_precision(start.model, _loader(config, dataset, runtime), runtime)
        config = resolved(config, runtime)
        training = _new_training(config, dataset, runtime, run_dir, start)
        training.start_seconds = time.perf_counter() - began
        # Before the folder counts as a run: a resumed one looks for it, and not for that of a start
        # that was killed here.
        if tensorboard:
            make_folder(run_dir / EVENTS)
        elif (run_dir / EVENTS).is_dir():
            (run_dir / EVENTS).rmdir()
        write_beginning(run_dir, config, dataset)
        return _complete(training, stop, display, publish)


def resume_run(
    run_dir: Path,
    display: Display,
    publish: Publish,
    read: Read = read_dataset,
    *,
    place: str | None = None,
) -> Finished | None:
    """Go on with a run exactly where its newest whole checkpoint left it.

    The weights end as those of an undisturbed run, bit for bit, on the same torch build, CPU kind
    and thread count. A run that ended already gives None: there is nothing to do.

    Args:
        run_dir: the run's folder.
        display: where progress goes.
        publish: writes the report.
        read: gives the data.
        place: where the data lies now, if it was moved; it is written into the configuration.

    Raises:
        MissingInputError: no such run.
        DataError: its data changed, or every checkpoint is damaged.
        LockedError: another process is writing it.
    """
    with claim_existing(run_dir) as config, stop_requests() as stop:
        remove_litter(run_dir)
        if is_finished(run_dir):
            return None
        if place is not None:
            config = anchored(config.override({"data.source": place}))
        runtime = machine_of(config, display.say)
        checkpoint = load_newest(run_dir, display.say)
        dataset = read(config, runtime, display, stop)
        require_same_data(run_dir, dataset)
        start = build_start(config, dataset, runtime)
        training = _new_training(config, dataset, runtime, run_dir, start)
        if checkpoint is not None:
            require_same_run(checkpoint, training.checkpointer.facts)
            restore(training.state, checkpoint)
            training.checkpointer.keep(checkpoint.path)
            training.history.extend(checkpoint.history)
        if place is not None:
            write_config(run_dir, config)
        state = training.state
        display.say(
            tr("going on after epoch {epoch}, step {step}", epoch=state.epoch, step=state.step)
        )
        return _complete(training, stop, display, publish)


def _loader(config: RunConfig, dataset: Dataset, runtime: Runtime) -> TrainLoader:
    return TrainLoader(dataset.train, dataset.preprocess, config, runtime.device)


def _new_training(
    config: RunConfig, dataset: Dataset, runtime: Runtime, run_dir: Path, start: Start
) -> Training:
    state = TrainState(start.model, build_optimizer(start.model, config.optim))
    facts = {
        "config": json.loads(config.to_json()),
        "fingerprint": dataset.fingerprint,
        "preprocess": json.loads(json.dumps(dataset.preprocess.to_dict())),
        "weights": start.origin["sha256"] if start.origin else "",
    }
    every = Interval.parse(config.train.checkpoint_every)
    return Training(
        config=config,
        runtime=runtime,
        dataset=dataset,
        loader=_loader(config, dataset, runtime),
        state=state,
        checkpointer=Checkpointer(run_dir, every, facts),
        history=[],
        run_dir=run_dir,
        start=start,
    )


def _complete(
    training: Training, stop: StopRequest, display: Display, publish: Publish
) -> Finished:
    """Train to the end, publish the report, and count the run as finished even if that failed."""
    with open_events(training.run_dir, training.history, display.say) as events:
        events.add_graph(training.state.model, training.dataset.preprocess)
        with resumable(training):
            finished = _finish(training, events, stop, display)
        events.add_end(finished)
    try:
        publish(finished)
    finally:
        try:
            write_logs(finished.run_dir, finished.epochs)
        except StorageError as error:  # a log is no reason to lose a training
            display.say(str(error))
        write_predictions(finished.run_dir, finished.dataset, finished.test_logits)
        write_result(finished.run_dir, finished.record())
    return finished


def _finish(training: Training, events: Events, stop: StopRequest, display: Display) -> Finished:
    """Train to the end, measure, and write the model file."""
    config, runtime, dataset = training.config, training.runtime, training.dataset
    state, run_dir = training.state, training.run_dir
    display.say(run_header(config, dataset, runtime, state.model))
    if config.model.head == "logistic" and not state.step and not state.epoch:
        training.head = _fit_head(training, stop, display)
        state.best = _best_start(training.head, training)
    train_epochs(training, events, stop, display)
    best = keep_best(state.model, state)
    kept = state.epoch if best is None else best
    if best == 0:
        display.say(
            tr("no epoch did better on validation than the fitted last layer, which is kept")
        )
    # Where epochs followed, a resumed run has no features either, and must end in the same bits.
    head = None if config.train.epochs else training.head
    end = conclude(state.model, config, dataset, runtime, head, stop.check)
    if kept == state.epoch and training.history:
        look_at_norms(training, end.train.accuracy, display)
    if end.decision and end.test.answers:
        display.say(describe_promise(end.decision))
        display.say(tr("test pictures: {answers}", answers=describe_answers(end.test.answers)))
    classifier = Classifier(
        state.model,
        dataset.class_names,
        dataset.preprocess,
        _card(training, end.train, end.test),
        runtime,
        decision=end.decision,
    )
    classifier.save(run_dir / MODEL_FILE)
    shown = Stoppable(dataset.test.images, stop.check)
    views = measure_views(classifier, shown, dataset.test.labels, config.eval)
    return Finished(
        run_dir=run_dir, config=config, runtime=runtime, dataset=dataset, classifier=classifier,
        epochs=tuple(training.history), kept_epoch=kept, train=end.train, test=end.test,
        test_logits=end.test_logits, train_logits=end.train_logits,
        start_seconds=training.start_seconds, views=views,
    )  # fmt: skip  # one name a line would take thirteen


def _fit_head(training: Training, stop: StopRequest, display: Display) -> HeadStart:
    """Fit the last layer before the first epoch, and say what that took."""
    track = stoppable(display, stop)
    head = fit_start(training.start, training.dataset, training.runtime, track)
    training.start_seconds += head.seconds
    known = sum(len(seen.features) for seen in head.seen.values()) - head.computed
    display.say(
        tr(
            "features of {computed:,} pictures computed, {known:,} known; logistic "
            "regression with C = {strength:g}; {seconds:.1f} s",
            computed=head.computed,
            known=known,
            strength=head.head.strength,
            seconds=head.seconds,
        )
    )
    return head


def _best_start(head: HeadStart, training: Training) -> Best | None:
    """Return the network with its fitted last layer as what the epochs have to do better than."""
    val = training.dataset.val
    if val is None or not training.config.train.epochs:
        return None
    model = training.state.model
    with limited_threads(training.runtime.threads):
        logits = head.outputs("val", model, training.runtime).logits
    _, loss = measure_briefly(logits, val.labels)
    return Best(0, score_of(logits, val.labels, training.config), loss, copy_weights(model))


def _card(training: Training, train: Metrics, test: Metrics) -> dict[str, Any]:
    """Return what travels with the weights, with the device and precision that computed them."""
    config, origin = resolved(training.config, training.runtime), training.start.origin
    return {
        **({"pretrained": origin} if origin else {}),
        "recipe": config.recipe,
        # Without the tag of weights that the settings may name: they are in this file.
        "model": {
            "name": origin["name"] if origin else config.model.name,
            "args": dict(config.model.args),
        },
        "built_for": list(training.start.built_for),
        "metrics": {
            part: {"split": part, "n": m.n, "accuracy": m.accuracy, "ci95": list(m.ci95)}
            for part, m in (("train", train), ("test", test))
        },
        "config": json.loads(config.to_json()),
        "data": {
            "source": config.data.source,
            "fingerprint": training.dataset.fingerprint,
            "pictures": training.dataset.pictures,
        },
        "versions": versions(),
    }
