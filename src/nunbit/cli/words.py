"""From the words of a command to what they ask for, and back."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from nunbit.config import SECTIONS, RunConfig
from nunbit.errors import MissingInputError, UsageError, did_you_mean
from nunbit.values import Setting


def split_settings(words: Sequence[str]) -> tuple[list[str], dict[str, Setting]]:
    """Take `--SECTION.FIELD VALUE` and `--SECTION.FIELD=VALUE` out of the words of a command.

    A setting without a value is a switch and means true. Behind `--` there are none.

    Raises:
        UsageError: an unknown section.
    """
    rest: list[str] = []
    given: dict[str, Setting] = {}
    queue = list(words)
    while queue:
        word = queue.pop(0)
        if word == "--":
            return [*rest, word, *queue], given
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


def asked_recipe(recipe: str | None, config: Path | None) -> str | RunConfig | None:
    """Return what a recipe's name or the config.json of a run asks for.

    Raises:
        UsageError: both are given, or the file holds no settings.
        MissingInputError: the file cannot be read.
    """
    if config is None:
        return recipe
    if recipe is not None:
        raise UsageError(
            "both a recipe ('{recipe}') and --config were given; choose one", recipe=recipe
        )
    try:
        return RunConfig.from_json(config.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise MissingInputError("cannot read {path}: {error}", path=config, error=error) from error


def training_of(recipe: str | None, **options: Setting | Path | None) -> str:
    """Return the command that trains with what another command was given.

    Args:
        recipe: its name.
        options: by name; None is one that was not given.
    """
    words = ["nunbit", "train", *([] if recipe is None else [recipe])]
    for name, value in options.items():
        words += [] if value is None else [f"--{name}", str(value)]
    return shlex.join(words)
