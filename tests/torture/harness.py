"""Trainings in forked children that can be killed anywhere, and the digest of how they ended.

torch is imported once, so that a child costs what its training costs. One thread everywhere: a
forked child must not need the parent's thread pool.
"""

import errno
import hashlib
import io
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sklearn.datasets  # noqa: F401  # imported here, not in every child
import torch

import nunbit.run as run_module
from nunbit.bundle import MODEL_FILE
from nunbit.checkpoint import FOLDER, _files
from nunbit.config import DataConfig, ModelConfig, OptimConfig, RunConfig, TrainConfig
from nunbit.errors import NunbitError
from nunbit.progress import Display
from nunbit.runfolder import METRICS_FILE, is_finished
from nunbit.storage import load_tensors

torch.set_num_threads(1)
QUIET = Display(quiet=True)


def tiny(**settings: Any) -> RunConfig:
    """A training of a fraction of a second that uses batch norm, validation and augmentation."""
    config = RunConfig(
        recipe="torture",
        data=DataConfig(source="digits", shift_pixels=1, test_fraction=0.5),
        model=ModelConfig(name="cnn", args={"width": 4}),
        optim=OptimConfig(name="adamw", lr=5e-3, schedule="onecycle"),
        train=TrainConfig(
            epochs=3,
            batch_size=64,
            threads=1,
            device="cpu",
            precision="fp32",
            checkpoint_every="4steps",
        ),
    )
    return config.override(settings)


def begin_or_go_on(config: RunConfig, folder: Path) -> None:
    """Do what a person does: train, or resume what is there."""
    if (folder / "config.json").exists():
        run_module.resume_run(folder, QUIET, lambda _finished: None)
    else:
        run_module.train_run(config, folder, QUIET, lambda _finished: None)


def warm_up(folder: Path) -> None:
    """Train once in this process, so that children find everything imported."""
    begin_or_go_on(tiny(**{"train.epochs": 1}), folder / "warm-up")
    shutil.rmtree(folder / "warm-up")


def in_child(work: Callable[[], None]) -> int:
    """Start `work` in a forked child and return its process id."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell may have ignored
    try:
        work()
        os._exit(0)
    except NunbitError as error:
        os.write(2, f"{error}\n".encode())
        os._exit(error.exit_code)
    except BaseException as error:  # noqa: BLE001  # a child must never return into the parent's code
        os.write(2, f"bug: {error!r}\n".encode())
        os._exit(1)


def wait(child: int, limit_seconds: float = 60.0) -> int:
    """Return a child's exit code, negative for a signal; a hang is a failure."""
    end = time.monotonic() + limit_seconds
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    raise AssertionError(f"a child hung for {limit_seconds} s")


def run(config: RunConfig, folder: Path) -> int:
    """Train or resume in a child to its end and return the exit code."""
    return wait(in_child(lambda: begin_or_go_on(config, folder)))


def digest(folder: Path) -> str:
    """Return a hash of everything that a finished run must repeat: weights, optimizer, log."""
    assert is_finished(folder), f"{folder} did not finish"
    total = hashlib.sha256((folder / METRICS_FILE).read_bytes())
    for path in (folder / MODEL_FILE, _files(folder / FOLDER)[0]):
        tensors, _ = load_tensors(path)
        for name in sorted(tensors):
            tensor = tensors[name].contiguous()
            total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            total.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
    return total.hexdigest()


def undisturbed(config: RunConfig, folder: Path) -> str:
    """Return the digest of a run that nothing happens to."""
    assert run(config, folder) == 0
    found = digest(folder)
    shutil.rmtree(folder)
    return found


@dataclass
class Fault:
    """What happens at one of a process's file operations."""

    at: int
    """Number of the operation, from 1; 0 only counts."""
    kill: bool = True
    error: int = errno.ENOSPC
    only: str = ""
    """Count only this operation: open, write, fsync, replace, unlink."""
    count: int = 0

    def install(self) -> None:
        """Wrap the operations that write, in this process."""
        for name in ("open", "fsync", "replace", "unlink", "write", "fdopen"):
            setattr(os, name, self._wrap(name, getattr(os, name)))
        io.open = self._wrap("open", io.open)  # type: ignore[assignment]  # pathlib opens through it

    def _wrap(self, name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            if name == "fdopen":
                return _Torn(original(*args, **kwargs), self)
            if name == "open" and not _writes(args, kwargs):
                return original(*args, **kwargs)
            self.strike(name)
            return original(*args, **kwargs)

        return wrapped

    def strike(self, name: str, before: Callable[[], object] = lambda: None) -> None:
        """Count an operation and strike if it is the one; `before` leaves half a write."""
        if self.only and name != self.only:
            return
        self.count += 1
        if self.count != self.at:
            return
        before()
        if self.kill:
            os.kill(os.getpid(), signal.SIGKILL)
        raise OSError(self.error, os.strerror(self.error))


class _Torn:
    """A file whose write can be cut in the middle."""

    def __init__(self, file: Any, fault: Fault) -> None:
        self._file, self._fault = file, fault

    def __enter__(self) -> "_Torn":
        self._file.__enter__()
        return self

    def __exit__(self, *args: object) -> None:
        self._file.__exit__(*args)

    def write(self, data: bytes) -> int:
        def half() -> None:
            self._file.write(data[: len(data) // 2])
            self._file.flush()

        self._fault.strike("write", half)
        return int(self._file.write(data))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def _writes(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    mode = args[1] if len(args) > 1 else kwargs.get("mode", kwargs.get("flags", "r"))
    if isinstance(mode, int):
        return bool(mode & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
    return any(letter in mode for letter in "wax+")


def run_with(fault: Fault, config: RunConfig, folder: Path) -> int:
    """Train or resume in a child that the fault strikes."""

    def work() -> None:
        fault.install()
        begin_or_go_on(config, folder)

    return wait(in_child(work))


def count_operations(config: RunConfig, folder: Path, only: str = "") -> int:
    """Return how many file operations an undisturbed run makes."""
    reader, writer = os.pipe()

    def work() -> None:
        fault = Fault(at=0, only=only)
        fault.install()
        begin_or_go_on(config, folder)
        io.FileIO(writer, "w", closefd=False).write(str(fault.count).encode())

    assert wait(in_child(work)) == 0
    os.close(writer)
    text = os.read(reader, 100)
    os.close(reader)
    shutil.rmtree(folder)
    return int(text)


@dataclass
class Report:
    """What a campaign found."""

    name: str
    cases: int = 0
    failures: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def expect(self, ok: bool, what: str) -> None:
        """Count a case."""
        self.cases += 1
        if not ok:
            self.failures.append(what)
