"""Where results go: new files and folders, and nothing of the user's is written over."""

import errno
import os
import secrets
from pathlib import Path

from nunbit.errors import CannotCreateError


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
        probe = path / f".probe-{secrets.token_hex(4)}.tmp"  # litter by its name if we die here
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
    folder, number = out or default, 1
    while out is None and os.path.lexists(folder):
        number += 1
        folder = default.with_name(f"{default.name}-{number}")
    wanted = folder.absolute()
    there = next(path for path in (wanted, *wanted.parents) if os.path.lexists(path))
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        reason = errno.EACCES if there.is_dir() else errno.ENOTDIR
        raise _unwritable(folder, OSError(reason, os.strerror(reason)))
    if there == wanted and any(there.iterdir()):
        raise CannotCreateError(
            "{folder} exists and is not empty; choose another --out", folder=folder
        )
    return folder


def new_picture(out: Path | None, name: str) -> Path:
    """Return where a picture goes: a file that is not there yet.

    Args:
        out: a new PNG file, or a folder for it; None is the current folder.
        name: of the file in a folder, without suffix; where it is taken, a number follows.

    Raises:
        CannotCreateError: the file exists, is no PNG by its name, or cannot be written.
    """
    if out is not None and not out.is_dir():
        if out.suffix.lower() != ".png":
            raise CannotCreateError("{out} is no folder and no name of a .png file", out=out)
        if os.path.lexists(out):
            raise CannotCreateError("{out} exists; choose another --out", out=out)
        make_folder(out.parent)
        return out
    folder = out or Path()
    make_folder(folder)
    file, number = folder / f"{name}.png", 1
    while os.path.lexists(file):
        number += 1
        file = folder / f"{name}-{number}.png"
    return file


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
    claimed, number = folder, 1
    while True:
        try:
            claimed.mkdir()  # by one process only
            return claimed
        except FileExistsError:
            number += 1
            claimed = folder.with_name(f"{folder.name}-{number}")
        except OSError as error:
            raise _unwritable(claimed, error) from error
