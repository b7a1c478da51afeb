"""A comparison from names to findings: plan, train what is missing, measure, judge."""

import csv
import io
import json
import shlex
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nunbit.checkpoint import remove_litter
from nunbit.comparison.findings import Difference, find_differences, summarize_findings
from nunbit.comparison.plan import PlannedRun, require_own
from nunbit.comparison.pool import naming, train_all
from nunbit.comparison.precision import share_precision
from nunbit.comparison.samedata import require_shared_data
from nunbit.comparison.table import Row, TestSet, read_rows
from nunbit.data.sources import open_source
from nunbit.errors import NunbitError, StoppedError, UsageError, first_of
from nunbit.language import tr
from nunbit.lock import locked
from nunbit.places import make_folder
from nunbit.progress import Display
from nunbit.reading import OnceReader, stoppable
from nunbit.runfolder import METRICS_FILE, is_finished, read_result
from nunbit.runtime import choose_runtime
from nunbit.signals import StopRequest, stop_requests
from nunbit.storage import atomic_write

LOG_FILE = "workers.log"
JOBS_FILE = ".jobs"
MAX_JOBS = 256


@dataclass(frozen=True)
class Comparison:
    """What a comparison found."""

    folder: Path
    rows: tuple[Row, ...]
    differences: tuple[Difference, ...]
    findings: tuple[str, ...]
    test: TestSet
    jobs: int
    """How many trainings ran at once, at most: in the calls that trained, this one or others."""
    seconds: float
    """Wall time of this call; runs that had finished before cost nothing."""

    def to_dict(self) -> dict[str, Any]:
        """Return the comparison as `nunbit compare --json` prints it."""
        return {
            "run_dir": str(self.folder),
            "pictures": self.test.pictures,
            "chance": self.test.chance,
            "jobs": self.jobs,
            "seconds": round(self.seconds, 1),
            "table": [row.to_dict() for row in self.rows],
            "differences": [difference.to_dict() for difference in self.differences],
            "findings": list(self.findings),
            "figure": str(self.folder / "figures" / "accuracy_comparison.png"),
            "page": str(self.folder / "comparison.html"),
        }


def run_comparison(
    folder: Path,
    runs: Sequence[PlannedRun],
    jobs: int,
    display: Display,
    publish: Callable[[Comparison], None],
) -> Comparison:
    """Train the runs that are not finished, compare all, and write the results.

    Killed at any time, the same call goes on: finished runs are kept, begun ones resumed.

    Args:
        folder: of the comparison; new, or of the same comparison.
        runs: from `plan_runs`.
        jobs: trainings at once; 0 chooses.
        display: where progress goes.
        publish: draws figures and the page; called last.

    Raises:
        CannotCreateError: the folder holds something else.
        LockedError: another process works on it.
        StoppedError: a signal came; checkpoints were written.
        NunbitError: runs failed, of which the others ended; or the data changed since one began.
    """
    start = time.monotonic()
    if not 0 <= jobs <= MAX_JOBS:
        raise UsageError(
            "jobs is {jobs}; allowed: 0 (choose) to {max_jobs}", jobs=jobs, max_jobs=MAX_JOBS
        )
    require_own(folder, runs)
    make_folder(folder)
    with locked(folder), stop_requests() as stop:
        require_own(folder, runs)
        remove_litter(folder)
        jobs = _train_missing(runs, jobs, folder, display, stop)
        rows, test = read_rows(runs)
        differences = find_differences(rows, test.pictures)
        findings = summarize_findings(rows, differences, test.pictures)
        comparison = Comparison(
            folder, tuple(rows), tuple(differences), tuple(findings), test, jobs,
            time.monotonic() - start,
        )  # fmt: skip  # one name a line would take seven
        _write(comparison)
        publish(comparison)
        return comparison


def _train_missing(
    runs: Sequence[PlannedRun], jobs: int, folder: Path, display: Display, stop: StopRequest
) -> int:
    """Train the runs that have not ended; return how many trainings ran at once, here or before."""
    todo = [run for run in runs if not is_finished(run.run_dir)]
    if not todo:
        return _known_jobs(folder) or _at_once(runs, jobs)
    jobs = _at_once(todo, jobs)
    todo = [_on_this_machine(run, jobs) for run in todo]
    try:
        todo = _prepared(runs, todo, display, stop)
        if jobs > _known_jobs(folder):
            atomic_write(folder / JOBS_FILE, f"{jobs}\n".encode())
        _train(todo, jobs, folder, display, stop)
    except StoppedError as error:
        again = tr("the same command goes on from here")
        raise StoppedError(f"{error}; {again}", error.exit_code - 128) from None
    return _known_jobs(folder)


