"""What every command shares: the app, how it answers, and how settings are passed on."""

import inspect
import os
import sys
import time
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from cyclopts import App, Group, Parameter

from nunbit.errors import UsageError, did_you_mean
from nunbit.language import tr
from nunbit.streams import Log
from nunbit.values import Setting, parse_budget

# When the command was called, on the clock of `time.perf_counter`: a process may call several.
CALLED_AT: ContextVar[float] = ContextVar("called_at")
Command = TypeVar("Command", bound=Callable[..., Any])
Settings = Annotated[dict[str, Setting] | None, Parameter(parse=False)]
PictureName = Annotated[str, Parameter(allow_leading_hyphen=True)]

app = App(
    name="nunbit",
    help=tr("Train, compare, explain and ship image classifiers, on the machine you have."),
    help_epilogue=tr(
        "Start with `nunbit train` (seconds, no download), then look at the report it names.\n"
        "NUNBIT_DATA names folders with data sets; NUNBIT_OFFLINE=1 forbids downloads; "
        "NUNBIT_LANG=ko speaks Korean."
    ),
    help_format="plaintext",
    version_flags=["--version"],
    result_action="return_value",
    group_arguments=Group(tr("Arguments"), sort_key=1),
    group_parameters=Group(tr("Options"), sort_key=2),
    group_commands=Group(tr("Commands"), sort_key=3),
)


def command(name: str | None = None, *, examples: str) -> Callable[[Command], Command]:
    """Register a command whose docstring, in the user's language, is its help.

    Args:
        name: the verb; the function's own name by default.
        examples: shown below the help.
    """

    def register(function: Command) -> Command:
        text = tr(inspect.cleandoc(function.__doc__ or ""))
        said, args, options = text.partition("\n\nArgs:")
        function.__doc__ = unwrapped(said) + args + options
        app.command(function, name=name, help_epilogue=unwrapped(tr(examples)))
        return function

    return register


def unwrapped(text: str) -> str:
    """Return a text whose paragraphs are one line each; examples keep theirs.

    The help breaks lines where the terminal ends, and not where the source does.
    """
    return "\n\n".join(
        paragraph if "\n " in paragraph else " ".join(paragraph.split())
        for paragraph in text.split("\n\n")
    )


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Output:
    """How a command answers."""

    json: Annotated[
        bool,
        Parameter(
            negative="", help=tr("Print one JSON object as the last line of standard output.")
        ),
    ] = False
    quiet: Annotated[
        bool, Parameter(negative="", help=tr("Print nothing but errors, and the object of --json."))
    ] = False


DEFAULT_OUTPUT = Output()


def require_no_option(verb: str, images: Sequence[str]) -> None:
    """Refuse a misspelt option, which would be a picture: their names may begin with hyphens.

    Raises:
        UsageError: a word with two hyphens that names no file.
    """
    for word in images:
        if word.startswith("--") and not os.path.lexists(word):
            arguments = [one for one in app[verb].assemble_argument_collection() if one.parse]
            options = [name for one in arguments for name in one.names if name.startswith("--")]
            raise UsageError(
                "no option {word}, and no picture of that name; {hint}",
                word=word,
                hint=did_you_mean(word.partition("=")[0], options),
            )


def complain(message: str) -> None:
    """Print what is wrong, in one line on standard error, if anybody reads it."""
    Log(sys.stderr).write(f"nunbit: {' '.join(message.split())}\n")


def say(output: Output, *lines: str) -> None:
    """Print for a person: on standard output, unless that is for JSON or silence."""
    if not output.json and not output.quiet:
        sys.stdout.write("\n".join(lines) + "\n")
        sys.stdout.flush()  # whoever reads a pipe sees it now


def left_of(budget: str) -> str:
    """Return what is left of a budget after the imports of this command."""
    now = time.perf_counter()
    return f"{max(1.0, parse_budget(budget) - (now - CALLED_AT.get(now)))}s"
