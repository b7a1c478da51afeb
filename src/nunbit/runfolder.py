"""The files of a run folder: who may write it, what is in it, and in which order it appears."""

import csv
import io
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor

from nunbit.bundle import MODEL_FILE
from nunbit.checkpoint import FOLDER as CHECKPOINTS
from nunbit.config import RunConfig
from nunbit.data.pictures import require_text
from nunbit.data.sources import refuse_inside
from nunbit.data.splits import Dataset
from nunbit.errors import (
    CannotCreateError,
    DataError,
    LockedError,
    MissingInputError,
    StorageError,
)
from nunbit.language import tr
from nunbit.lock import LOCK_FILE, locked
from nunbit.progress import Display
from nunbit.storage import atomic_write, create_folder, is_temporary
from nunbit.training.loop import EpochResult

RUNS = Path("runs")
CONFIG_FILE = "config.json"
SPLIT_FILE = "split.csv"
SKIPPED_FILE = "skipped.txt"
RESULT_FILE = "result.json"
PREDICTIONS_FILE = "predictions.csv"
METRICS_FILE = "metrics.jsonl"
TIMINGS_FILE = "timings.jsonl"
NAMED_DIFFERENCES = 3


def next_run_dir(recipe: str) -> Path:
    """Return the first free folder for a recipe: runs/birds-net, runs/birds-net-2, ..."""
    base = recipe.replace("/", "-")
    number = 1
    while (path := RUNS / (base if number == 1 else f"{base}-{number}")).exists():
        number += 1
    return path


@contextmanager
def claim_new(run_dir: Path | None, recipe: str) -> Iterator[Path]:
    """Create and hold a new run folder for the block, and give its path.

    A run that fails before it wrote anything leaves no folder behind.

    Args:
        run_dir: the folder; None takes the next free one, whoever else does the same.
        recipe: what that is named after.

    Raises:
        UsageError: its name is no text, and stands in its files.
        CannotCreateError: it holds something already, or cannot be written.
        LockedError: another process is writing it.
    """
    with ExitStack() as held:
        while True:
            folder = run_dir or next_run_dir(recipe)
            try:
                held.enter_context(_claimed(folder))
                break
            except (CannotCreateError, LockedError):
                if run_dir or not folder.exists():
                    raise
        yield folder


def require_free(run_dir: Path | None, config: RunConfig) -> None:
    """Refuse a run folder now that could not be claimed once everything is read and planned.

    Raises:
        NunbitError: as `claim_new`, and where results would lie inside the data.
    """
    refuse_inside(run_dir or next_run_dir(config.recipe), config.data.source, "--run-dir")
    with claim_new(run_dir, config.recipe):
        pass


@contextmanager
def _claimed(run_dir: Path) -> Iterator[None]:
    require_text(run_dir)
    missing = [path for path in (run_dir, *run_dir.parents) if not os.path.exists(path)]
    if os.path.exists(run_dir) and not os.path.isdir(run_dir):
        raise CannotCreateError("{run_dir} is a file; choose another --run-dir", run_dir=run_dir)
    create_folder(run_dir)
    _require_unborn(run_dir)  # also here: a folder of the user's gets no lock file
    try:
        with locked(run_dir):
            _require_unborn(run_dir)
            try:
                yield
            finally:
                _remove_if_untouched(run_dir, missing)
    except CannotCreateError:  # also where nothing can be locked
        _remove_empty(run_dir, missing)
        raise


def _require_unborn(run_dir: Path) -> None:
    """Refuse a folder that holds more than a run writes before it counts as one.

    The lock is what a run writes first: without it, whatever lies here is somebody else's.
    """
    names = {path.name for path in run_dir.rglob("*")}
    if LOCK_FILE in names:
        names -= {LOCK_FILE, SPLIT_FILE, SKIPPED_FILE, CHECKPOINTS}
        names = {name for name in names if not is_temporary(name)}
    if names:
        is_run = (run_dir / CONFIG_FILE).exists()
        hint = tr(", or go on with it: nunbit resume {run_dir}", run_dir=run_dir) if is_run else ""
        raise CannotCreateError(
            "{run_dir} exists and is not empty; choose another --run-dir{hint}",
            run_dir=run_dir,
            hint=hint,
        )


def _remove_if_untouched(run_dir: Path, created: Sequence[Path]) -> None:
    if not run_dir.exists() or [path.name for path in run_dir.iterdir()] != [LOCK_FILE]:
        return
    (run_dir / LOCK_FILE).unlink()
    _remove_empty(run_dir, created)


def _remove_empty(run_dir: Path, created: Sequence[Path]) -> None:
    """Remove the folders that were made for a run, as far as they hold nothing."""
    for folder in created if run_dir in created else ():  # innermost first
        try:
            folder.rmdir()
        except OSError:
            return  # somebody else has put something there


