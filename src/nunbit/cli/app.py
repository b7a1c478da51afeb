"""What every command shares: the app, how it answers, and how settings are passed on."""

import sys
from dataclasses import dataclass
from typing import Annotated

from cyclopts import App, Parameter

from nunbit.values import Setting

Settings = Annotated[dict[str, Setting] | None, Parameter(parse=False)]

app = App(
    name="nunbit",
    help="Train, compare, explain and ship image classifiers, on the machine you have.",
    help_epilogue="Start with `nunbit train` (seconds, no download), then look at the report it "
    "names.\nNUNBIT_DATA names folders with data sets; NUNBIT_OFFLINE=1 forbids downloads.",
    help_format="plaintext",
    version_flags=["--version"],
    result_action="return_value",
)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Output:
    """How a command answers."""

    json: Annotated[bool, Parameter(negative="")] = False
    """Print one JSON object as the last line of standard output."""
    quiet: Annotated[bool, Parameter(negative="")] = False
    """Print no progress."""


DEFAULT_OUTPUT = Output()


def say(output: Output, *lines: str) -> None:
    """Print for a person: on standard output, unless that is for JSON or silence."""
    if not output.json and not output.quiet:
        sys.stdout.write("\n".join(lines) + "\n")
