"""The errors that a user can cause, each with the exit code that the command line ends in.

The codes are those of sysexits.h; a script that calls nunbit can tell bad data from a full disk.
"""

import difflib
from collections.abc import Iterable, Sequence

from nunbit.language import tr

MOST_NAMED = 5  # classes, files, ... in one line
MOST_ALLOWED = 50  # words; more than any list of settings has


class ExplainedError(Exception):
    """An error that says what is wrong in one line, in the user's language.

    Args:
        text: English, with `{fields}`; where it is put together already, without any.
        fields: their values.
    """

    def __init__(self, text: str, /, **fields: object) -> None:
        super().__init__(tr(text, **fields))


class NunbitError(ExplainedError):
    """Base of every error that ends a command."""

    exit_code = 1


class UsageError(NunbitError, ValueError):
    """A wrong argument, setting or name."""

    exit_code = 2


class DataError(NunbitError, ValueError):
    """Data that cannot be trained on or measured: unreadable pictures, one class, no labels."""

    exit_code = 65


class MissingInputError(NunbitError, FileNotFoundError):
    """A file, folder, data set or run that is not there."""

    exit_code = 66


class CannotCreateError(NunbitError, OSError):
    """An output that cannot be created: it exists already, or the folder cannot be written."""

    exit_code = 73


class StorageError(NunbitError, OSError):
    """Reading or writing failed half way: a full disk, a vanished folder."""

    exit_code = 74


class LockedError(NunbitError):
    """A run folder that another process is writing."""

    exit_code = 75


class StoppedError(NunbitError):
    """A training that ended early because a signal asked for it."""

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + number  # what shells report for a signal


class DivergedError(NunbitError, ArithmeticError):
    """The loss became infinite or not a number; the weights were not updated with it."""

    exit_code = 65


class DivergedStepError(DivergedError):
    """The same, found by an update: the batch is known."""


def memory_error(error: Exception) -> UsageError:
    """Return what to do where there is too little memory, as Python, numpy or torch said.

    torch raises a RuntimeError; what its CPU allocator says depends on the system.

    Raises:
        Exception: `error` itself, which says something else.
    """
    words = "out of memory", "can't allocate memory", "not enough memory"
    if not isinstance(error, MemoryError) and not any(word in str(error) for word in words):
        raise error
    return UsageError(
        "there is too little memory for this: close other programs, or choose a smaller network, "
        "smaller pictures (data.size) or smaller batches (train.batch_size, eval.batch_size)"
    )


def system_error(error: OSError) -> NunbitError:
    """Return an error of the system as one of ours: something is not there, or a disk failed."""
    is_input = isinstance(error, FileNotFoundError | PermissionError)
    named = f"{error.filename}: " if error.filename else ""
    reason = error.strerror or str(error) or type(error).__name__
    return (MissingInputError if is_input else StorageError)(f"{named}{reason}")


def listed(names: Iterable[str], most: int = MOST_NAMED) -> str:
    """Return names with commas; of many the first ones, and how many there are beside them."""
    every = list(names)
    more = tr(" and {count} more", count=len(every) - most) if len(every) > most else ""
    return ", ".join(every[:most]) + more


def first_of(faults: Sequence[str], most: int = MOST_NAMED) -> str:
    """Return the first of several sentences with semicolons, and how many there are beside them."""
    count = len(faults) - most
    return "; ".join(faults[:most]) + (tr("; and {count} more", count=count) if count > 0 else "")


def nearest(name: str, allowed: Iterable[str]) -> str | None:
    """Return the allowed word that is most like what the user wrote, if any is like it."""
    return next(iter(difflib.get_close_matches(name, sorted(allowed), n=1, cutoff=0.5)), None)


def did_you_mean(name: str, allowed: Iterable[str]) -> str:
    """Return the half sentence that names the nearest allowed word, or all of them.

    Args:
        name: what the user wrote.
        allowed: the words that would have been right.
    """
    words = sorted(allowed)
    if near := nearest(name, words):
        return tr("did you mean '{near}'?", near=near)
    return tr("allowed: {words}", words=listed(words, MOST_ALLOWED))
