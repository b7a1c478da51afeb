"""The files of a run folder: what is in each, and in which order they appear."""

import csv
import io
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor

from nunbit.bundle import MODEL_FILE
from nunbit.config import RunConfig
from nunbit.data.splits import Dataset
from nunbit.errors import DataError, StorageError, listed
from nunbit.language import tr
from nunbit.progress import Display
from nunbit.storage import atomic_write, csv_line
from nunbit.training.loop import EpochResult

RUNS = Path("runs")
CONFIG_FILE = "config.json"
SPLIT_FILE = "split.csv"
SKIPPED_FILE = "skipped.txt"
EVENTS = "tensorboard"  # a folder
RESULT_FILE = "result.json"
PREDICTIONS_FILE = "predictions.csv"
METRICS_FILE = "metrics.jsonl"
TIMINGS_FILE = "timings.jsonl"
NAMED_DIFFERENCES = 3


def is_finished(run_dir: Path) -> bool:
    """Return whether a run ended; its result is the last thing that it writes."""
    return (run_dir / RESULT_FILE).exists() and (run_dir / MODEL_FILE).exists()


def read_result(run_dir: Path) -> dict[str, Any]:
    """Return what a finished run wrote about itself.

    Raises:
        DataError: the file is damaged.
    """
    path = run_dir / RESULT_FILE
    with readable(path, run_dir):
        return dict(json.loads(path.read_text(encoding="utf-8")))


def read_config(run_dir: Path) -> RunConfig:
    """Return the settings of a run that began.

    Raises:
        DataError: the file cannot be read.
        UsageError: a newer nunbit wrote it, or it was changed by hand.
    """
    path = run_dir / CONFIG_FILE
    with readable(path, run_dir):
        text = path.read_text(encoding="utf-8")
    return RunConfig.from_json(text)


def read_losses(run_dir: Path) -> tuple[float, ...]:
    """Return the mean training loss of each epoch.

    Raises:
        DataError: the log is damaged.
    """
    path = run_dir / METRICS_FILE
    with readable(path, run_dir):
        lines = path.read_text(encoding="utf-8").splitlines()
        return tuple(float(json.loads(line)["train_loss"]) for line in lines)


def write_beginning(run_dir: Path, config: RunConfig, dataset: Dataset) -> None:
    """Write what is known before the first update; the configuration last, as it makes a run."""
    atomic_write(run_dir / SPLIT_FILE, _split_table(dataset).encode())
    (run_dir / SKIPPED_FILE).unlink(missing_ok=True)  # of a start that was killed here
    if dataset.skipped:
        lines = "".join(f"{fault.name}\t{fault.reason}\n" for fault in dataset.skipped)
        atomic_write(run_dir / SKIPPED_FILE, lines.encode())
    write_config(run_dir, config)


def write_config(run_dir: Path, config: RunConfig) -> None:
    """Write the settings of a run, which repeat it."""
    atomic_write(run_dir / CONFIG_FILE, config.to_json().encode())


def write_predictions(run_dir: Path, dataset: Dataset, test_logits_NK: Tensor) -> None:
    """Write what the finished model says of every test picture, as CSV."""
    sure_N, predicted_N = test_logits_NK.softmax(1).max(1)
    classes = dataset.class_names
    lines = [csv_line(("picture", "label", "predicted", "probability"))]
    labels, test = dataset.test.labels.tolist(), dataset.test
    for row in zip(test.names, labels, predicted_N.tolist(), sure_N.tolist(), strict=True):
        name, label, predicted, sure = row
        lines.append(csv_line((name, classes[label], classes[predicted], f"{sure:.4f}")))
    atomic_write(run_dir / PREDICTIONS_FILE, "".join(lines).encode())


def read_predictions(run_dir: Path) -> dict[str, tuple[str, str]]:
    """Return the label and the prediction of every test picture by its name.

    A table may list a picture several times; the second time its name is `a.png (2)`.

    Raises:
        DataError: the run is of an older nunbit, or the file is damaged.
    """
    path = run_dir / PREDICTIONS_FILE
    with readable(path, run_dir):
        rows = _rows(path.read_bytes().decode())
        del rows["picture"]
        return {name: (row[0], row[1]) for name, row in rows.items()}


def read_split(run_dir: Path) -> dict[str, tuple[str, str, str]]:
    """Return label, split and digest of every picture of a run by its name.

    Raises:
        DataError: the file is damaged.
    """
    path = run_dir / SPLIT_FILE
    with readable(path, run_dir):
        rows = _rows(path.read_bytes().decode())
        del rows["picture"]
        return {name: (label, split, digest) for name, (label, split, digest) in rows.items()}


