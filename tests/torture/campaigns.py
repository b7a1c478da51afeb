"""The campaigns: each makes one kind of fault many times and counts what survived."""

import errno
import itertools
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import nunbit.training.loop as loop
from nunbit.checkpoint import FOLDER, _files, load_newest, read
from nunbit.config import RunConfig
from nunbit.errors import DataError
from nunbit.runfolder import PREDICTIONS_FILE, is_finished
from nunbit.storage import load_tensors, save_tensors

from .harness import (
    Fault,
    Report,
    begin_or_go_on,
    count_operations,
    digest,
    in_child,
    run,
    run_with,
    tiny,
    undisturbed,
    wait,
)
from .power import power_loss

Campaign = Callable[[Path, bool], Report]


def random_kills(folder: Path, deep: bool) -> Report:
    """SIGKILL at random times; resumed until the run ends."""
    report, config = Report("SIGKILL at a random time, then resume (F01)"), tiny()
    start = time.monotonic()
    expected = undisturbed(config, folder / "whole")
    length = time.monotonic() - start
    chance = random.Random(0)
    home = folder / "r"
    while report.cases < (200 if deep else 10):
        for _ in range(15):
            child = in_child(lambda home=home: begin_or_go_on(config, home))
            time.sleep(chance.uniform(0, 0.6 * length))
            os.kill(child, signal.SIGKILL)
            if wait(child) == 0:
                break
            report.cases += 1
        code = run(config, home)
        same = code == 0 and digest(home) == expected
        report.failures += [] if same else [f"after {report.cases} kills: exit {code}"]
        report.failures += [f"{p} is left" for p in home.rglob("*.tmp")]
        shutil.rmtree(home)
    return report


def command_line_kills(folder: Path, deep: bool) -> Report:
    """SIGKILL of the real command, started anew each time."""
    report, config = Report("SIGKILL of the real command (F01)"), tiny(**{"train.epochs": 12})
    expected = undisturbed(config, folder / "whole")
    (folder / "c.json").write_text(config.to_json())
    chance, home, kills = random.Random(1), folder / "r", 0
    command = [sys.executable, "-m", "nunbit"]
    quick = dict(os.environ, OMP_NUM_THREADS="1")
    while kills < (20 if deep else 2):
        if is_finished(home):
            report.expect(digest(home) == expected, "another result after kills")
            shutil.rmtree(home)
        begun = (home / "config.json").exists()
        words = ["resume", home] if begun else ["train", "--config", folder / "c.json"]
        words += [] if begun else ["--run-dir", home]
        with subprocess.Popen([*command, *map(str, words), "--quiet"], env=quick) as process:
            # Importing takes seconds, training one: wait for the training, then for a random time.
            waited = time.monotonic()
            while not any(home.glob("checkpoints/step-*")) and process.poll() is None:
                time.sleep(0.01)
                if time.monotonic() - waited > 60:
                    process.kill()
                    raise AssertionError("the command wrote no checkpoint within 60 s")
            time.sleep(chance.uniform(2.0, 6.0) if begun else chance.uniform(0, 1.0))
            process.kill()
        kills += process.returncode == -signal.SIGKILL
    code = run(config, home)
    report.expect(code == 0 and digest(home) == expected, f"exit {code} or another result")
    report.cases += kills
    return report


