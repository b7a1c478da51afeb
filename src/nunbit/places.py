"""Where results go: new files and folders, and nothing of the user's is written over."""

import errno
import os
from collections.abc import Iterator
from itertools import count
from pathlib import Path

from nunbit.errors import CannotCreateError, StorageError
from nunbit.storage import atomic_write, temporary_name


def numbered(folder: Path, name: str, suffix: str = "") -> Iterator[Path]:
    """Yield names in a folder without end: photos, photos-2, photos-3..."""
    yield folder / f"{name}{suffix}"
    yield from (folder / f"{name}-{number}{suffix}" for number in count(2))


def require_new_file(output: Path) -> None:
    """Refuse, before any work, what would be written over or could not be written.

    Raises:
        CannotCreateError: the file is there already, or its folder is not, or is locked.
    """
    folder = output.parent
    if os.path.lexists(output):
        raise CannotCreateError("{output} exists already; choose another --output", output=output)
    if not os.path.isdir(folder):
        raise CannotCreateError(
            "{folder} is no folder; create it, or choose another --output", folder=folder
        )
    if not os.access(folder, os.W_OK | os.X_OK):
        raise _unwritable(folder, OSError(errno.EACCES, os.strerror(errno.EACCES)))


def create_folder(path: Path) -> None:
    """Create a folder with its parents, if it is not there.

    Raises:
        CannotCreateError: it cannot be created.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(path, error) from error


def make_folder(path: Path) -> None:
    """Create a folder with its parents, and prove that it can be written.

    Raises:
        CannotCreateError: it cannot be created or written; nothing was trained in vain.
    """
    create_folder(path)
    try:
        probe = path / temporary_name("probe")  # litter by its name if we die here
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> CannotCreateError:
    return CannotCreateError(
        "cannot write into {path}: {strerror}", path=path, strerror=error.strerror or error
    )


def free_folder(out: Path | None, default: Path) -> Path:
    """Return a folder for results: `out`, or the first free one of default, default-2, default-3...

    Nothing is created: ask before the work, and create it when there is something to write.

    Raises:
        CannotCreateError: `out` exists and is not empty, or nothing could be written there.
    """
    names = numbered(default.parent, default.name)
    folder = out or next(name for name in names if not os.path.lexists(name))
    if _require_makeable(folder) and any(folder.iterdir()):
        raise CannotCreateError(
            "{folder} exists and is not empty; choose another --out", folder=folder
        )
    return folder


def _require_makeable(folder: Path) -> bool:
    """Return whether a folder is there, and refuse one that could not be made or written.

    Raises:
        CannotCreateError: the next folder above it that there is cannot be written.
    """
    wanted = folder.absolute()
    there = next(path for path in (wanted, *wanted.parents) if os.path.lexists(path))
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        reason = errno.EACCES if there.is_dir() else errno.ENOTDIR
        raise _unwritable(folder, OSError(reason, os.strerror(reason)))
    return there == wanted


def free_picture(out: Path | None, name: str) -> Path:
    """Return where a picture may go: a file that is not there. Nothing is created yet.

    Args:
        out: a new PNG file, or a folder for it; None is the current folder.
        name: of the file in a folder, without suffix; where it is taken, a number follows.

    Raises:
        CannotCreateError: the file exists, is no PNG by its name, or could not be written.
    """
    file = next(file for file in _names(out, name) if not os.path.lexists(file))
    _require_makeable(file.parent)
    return file


def write_picture(out: Path | None, name: str, data: bytes) -> Path:
    """Write a picture where `free_picture` says, or beside it if that is taken by now.

    Raises:
        CannotCreateError: the file that was asked for is there by now, or its folder is locked.
        StorageError: the disk is full.
    """
    for file in _names(out, name):
        make_folder(file.parent)
        try:
            os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))  # it is ours
        except FileExistsError:
            continue
        try:
            atomic_write(file, data)
        except StorageError:
            file.unlink(missing_ok=True)
            raise
        return file
    raise AssertionError("names never end")


def _names(out: Path | None, name: str) -> Iterator[Path]:
    """Yield the file that was asked for, or names in a folder without end: a, a-2, a-3...

    Raises:
        CannotCreateError: what was asked for is no PNG by its name, or a second name is needed.
    """
    if out is None or out.is_dir():
        yield from numbered(out or Path(), name, ".png")
    elif out.suffix.lower() != ".png":
        raise CannotCreateError("{out} is no folder and no name of a .png file", out=out)
    else:
        yield out
        raise CannotCreateError("{out} exists; choose another --out", out=out)


def claim_folder(folder: Path, *, is_asked: bool) -> Path:
    """Create the folder that `free_folder` found, when there is something to write.

    Args:
        folder: another process may have taken it since.
        is_asked: it was asked for, and may be there, empty; else the next free one does as well.

    Raises:
        CannotCreateError: it cannot be created, or something was written into what was asked for.
    """
    if is_asked:
        make_folder(folder)
        return free_folder(folder, folder)
    create_folder(folder.parent)
    for claimed in numbered(folder.parent, folder.name):
        try:
            claimed.mkdir()  # by one process only
            return claimed
        except FileExistsError:
            continue
        except OSError as error:
            raise _unwritable(claimed, error) from error
    raise AssertionError("names never end")