def write_result(run_dir: Path, body: dict[str, Any]) -> None:
    """Write the result, which marks a run as finished."""
    text = json.dumps(body, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    atomic_write(run_dir / RESULT_FILE, text.encode())


def require_same_data(run_dir: Path, dataset: Dataset) -> None:
    """Refuse to go on with other pictures than the run began with.

    Raises:
        DataError: naming the first differences; or it cannot be read what it began with.
    """
    if named := changes_since(run_dir, dataset):
        raise DataError(
            "the data of {run_dir} changed since it began: {named}", run_dir=run_dir, named=named
        )


def changes_since(run_dir: Path, dataset: Dataset) -> str:
    """Name the first pictures that differ from those that a run began with; empty if none do.

    Raises:
        DataError: it cannot be read what it began with.
    """
    path = run_dir / SPLIT_FILE
    with readable(path, run_dir):
        before = _rows(path.read_bytes().decode())
    now = _rows(_split_table(dataset))
    found = [tr("{name} is gone", name=name) for name in before if name not in now]
    found += [tr("{name} is new", name=name) for name in now if name not in before]
    found += [
        tr("{name} changed", name=name)
        for name in now
        if name in before and before[name] != now[name]
    ]
    return listed(found, NAMED_DIFFERENCES)


@contextmanager
def readable(path: Path, run_dir: Path) -> Iterator[None]:
    """Refuse a file of a run that the block cannot read or understand."""
    try:
        yield
    except (OSError, csv.Error, ValueError, TypeError, LookupError) as error:
        raise DataError(
            "{path} cannot be read; train {run_dir} again", path=path, run_dir=run_dir
        ) from error


def _rows(table: str) -> dict[str, tuple[str, ...]]:
    """Return rows by their first cell, numbered as in `told_apart`."""
    rows = list(csv.reader(io.StringIO(table, newline="")))
    names = told_apart(name for name, *_ in rows)
    return {name: tuple(rest) for name, (_, *rest) in zip(names, rows, strict=True)}


def told_apart(names: Iterable[str]) -> list[str]:
    """Return names of pictures, with a number behind one that a table lists again."""
    times: Counter[str] = Counter()
    found = []
    for name in names:
        times[name] += 1
        found.append(name if times[name] == 1 else f"{name} ({times[name]})")
    return found


def _split_table(dataset: Dataset) -> str:
    """Return which picture is in which split, with its digest, as CSV."""
    lines = [csv_line(("picture", "label", "split", "digest"))]
    for part in ("train", "val", "test"):
        pictures = getattr(dataset, part)
        if pictures is not None:
            labels = (dataset.class_names[i] for i in pictures.labels.tolist())
            for name, label, digest in zip(pictures.names, labels, pictures.digests, strict=True):
                lines.append(csv_line((name, label, part, digest)))
    return "".join(lines)


def write_logs(run_dir: Path, history: Sequence[EpochResult]) -> None:
    """Write both logs whole: while a run goes on, a full disk may have cost them a line."""
    for name, lines in _log_lines(history).items():
        atomic_write(run_dir / name, lines.encode())


def _log_lines(results: Sequence[EpochResult]) -> dict[str, str]:
    """Return a line of each log for each epoch."""
    fields = {
        METRICS_FILE: [result.metrics() for result in results],
        TIMINGS_FILE: [result.timings() for result in results],
    }
    return {
        name: "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows)
        for name, rows in fields.items()
    }


class EpochLog:
    """Writes one line per epoch: results, which repeat bit for bit, apart from timings."""

    def __init__(self, run_dir: Path, history: Sequence[EpochResult], display: Display) -> None:
        """Begin the logs anew with the epochs that a checkpoint knows.

        A line that a killed process wrote after its last checkpoint is written again by the epoch
        that is trained again.
        """
        self._run_dir, self._display, self._warned = run_dir, display, False
        self._attempt("w", history)

    def add(self, result: EpochResult) -> None:
        """Append one epoch. A log that cannot be written is no reason to end a training."""
        self._attempt("a", [result])

    def _attempt(self, mode: str, results: Sequence[EpochResult]) -> None:
        try:
            for name, lines in _log_lines(results).items():
                with (self._run_dir / name).open(mode, encoding="utf-8") as log:
                    log.write(lines)
        except OSError as error:
            if not self._run_dir.is_dir():
                raise StorageError(
                    "the run folder {run_dir} is gone", run_dir=self._run_dir
                ) from error
            if not self._warned:
                self._display.say(
                    tr(
                        "cannot write the log ({strerror}); training goes on",
                        strerror=error.strerror,
                    )
                )
            self._warned = True
