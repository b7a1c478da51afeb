"""Values as the command line and JSON give them, read as what a setting expects."""

import json
import math
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from nunbit.errors import UsageError, did_you_mean
from nunbit.language import tr

Setting = str | int | float | bool | Path | None
LONGEST_SECONDS = 1000 * 3600.0  # of a budget
MAX_OPTION = 100_000  # of a number among the options of a network


@dataclass(frozen=True, slots=True)
class Interval:
    """A span of training; both fields 0 mean never."""

    seconds: float = 0.0
    steps: int = 0

    @staticmethod
    def parse(text: str) -> "Interval":
        """Read "30s", "5m", "1h", "200steps" or "off".

        Raises:
            ValueError: none of these.
        """
        if text == "off":
            return Interval()
        number = text.rstrip("abcdefghijklmnopqrstuvwxyz ")
        unit = text[len(number) :].strip()
        if unit in ("step", "steps"):
            steps = int(number)
            if steps < 1:
                raise ValueError(text)
            return Interval(steps=steps)
        seconds = float(number) * {"s": 1, "m": 60, "h": 3600}.get(unit, math.nan)
        if not 0 < seconds < math.inf:
            raise ValueError(text)
        return Interval(seconds=seconds)


def parse_budget(text: str) -> float:
    """Return seconds of a time such as 90s, 10m or 1h.

    Raises:
        UsageError: it is no such time, or below a second.
    """
    number, unit = text[:-1], text[-1:]
    try:
        seconds = float(number) * {"s": 1, "m": 60, "h": 3600}[unit]
    except (ValueError, KeyError):
        seconds = 0.0
    if not 1 <= seconds <= LONGEST_SECONDS:
        raise UsageError(
            "budget is {value!r}; allowed: a time of 1s to 1000h, such as 90s or 10m", value=text
        )
    return seconds


def literal(value: Setting) -> Setting:
    """Read a network's option from the command line: 32, 0.4, true, or a word."""
    if not isinstance(value, str):
        return value
    try:
        read = json.loads(value)
    except ValueError:
        return value
    return read if isinstance(read, (int, float, bool)) or read is None else value


def is_plain(value: object) -> bool:
    """Return whether a network's option is a short text, a truth value, or a number of sane size.

    A network with a width of a billion would be built before it was found not to fit.
    """
    if isinstance(value, int | float):
        return abs(value) <= MAX_OPTION  # false for NaN
    return value is None or (isinstance(value, str) and len(value) <= 100)


def path_of(text: str | Path, what: str) -> Path:
    """Return a path; the empty text, which `pathlib` takes for the current folder, is none.

    Raises:
        UsageError: it is empty; `what` names it.
    """
    if not str(text):
        raise UsageError("{what} is empty; give a path", what=what)
    return Path(text)


def typed(hint: Any, label: str, value: object) -> Any:
    """Return a value as the type of a field, reading strings as the command line gives them.

    Args:
        hint: the field's annotation: int, float, bool, str, a Literal, or a mapping.
        label: the field's dotted name, for the message.
        value: what was given.

    Raises:
        UsageError: it cannot be read so.
    """
    origin = typing.get_origin(hint)
    if origin is Literal:
        allowed = typing.get_args(hint)
        if value not in allowed:
            near = did_you_mean(str(value), allowed)
            raise UsageError("{label} is {value!r}; {near}", label=label, value=value, near=near)
        return value
    if origin is not None:
        if not isinstance(value, Mapping):
            raise UsageError(
                "{label} is {value!r}; allowed: an object of options", label=label, value=value
            )
        return dict(value)
    try:
        return _READERS[hint](value)
    except (ValueError, TypeError, OverflowError):
        kind = {int: tr("a whole number"), float: tr("a number"), bool: tr("true or false")}.get(
            hint, tr("a text")
        )
        raise UsageError(
            "{label} is {value!r}; allowed: {kind}", label=label, value=value, kind=kind
        ) from None


def as_word(value: object) -> str:
    """Return a value as a command gives it: true and not True, which would be read as a word."""
    return value if isinstance(value, str) else json.dumps(value)


def words_of(hint: Any) -> list[str]:
    """Return the words that a field of this annotation may have; empty where there is no list."""
    if hint is bool:
        return ["true", "false"]
    return list(typing.get_args(hint)) if typing.get_origin(hint) is Literal else []


def _read_bool(value: object) -> bool:
    words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    try:
        return words[str(value).lower()]
    except KeyError:
        raise ValueError from None


def _read_int(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int | str | float):
        raise TypeError
    if isinstance(value, float) and not value.is_integer():
        raise ValueError
    return int(value)


def _read_float(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | str | float):
        raise TypeError
    number = float(value)
    if not math.isfinite(number):
        raise ValueError
    return number


def _read_str(value: object) -> str:
    if not isinstance(value, str | Path):
        raise TypeError
    return str(value)


_READERS: dict[Any, Callable[[object], Any]] = {
    int: _read_int,
    float: _read_float,
    bool: _read_bool,
    str: _read_str,
}