@contextmanager
def claim_existing(run_dir: Path) -> Iterator[RunConfig]:
    """Hold the folder of a run that began, and give its configuration.

    Raises:
        UsageError: its name is no text, and stands in its files.
        MissingInputError: no such run.
        DataError: its configuration cannot be read.
        LockedError: another process is writing it.
    """
    require_text(run_dir)
    path = run_dir / CONFIG_FILE
    if not os.path.isfile(path):
        raise MissingInputError(
            "{run_dir} is no run folder: it has no {config_file}",
            run_dir=run_dir,
            config_file=CONFIG_FILE,
        )
    with locked(run_dir):
        with _readable(path, run_dir):
            text = path.read_text(encoding="utf-8")
        yield RunConfig.from_json(text)


def is_finished(run_dir: Path) -> bool:
    """Return whether a run ended; its result is the last thing that it writes."""
    return (run_dir / RESULT_FILE).exists() and (run_dir / MODEL_FILE).exists()


def read_result(run_dir: Path) -> dict[str, Any]:
    """Return what a finished run wrote about itself.

    Raises:
        DataError: the file is damaged.
    """
    path = run_dir / RESULT_FILE
    with _readable(path, run_dir):
        return dict(json.loads(path.read_text(encoding="utf-8")))


def write_beginning(run_dir: Path, config: RunConfig, dataset: Dataset) -> None:
    """Write what is known before the first update; the configuration last, as it makes a run."""
    atomic_write(run_dir / SPLIT_FILE, _split_table(dataset).encode())
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
    lines = [_line(("picture", "label", "predicted", "probability"))]
    labels, test = dataset.test.labels.tolist(), dataset.test
    for row in zip(test.names, labels, predicted_N.tolist(), sure_N.tolist(), strict=True):
        name, label, predicted, sure = row
        lines.append(_line((name, classes[label], classes[predicted], f"{sure:.4f}")))
    atomic_write(run_dir / PREDICTIONS_FILE, "".join(lines).encode())


def read_predictions(run_dir: Path) -> dict[str, tuple[str, str]]:
    """Return the label and the prediction of every test picture by its name.

    Raises:
        DataError: the run is of an older nunbit, or the file is damaged.
    """
    path = run_dir / PREDICTIONS_FILE
    with _readable(path, run_dir):
        rows = _rows(path.read_bytes().decode())
        del rows["picture"]
        return {name: (row[0], row[1]) for name, row in rows.items()}


def write_result(run_dir: Path, body: dict[str, Any]) -> None:
    """Write the result, which marks a run as finished."""
    text = json.dumps(body, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    atomic_write(run_dir / RESULT_FILE, text.encode())


def require_same_data(run_dir: Path, dataset: Dataset) -> None:
    """Refuse to go on with other pictures than the run began with.

    Raises:
        DataError: naming the first differences; or it cannot be read what it began with.
    """
    path = run_dir / SPLIT_FILE
    with _readable(path, run_dir):
        before = _rows(path.read_bytes().decode())
    now = _rows(_split_table(dataset))
    if before == now:
        return
    found = [tr("{name} is gone", name=name) for name in before if name not in now]
    found += [tr("{name} is new", name=name) for name in now if name not in before]
    found += [f"{name} changed" for name in now if name in before and before[name] != now[name]]
    named = ", ".join(found[:NAMED_DIFFERENCES])
    more = (
        tr(" and {count} more", count=len(found) - NAMED_DIFFERENCES)
        if len(found) > NAMED_DIFFERENCES
        else ""
    )
    raise DataError(
        "the data of {run_dir} changed since it began: {named}{more}",
        run_dir=run_dir,
        named=named,
        more=more,
    )


@contextmanager
def _readable(path: Path, run_dir: Path) -> Iterator[None]:
    """Refuse a file of a run that the block cannot read or understand."""
    try:
        yield
    except (OSError, csv.Error, ValueError, TypeError, LookupError) as error:
        raise DataError(
            "{path} cannot be read; train {run_dir} again", path=path, run_dir=run_dir
        ) from error


def _rows(table: str) -> dict[str, tuple[str, ...]]:
    return {row[0]: tuple(row[1:]) for row in csv.reader(io.StringIO(table, newline=""))}


def _line(row: Sequence[str]) -> str:
    r"""Return a row as CSV. A name may hold \r, which csv quotes only where lines end in it."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\r\n").writerow(row)
    return text.getvalue().removesuffix("\r\n") + "\n"


def _split_table(dataset: Dataset) -> str:
    """Return which picture is in which split, with its digest, as CSV."""
    lines = [_line(("picture", "label", "split", "digest"))]
    for part in ("train", "val", "test"):
        pictures = getattr(dataset, part)
        if pictures is not None:
            labels = (dataset.class_names[i] for i in pictures.labels.tolist())
            for name, label, digest in zip(pictures.names, labels, pictures.digests, strict=True):
                lines.append(_line((name, label, part, digest)))
    return "".join(lines)


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
            for name, fields in (
                (METRICS_FILE, [r.metrics() for r in results]),
                (TIMINGS_FILE, [r.timings() for r in results]),
            ):
                lines = "".join(json.dumps(f, allow_nan=False) + "\n" for f in fields)
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
