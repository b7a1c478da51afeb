"""One command from words to exit code: here every error becomes one line."""

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from cyclopts import CycloptsError

from nunbit.cli.app import CALLED_AT, DEFAULT_OUTPUT, app, complain
from nunbit.cli.words import split_settings
from nunbit.errors import NunbitError, UsageError, memory_error, system_error
from nunbit.language import LANGUAGES, VARIABLE, tr
from nunbit.streams import Log, escape, is_unicode, silence
from nunbit.values import Setting


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; an error that ends it becomes one line."""
    CALLED_AT.set(time.perf_counter())
    words = list(sys.argv[1:] if argv is None else argv)
    _prepare_streams()
    asked = os.environ.get(VARIABLE) or LANGUAGES[0]
    if asked not in LANGUAGES:
        allowed = ", ".join(LANGUAGES)
        return _fail(f"{VARIABLE} is '{asked}'; allowed: {allowed}", UsageError.exit_code)
    try:
        words, given = split_settings(words)
        command, bound, hidden = app.parse_args(
            words, exit_on_error=False, print_error=False, verbose=False
        )
        return _run(command, bound, hidden, given)
    except CycloptsError as error:
        return _fail(str(error), UsageError.exit_code)
    except NunbitError as error:
        return _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        return _fail(tr("stopped"), 128 + signal.SIGINT)
    except (BrokenPipeError, SystemExit) as error:
        if isinstance(error, SystemExit) and not isinstance(error.__context__, BrokenPipeError):
            raise  # rich makes one of the other, and so may a program around this
        # The reader went away (`| head`); say nothing more, not even at exit.
        silence(sys.stdout)
        return 0
    except OSError as error:
        Log(sys.stdout).flush()  # a full disk may be what it leads to
        found = system_error(error)
        return _fail(str(found), found.exit_code)


def _prepare_streams() -> None:
    """Open what the caller closed, and let no character fail."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # closed by who called: `nunbit ... >&-`
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115  # to the end of the process
    for stream in (sys.stdout, sys.stderr):
        escape(stream)


def _run(
    command: Callable[..., Any], bound: Any, hidden: dict[str, Any], given: dict[str, Setting]
) -> int:
    is_help = getattr(command, "__self__", None) is app  # asked for behind a setting
    if given and "settings" not in hidden and not is_help:
        raise UsageError(
            "this command takes no settings, but --{name} was given", name=next(iter(given))
        )
    extra = {"settings": given} if "settings" in hidden else {}
    try:
        result = command(*bound.args, **bound.kwargs, **extra)
    except (MemoryError, RuntimeError) as error:
        raise memory_error(error) from error
    output = bound.kwargs.get("output", DEFAULT_OUTPUT)
    if isinstance(result, dict) and output.json:
        # JSON has escapes of its own; those of a stream would be no JSON.
        is_ascii = not is_unicode(sys.stdout)
        sys.stdout.write(json.dumps(result, ensure_ascii=is_ascii, allow_nan=False) + "\n")
    sys.stdout.flush()  # here, where a reader that went away is no error
    # A command that judges (`doctor`, `predict`) says by its exit code what it found.
    return int(result.get("exit_code", 0)) if isinstance(result, dict) else 0


def _fail(message: str, code: int) -> int:
    complain(message)
    return code
