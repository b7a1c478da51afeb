"""One process per run folder."""

import datetime
import errno
import fcntl
import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from nunbit.errors import CannotCreateError, LockedError
from nunbit.language import tr

LOCK_FILE = ".lock"
_guard = threading.Lock()
_held: set[Path] = set()  # lockf does not keep a process from locking its own file again


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a run folder for the block; the system frees it however the process ends.

    lockf and not flock: a flock is inherited by worker processes and outlives a killed trainer.

    Raises:
        LockedError: another process holds it, named with host and start time.
        CannotCreateError: the lock file cannot be written.
    """
    path = (folder / LOCK_FILE).resolve()
    with _guard:  # of two threads one is told
        if path in _held:
            raise LockedError("{folder} is in use by this process", folder=folder)
        handle = _open_locked(path, folder)
        _held.add(path)
    try:
        started = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        holder = {"pid": os.getpid(), "host": socket.gethostname(), "started": started}
        with suppress(OSError):  # on a full disk others are not told who holds it
            os.ftruncate(handle, 0)
            os.pwrite(handle, json.dumps(holder).encode(), 0)
        yield
    finally:
        os.close(handle)  # which frees whatever this process has locked of the file
        _held.discard(path)


def _open_locked(path: Path, folder: Path) -> int:
    while True:
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise CannotCreateError(
                "cannot write into {folder}: {strerror}", folder=folder, strerror=error.strerror
            ) from error
        try:
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            text = os.pread(handle, 1000, 0)
            os.close(handle)
            if error.errno not in (errno.EACCES, errno.EAGAIN):  # no locks here, as on some NFS
                if not text:
                    path.unlink(missing_ok=True)
                raise CannotCreateError(
                    "{folder} cannot be locked: {strerror}; choose a folder on another disk",
                    folder=folder,
                    strerror=error.strerror,
                ) from error
            raise LockedError(
                "{folder} is in use{holder}; try again later", folder=folder, holder=_holder(text)
            ) from None
        if _is_same_file(handle, path):
            return handle
        os.close(handle)  # its owner removed it between our open and our lock


def _is_same_file(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def _holder(text: bytes) -> str:
    """Say who holds the lock; the holder may not have written its name yet."""
    try:
        holder = json.loads(text)
        return tr(
            " by process {pid} on {host} since {started}",
            pid=holder["pid"],
            host=holder["host"],
            started=holder["started"],
        )
    except (ValueError, KeyError, TypeError):
        return tr(" by another process")
