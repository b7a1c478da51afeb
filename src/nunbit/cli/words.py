"""Settings among the words of a command."""

import shlex
from collections.abc import Mapping, Sequence

from nunbit.config import SECTIONS
from nunbit.errors import UsageError, did_you_mean
from nunbit.values import Setting


def split_settings(words: Sequence[str]) -> tuple[list[str], dict[str, Setting]]:
    """Take `--SECTION.FIELD VALUE` and `--SECTION.FIELD=VALUE` out of the words of a command.

    A setting without a value is a switch and means true.

    Raises:
        UsageError: an unknown section.
    """
    rest: list[str] = []
    given: dict[str, Setting] = {}
    queue = list(words)
    while queue:
        word = queue.pop(0)
        name, equals, value = word[2:].partition("=")
        section = name.partition(".")[0]
        if not word.startswith("--") or "." not in name:
            rest.append(word)
            continue
        if section not in SECTIONS:
            raise UsageError(
                "no setting '--{name}'; {hint}", name=name, hint=did_you_mean(section, SECTIONS)
            )
        if not equals:
            is_switch = not queue or queue[0].startswith("--")
            value = "true" if is_switch else queue.pop(0)
        if name in given:
            raise UsageError("'{name}' is given twice: leave one of them out", name=name)
        given[name] = value
    return rest, given


def training_of(
    recipe: str | None, data: str | None, model: str | None, settings: Mapping[str, Setting] | None
) -> str:
    """Return the command that trains with what another command was given."""
    words = ["nunbit", "train", *([] if recipe is None else [recipe])]
    for name, value in {"data": data, "model": model, **(settings or {})}.items():
        words += [] if value is None else [f"--{name}", str(value)]
    return shlex.join(words)