def spread(total: int, count: int) -> list[int]:
    """Return numbers from 1 to `total` at nearly equal distances.

    A whole step would meet the same moment of every file: each is opened, written, synced, renamed.
    """
    return sorted({1 + i * total // count for i in range(count)})


def kills_at_operations(folder: Path, deep: bool) -> Report:
    """SIGKILL at each file operation of a run, writes cut in half."""
    report, config = Report("SIGKILL at a file operation (F02)"), tiny(**{"train.epochs": 2})
    expected = undisturbed(config, folder / "whole")
    total = count_operations(config, folder / "count")
    for at in spread(total, total if deep else 60):
        home = folder / f"k{at}"
        struck = run_with(Fault(at=at), config, home)
        code = run(config, home)
        same = code == 0 and digest(home) == expected
        report.expect(struck == -signal.SIGKILL and same, f"operation {at}: {struck}, then {code}")
        report.failures += [f"operation {at}: {p} is left" for p in home.rglob(".*.tmp")]
        shutil.rmtree(home)
    return report


def failing_writes(folder: Path, deep: bool) -> Report:
    """ENOSPC at each write and EIO at each fsync: exit 74, and the older checkpoint loads.

    Only a log that cannot be written ends no training: the run is whole without it.
    """
    report, config = Report("disk full at a write, EIO at an fsync (F09, F10)"), tiny()
    config = config.override({"train.epochs": 2})
    for only, number in (("write", errno.ENOSPC), ("fsync", errno.EIO)):
        total = count_operations(config, folder / "count", only)
        for at in spread(total, total if deep else 8):
            home = folder / f"{only}{at}"
            code = run_with(Fault(at=at, kill=False, error=number, only=only), config, home)
            ok = code == 74 or (
                code == 0 and is_finished(home) and (home / PREDICTIONS_FILE).exists()
            )
            ok = ok and not list(home.rglob(".*.tmp"))
            newest = load_newest(home, lambda _line: None) if home.exists() else None
            ok = ok and (newest is not None or not _files(home / FOLDER))
            ok = ok and run(config, home) == 0
            report.expect(ok, f"{only} {at}: exit {code}")
            shutil.rmtree(home)
    return report


def _stop_after(updates: int, number: int) -> Callable[[], None]:
    """Make this process signal itself after so many updates."""
    original, done = loop.train_step, itertools.count(1)

    def counted(*args: object) -> None:
        original(*args)  # type: ignore[arg-type]
        if next(done) == updates:
            signal.raise_signal(number)

    def install() -> None:
        loop.train_step = counted  # type: ignore[assignment]

    return install


def positions(folder: Path, deep: bool) -> Report:
    """Stops at named positions, three times in a row each (F04)."""
    report, config = Report("stop at a position, three resumes (F04)"), tiny()
    expected = undisturbed(config, folder / "whole")
    steps = 13  # updates of an epoch of 809 pictures in batches of 64
    for first, number in itertools.product(
        (1, 2, steps - 1, steps, steps + 1, 2 * steps) if deep else (2, steps),
        (signal.SIGTERM, signal.SIGKILL),
    ):
        home, codes = folder / "p", []
        for updates in (first, 1, 4):

            def work(updates: int = updates, number: int = number, home: Path = home) -> None:
                _stop_after(updates, number)()
                begin_or_go_on(config, home)

            codes.append(wait(in_child(work)))
        code = run(config, home)
        wanted = 143 if number == signal.SIGTERM else -signal.SIGKILL
        same = code == 0 and digest(home) == expected
        report.expect(codes == [wanted] * 3 and same, f"{first}, signal {number}: {codes}, {code}")
        shutil.rmtree(home)
    return report


def matrix(folder: Path, deep: bool) -> Report:
    """Optimizers, schedules, precisions and other checkpoint intervals (F05)."""
    report = Report("resume for each optimizer, schedule and precision (F05)")
    optimizers: list[dict[str, object]] = [
        {"optim.name": "sgd", "optim.momentum": 0.9, "optim.lr": 0.05},
        {"optim.name": "sgd", "optim.l2": 1e-3, "optim.lr": 0.05},
        {"optim.name": "adam"},
        {"optim.name": "adamw", "optim.weight_decay": 0.1},
        {"optim.name": "muon", "optim.momentum": 0.6, "optim.lr": 0.1, "data.small_size": 6},
    ]
    schedules = ("constant", "cosine", "onecycle", "linear")
    combinations = list(itertools.product(optimizers, schedules, ("fp32", "bf16")))
    for number, (optimizer, schedule, precision) in enumerate(combinations):
        if not deep and number % 4:
            continue
        extra = {"optim.schedule": schedule, "train.precision": precision, "train.epochs": 2}
        config = tiny(**{**optimizer, **extra})
        expected = undisturbed(config.override({"train.checkpoint_every": "off"}), folder / "w")
        home = folder / "m"

        def work(config: RunConfig = config, home: Path = home) -> None:
            _stop_after(9, signal.SIGKILL)()
            begin_or_go_on(config, home)

        code = wait(in_child(work))
        same = run(config, home) == 0 and digest(home) == expected
        report.expect(code == -signal.SIGKILL and same, f"{optimizer} {schedule} {precision}")
        shutil.rmtree(home)
    return report


def damaged_files(folder: Path, deep: bool) -> Report:
    """Every truncation and every changed byte of a small checkpoint (F13)."""
    report = Report("damaged checkpoint refused (F13)")
    config = tiny(**{"model.width": 1, "train.epochs": 1, "optim.name": "sgd"})
    assert run(config, folder / "r") == 0
    path = _files(folder / "r" / FOLDER)[0]
    tensors, body = load_tensors(path)
    body["facts"] = {}  # the settings are most of the file and carry nothing to damage
    small = folder / "small.safetensors"
    save_tensors(small, {k: v for k, v in tensors.items() if not k.startswith("best")}, body)
    whole, target = small.read_bytes(), folder / "damaged.safetensors"
    stride = 1 if deep else 7
    cases = [whole[:n] for n in range(0, len(whole), stride)]
    for i in range(0, len(whole), stride):
        cases.append(whole[:i] + bytes([whole[i] ^ (1 << i % 8)]) + whole[i + 1 :])
    for number, data in enumerate(cases):
        target.write_bytes(data)
        try:
            found = read(target)
        except DataError:
            report.expect(True, "")
            continue
        report.expect(False, f"case {number} was accepted: {found.body}")
    return report


def signals(folder: Path, deep: bool) -> Report:
    """SIGTERM and SIGINT at random moments: 143 or 130 within ten seconds, and resumable (F26)."""
    report, config = Report("SIGTERM or SIGINT at a random time (F26)"), tiny()
    config = config.override({"train.epochs": 40, "train.checkpoint_every": "off"})
    start = time.monotonic()
    expected = undisturbed(config, folder / "whole")
    length = time.monotonic() - start
    chance = random.Random(2)
    for case in range(20 if deep else 4):
        number = (signal.SIGTERM, signal.SIGINT)[case % 2]
        home = folder / f"s{case}"
        child = in_child(lambda home=home: begin_or_go_on(config, home))
        while not (home / "config.json").exists():
            time.sleep(0.005)
        time.sleep(chance.uniform(0, 0.6 * length))  # some runs are a third quicker than the first
        asked = time.monotonic()
        os.kill(child, number)
        code = wait(child)
        quick = time.monotonic() - asked < 10
        ok = quick and code == 128 + number and bool(_files(home / FOLDER))
        report.expect(ok, f"signal {number}: exit {code}")
        if case < 4:
            report.expect(run(config, home) == 0 and digest(home) == expected, "another result")
        shutil.rmtree(home)
    return report


def simultaneous_starts(folder: Path, deep: bool) -> Report:
    """Many trainings on one run folder at once: exactly one runs (F33)."""
    report = Report("simultaneous starts on one run folder (F33)")
    config, home, signal_file = tiny(**{"train.epochs": 8}), folder / "one", folder / "go"

    def start() -> None:
        while not signal_file.exists():  # else the first has ended before the last is forked
            time.sleep(0.001)
        begin_or_go_on(config, home)

    children = [in_child(start) for _ in range(50 if deep else 12)]
    signal_file.touch()
    codes = [wait(child, 120) for child in children]
    report.expect(codes.count(0) == 1, f"{codes.count(0)} ran: {codes}")
    for code in codes:
        report.expect(code in (0, 75, 73), f"exit {code}")
    child = in_child(lambda: begin_or_go_on(config, folder / "two"))
    while not (folder / "two" / "config.json").exists():
        time.sleep(0.005)
    os.kill(child, signal.SIGKILL)
    wait(child)
    report.expect(run(config, folder / "two") == 0, "the lock outlived its holder")
    return report


CAMPAIGNS: dict[str, Campaign] = {
    "random-kills": random_kills,
    "command-line-kills": command_line_kills,
    "operation-kills": kills_at_operations,
    "failing-writes": failing_writes,
    "positions": positions,
    "matrix": matrix,
    "damaged-files": damaged_files,
    "power-loss": power_loss,
    "signals": signals,
    "simultaneous": simultaneous_starts,
}
