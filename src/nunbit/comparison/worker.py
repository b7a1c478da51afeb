"""A process that trains one run after another: `python -m nunbit.comparison.worker`.

Standard input brings one JSON object a line (`run_dir`, `config`); standard output answers with
one a line. When the input ends, a training that is under way writes a checkpoint and stops: a
worker never outlives the comparison that started it, however that ended.
"""

import json
import os
import queue
import signal
import sys
import threading
from pathlib import Path

from nunbit.config import RunConfig
from nunbit.errors import NunbitError, memory_error, system_error
from nunbit.finished import Finished
from nunbit.progress import Display
from nunbit.reading import OnceReader
from nunbit.run import resume_run, train_run
from nunbit.runfolder import CONFIG_FILE


def main() -> None:
    """Train what the lines of standard input say until it ends."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # by which it stops itself
    jobs: queue.Queue[str | None] = queue.Queue()
    busy, ended = threading.Event(), threading.Event()
    threading.Thread(target=_receive, args=(jobs, busy, ended), daemon=True).start()
    display, read = Display(), OnceReader()
    while (line := jobs.get()) is not None:
        job = json.loads(line)
        busy.set()
        if ended.is_set():  # each side speaks first and looks then: one of them sees the other
            return
        answer = _answer(job, display, read)
        busy.clear()
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def _receive(
    jobs: "queue.Queue[str | None]", busy: threading.Event, ended: threading.Event
) -> None:
    for line in sys.stdin:
        jobs.put(line)
    jobs.put(None)
    ended.set()
    if busy.is_set():
        os.kill(os.getpid(), signal.SIGTERM)


def _answer(job: dict[str, str], display: Display, read: OnceReader) -> dict[str, object]:
    """Train a run and return what to say of it."""
    try:
        _train(Path(job["run_dir"]), RunConfig.from_json(job["config"]), display, read)
        return {"run_dir": job["run_dir"]}
    except NunbitError as error:
        found = error
    except OSError as error:
        found = system_error(error)
    except (MemoryError, RuntimeError) as error:
        found = memory_error(error)
    return {"error": str(found), "exit_code": found.exit_code}


def _train(run_dir: Path, config: RunConfig, display: Display, read: OnceReader) -> None:
    display.say(f"{run_dir}:")
    if (run_dir / CONFIG_FILE).exists():
        resume_run(run_dir, display, _publish_nothing, read)
    else:
        train_run(config, run_dir, display, _publish_nothing, read)


def _publish_nothing(_finished: Finished) -> None:
    """Draw no page for each run: the comparison has its own."""


if __name__ == "__main__":
    main()
