"""Trains the runs of a comparison side by side, each in a process with its share of the cores.

Networks this small leave cores idle: two trainings side by side with one thread each take three
quarters of the time of one after the other with two threads (docs/log.md). A GPU is used by one
at a time.
"""

import json
import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from nunbit.comparison.plan import PlannedRun
from nunbit.errors import NunbitError, StoppedError
from nunbit.language import tr
from nunbit.signals import StopRequest

POLL_SECONDS = 0.5


def failed(run: PlannedRun, answer: str, exit_code: int) -> NunbitError:
    """Return the error of a run that failed, with the run's name."""
    error = NunbitError(
        "{label}, seed {seed}: {answer}",
        label=run.label,
        seed=run.config.train.seed,
        answer=answer,
    )
    error.exit_code = exit_code
    return error


@contextmanager
def naming(run: PlannedRun) -> Iterator[None]:
    """Name a run in the error of the block, unless that is a stop."""
    try:
        yield
    except StoppedError:
        raise
    except NunbitError as error:
        raise failed(run, str(error), error.exit_code) from error


@dataclass(frozen=True)
class Worker:
    """One training process."""

    process: "subprocess.Popen[str]"
    log: Path

    def train(self, run: PlannedRun) -> PlannedRun:
        """Train one run in the process; wait for its end.

        Raises:
            NunbitError: with the message and the exit code of what went wrong.
        """
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        job = {"run_dir": str(run.run_dir), "config": run.config.to_json()}
        try:
            self.process.stdin.write(json.dumps(job) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            died = tr(
                "its process died ({how}); see {log}", how=self._end(), log=self.log.absolute()
            )
            raise failed(run, died, NunbitError.exit_code)
        answer = json.loads(line)
        if "error" in answer:
            raise failed(run, answer["error"], answer["exit_code"])
        return run

    def _end(self) -> str:
        """Wait for the end of a process that says nothing more, and return how it ended."""
        code = self.process.wait()
        if code == -signal.SIGKILL:
            return tr("killed by SIGKILL, probably by the system because memory ran out")
        if code < 0:
            names = {number.value: number.name for number in signal.Signals}
            return tr("killed by {name}", name=names.get(-code, -code))
        return tr("exit code {code}", code=code)

    def close(self) -> None:
        """Close the input of the process, which stops it; what it trains gets a checkpoint."""
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):  # it died, and what it was sent is still here
            self.process.stdin.close()


def train_all(
    runs: Sequence[PlannedRun], jobs: int, log: Path, stop: StopRequest
) -> Generator[PlannedRun | NunbitError | None]:
    """Train runs in `jobs` processes; yield each as it ends, and None twice a second between.

    Of a run that fails the error is yielded, and the others go on. Closing the iterator, or an
    error that is raised, lets every training write a checkpoint and stop.

    Args:
        runs: one or more, each with the `train.threads` that it will have.
        jobs: how many to train at once.
        log: a text file that gets what the trainings say.
        stop: looked at between two polls.

    Raises:
        StoppedError: a signal came.
    """
    # A process trains one after another, and each sets its own threads, of these at most.
    queue, threads = deque(runs), max(run.config.train.threads for run in runs)
    # All are told to stop before any is waited for, so that they write their checkpoints at once.
    with ExitStack() as ends, ExitStack() as told:
        waiters = ends.enter_context(ThreadPoolExecutor(jobs))

        def begun() -> Worker:
            worker = ends.enter_context(_worker(log, threads))
            told.callback(worker.close)
            return worker

        idle = [begun() for _ in range(min(jobs, len(runs)))]
        pending: dict[Future[PlannedRun], Worker] = {}
        while queue or pending:
            while queue and idle:
                worker = idle.pop()
                pending[waiters.submit(worker.train, queue.popleft())] = worker
            done, _ = wait(pending, POLL_SECONDS, FIRST_COMPLETED)
            for future in done:
                worker = pending.pop(future)
                if worker.process.poll() is None:
                    idle.append(worker)
                elif queue:  # it died, and cannot train the next
                    idle.append(begun())
                yield _end_of(future)
            stop.check()
            yield None


def _end_of(future: Future[PlannedRun]) -> PlannedRun | NunbitError:
    """Return the run of a future, or what went wrong with it."""
    try:
        return future.result()
    except NunbitError as error:
        return error


@contextmanager
def _worker(log: Path, threads: int) -> Iterator[Worker]:
    """Start a worker, which somebody must close inside the block; at its end wait for it."""
    with log.open("a", encoding="utf-8") as messages, _process(messages, threads) as process:
        try:
            yield Worker(process, log)
        finally:
            process.wait()


def _process(messages: IO[str], threads: int) -> "subprocess.Popen[str]":
    # A group of its own: Ctrl-C reaches the comparison alone, which then stops its workers.
    return subprocess.Popen(
        # -P: a random.py in the current folder is not the library's.
        [sys.executable, "-P", "-m", "nunbit.comparison.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=messages,
        text=True,
        start_new_session=True,
        # OpenMP counts its threads when torch is imported: too many of them fight for the cores.
        env={**os.environ, "OMP_NUM_THREADS": str(threads)},
    )