def _known_jobs(folder: Path) -> int:
    """Return how many trainings ran at once at most, in the calls that trained; 0 if none did."""
    try:
        return int((folder / JOBS_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):  # a number for the reader, and no reason to fail
        return 0


def _prepared(
    runs: Sequence[PlannedRun], todo: Sequence[PlannedRun], display: Display, stop: StopRequest
) -> list[PlannedRun]:
    """Return what is to be trained, in one precision each, with its data at hand and compared."""
    # All have one source. A download is missed here once, and not by several processes at once.
    with naming(todo[0]):
        open_source(todo[0].config.data.source, stoppable(display, stop))
    read = OnceReader()
    require_shared_data(runs, read, display, stop)
    return share_precision(runs, todo, read, display, stop)


def _at_once(runs: Sequence[PlannedRun], jobs: int) -> int:
    return min(jobs or _choose_jobs(runs), len(runs))


def _choose_jobs(runs: Sequence[PlannedRun]) -> int:
    """Return how many trainings at once keep all cores busy; one, if any is on a GPU."""
    found = [choose_runtime(replace(run.config.train, threads=0)) for run in runs]
    if any(runtime.device.type != "cpu" for runtime in found):
        return 1
    most = max(1, *(run.config.train.threads for run in runs))
    return max(1, found[0].threads // most)


def _on_this_machine(run: PlannedRun, jobs: int) -> PlannedRun:
    """Return a run with its share of the cores, unless its settings name a number of threads."""
    train = run.config.train
    cores = choose_runtime(replace(train, threads=0)).threads
    threads = train.threads or max(1, cores // jobs)
    return replace(run, config=replace(run.config, train=replace(train, threads=threads)))


def _train(
    runs: Sequence[PlannedRun], jobs: int, folder: Path, display: Display, stop: StopRequest
) -> None:
    # Where train.max_steps ends a training, its pictures, not yet read, decide the epochs.
    are_known = not any(run.config.train.max_steps for run in runs)
    epochs = sum(run.config.train.epochs for run in runs)
    length = tr("{epochs:,} epochs, ", epochs=epochs) if are_known else ""
    display.say(
        tr(
            "{count} trainings, {length}{jobs} at once, in {folder}",
            count=len(runs),
            length=length,
            jobs=jobs,
            folder=folder,
        )
    )
    bar = (epochs, tr("epochs")) if are_known else (len(runs), tr("trainings"))
    finished: list[PlannedRun] = []
    faults: list[NunbitError] = []
    training = closing(train_all(runs, jobs, folder / LOG_FILE, stop))
    with display.bar(*bar) as show, training as progress:
        for end in progress:
            ended = len(finished) + len(faults)
            show(sum(_epochs_done(run) for run in runs) if are_known else ended)
            if isinstance(end, NunbitError):
                faults.append(end)
                display.say(str(end))
            elif end is not None:
                finished.append(end)
                display.say(_describe_end(end, len(finished), len(runs)))
    if faults:
        raise _joined(faults, folder)


def _describe_end(run: PlannedRun, done: int, total: int) -> str:
    return tr(
        "{done}/{total} {label}, seed {seed}: test {accuracy:.2%}",
        done=done,
        total=total,
        label=run.label,
        seed=run.config.train.seed,
        accuracy=read_result(run.run_dir)["test"]["accuracy"],
    )


def _joined(faults: Sequence[NunbitError], folder: Path) -> NunbitError:
    """Return one error that names all trainings that failed; the first gives the exit code."""
    error = NunbitError(
        "{faults}; the same command tries again, and without the recipes or seeds that failed, "
        "--run-dir {folder} goes on with what is trained",
        faults=first_of(list(map(str, faults))),
        folder=shlex.quote(str(folder)),
    )
    error.exit_code = faults[0].exit_code
    return error


def _epochs_done(run: PlannedRun) -> int:
    """Count the epochs that a run has logged; its log is its only word before it ends."""
    try:
        return (run.run_dir / METRICS_FILE).read_bytes().count(b"\n")
    except OSError:
        return 0


def _write(comparison: Comparison) -> None:
    body = comparison.to_dict()
    text = json.dumps(body, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    atomic_write(comparison.folder / "comparison.json", text.encode())
    table = io.StringIO()
    rows = [_flat(row) for row in body["table"]]
    writer = csv.DictWriter(table, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    atomic_write(comparison.folder / "comparison.csv", table.getvalue().encode())


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row whose interval is two columns and whose lists are words."""
    low, high = row["test_ci95"]
    flat = {
        name: " ".join(map(str, value)) if isinstance(value, tuple) else value
        for name, value in row.items()
        if name != "test_ci95"
    }
    return flat | {"test_ci95_low": low, "test_ci95_high": high}
