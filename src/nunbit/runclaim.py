"""Who may write a run folder: one process at a time, and a new run only where nothing lies."""

import os
import shlex
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from nunbit.checkpoint import FOLDER as CHECKPOINTS
from nunbit.config import RunConfig
from nunbit.data.pictures import require_text
from nunbit.data.sources import refuse_inside
from nunbit.errors import CannotCreateError, LockedError, MissingInputError
from nunbit.language import tr
from nunbit.lock import LOCK_FILE, locked
from nunbit.places import create_folder, numbered
from nunbit.runfolder import CONFIG_FILE, EVENTS, RUNS, SKIPPED_FILE, SPLIT_FILE, read_config
from nunbit.storage import is_temporary

MOST_TRIES = 100  # for a folder that others keep taking; in a current folder that is gone, none is


def next_run_dir(recipe: str) -> Path:
    """Return the first free folder for a recipe: runs/birds-net, runs/birds-net-2, ..."""
    return next(path for path in numbered(RUNS, recipe.replace("/", "-")) if not path.exists())


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
        for tries_left in reversed(range(MOST_TRIES)):
            folder = run_dir or next_run_dir(recipe)
            try:
                held.enter_context(_claimed(folder))
                break
            except (CannotCreateError, LockedError, FileNotFoundError) as error:
                # Another process took it; or it made `runs`, and has removed it again.
                is_gone = FileNotFoundError in (type(error), type(error.__cause__))
                is_taken = is_gone or isinstance(error, LockedError) or os.path.exists(folder)
                if run_dir or not is_taken or not tries_left:
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
    if os.path.exists(run_dir / LOCK_FILE):  # False for a name that is too long
        own = {LOCK_FILE, SPLIT_FILE, SKIPPED_FILE, CHECKPOINTS, EVENTS}
        names = (path.name for path in run_dir.rglob("*"))
        is_taken = any(name not in own and not is_temporary(name) for name in names)
    else:
        try:
            is_taken = any(run_dir.iterdir())  # and no further: it may be somebody's whole disk
        except PermissionError as error:
            raise CannotCreateError(
                "cannot look into {run_dir}: {strerror}", run_dir=run_dir, strerror=error.strerror
            ) from error
    if is_taken:
        folder = shlex.quote(str(run_dir))
        hint = tr(", or go on with it: nunbit resume {run_dir}", run_dir=folder)
        hint = hint if (run_dir / CONFIG_FILE).exists() else ""
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
        yield read_config(run_dir)
