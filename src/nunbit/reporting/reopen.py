"""A finished run again, from its folder and its data: all that a page is drawn from."""

import json
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from nunbit.bundle import Classifier
from nunbit.conclusion import measured_train
from nunbit.config import RunConfig
from nunbit.data.pictures import ImageSet
from nunbit.data.rows import batches, collect_rows
from nunbit.data.sources import open_source
from nunbit.data.splits import Dataset, open_dataset
from nunbit.errors import DataError, MissingInputError
from nunbit.evaluation import fitting
from nunbit.finished import Finished, measure_views
from nunbit.language import tr
from nunbit.metrics import measure
from nunbit.modelfile import load_classifier
from nunbit.progress import Display
from nunbit.runclaim import claim_existing
from nunbit.runfolder import (
    METRICS_FILE,
    TIMINGS_FILE,
    is_finished,
    read_result,
    require_same_data,
)
from nunbit.start import machine_of
from nunbit.training.loop import EpochResult


@dataclass(frozen=True)
class _Records:
    """What a run wrote of itself and of its epochs."""

    epochs: tuple[EpochResult, ...]
    kept_epoch: int
    start_seconds: float
    test_accuracy: float


@contextmanager
def reopened(run_dir: Path, display: Display) -> Iterator[Finished]:
    """Hold the folder of a finished run, and give what its training ended in.

    The pictures are read again, and the network classifies them again.

    Raises:
        MissingInputError: no such run, a run that has not ended, or its data is gone.
        DataError: its data changed, or its log is damaged.
        LockedError: another process is writing it.
    """
    with claim_existing(run_dir) as config:
        if not is_finished(run_dir):
            raise MissingInputError(
                "{run_dir} has not ended; go on with: nunbit resume {quoted}",
                run_dir=run_dir,
                quoted=shlex.quote(str(run_dir)),
            )
        records = _records(run_dir)
        # As its training used it: on its device, in its precision.
        classifier = load_classifier(run_dir, machine_of(config, display.say))
        dataset = _dataset(run_dir, config, classifier, display)
        batch_size, names = config.eval.batch_size, dataset.class_names
        measured = measured_train(dataset.train, config)
        train_logits, _ = _logits(classifier, measured, batch_size, display)
        test_logits, verdicts = _logits(classifier, dataset.test, batch_size, display)
        finished = Finished(
            run_dir=run_dir,
            config=config,
            runtime=classifier.runtime,
            dataset=dataset,
            classifier=classifier,
            epochs=records.epochs,
            kept_epoch=records.kept_epoch,
            train=measure(train_logits, measured.labels, names),
            test=measure(test_logits, dataset.test.labels, names, verdicts),
            test_logits=test_logits,
            train_logits=train_logits if len(measured) == len(dataset.train) else None,
            start_seconds=records.start_seconds,
            views=measure_views(classifier, dataset.test.images, dataset.test.labels, config.eval),
        )
        if finished.test.accuracy != records.test_accuracy:
            display.say(
                tr(
                    "{run_dir}: test accuracy {now:.2%} here; its training had {recorded:.2%}",
                    run_dir=run_dir,
                    now=finished.test.accuracy,
                    recorded=records.test_accuracy,
                )
            )
        yield finished


def _records(run_dir: Path) -> _Records:
    """Read what a run wrote of itself and of its epochs.

    Raises:
        DataError: files are gone, damaged, or of a nunbit that wrote less.
    """
    try:
        result = read_result(run_dir)
        metrics, timings = (
            [json.loads(line) for line in (run_dir / name).read_text("utf-8").splitlines()]
            for name in (METRICS_FILE, TIMINGS_FILE)
        )
        logged = min(len(metrics), len(timings))
        if logged != result["epochs"]:
            raise ValueError(
                tr(
                    "{logged} of {epochs} epochs are in its logs",
                    logged=logged,
                    epochs=result["epochs"],
                )
            )
        epochs = [EpochResult(**{**a, **b}) for a, b in zip(metrics, timings, strict=True)]
        # Before the start's seconds were recorded, they were what the epochs leave of all.
        rest = max(0.0, result["seconds"] - sum(epoch.seconds for epoch in epochs))
        start_seconds = result.get("start_seconds", rest)
        test_accuracy = result["test"]["accuracy"]
        return _Records(tuple(epochs), result["kept_epoch"], start_seconds, test_accuracy)
    except KeyError as error:
        raise DataError(
            "result.json of {run_dir} has no {key}; an older nunbit wrote it: train it again",
            run_dir=run_dir,
            key=error,
        ) from error
    except (OSError, ValueError, TypeError) as error:
        raise DataError(
            "the records of {run_dir} cannot be read: {error}", run_dir=run_dir, error=error
        ) from error


def _dataset(run_dir: Path, config: RunConfig, classifier: Classifier, display: Display) -> Dataset:
    try:
        source = open_source(config.data.source, display.track)
    except MissingInputError as error:
        raise MissingInputError(
            "the data of {run_dir} is gone: {error}", run_dir=run_dir, error=error
        ) from error
    threads = classifier.runtime.threads
    dataset = open_dataset(source, config.data, threads, display.track, classifier.preprocess)
    require_same_data(run_dir, dataset)
    return dataset


def _logits(
    classifier: Classifier, pictures: ImageSet, batch_size: int, display: Display
) -> tuple[Tensor, Tensor | None]:
    """Return logits (N, K) of a split, and verdicts (N,) of a model that may decline.

    The same batches as in training give the same bits.
    """
    batch_size = fitting(pictures.images.shape, batch_size)
    count = -(-len(pictures) // batch_size)
    split = batches(pictures.images, batch_size)
    tracked = display.track(split, count, tr("classifying pictures"))
    said = (classifier.outputs(batch, batch_size) for batch in tracked)
    found = ([x.logits] if verdict is None else [x.logits, verdict] for x, verdict in said)
    logits, *verdicts = collect_rows(len(pictures), found)
    return logits, verdicts[0] if verdicts else None
