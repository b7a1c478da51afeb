"""From facts to a page: the templates with their filters, and data that a page carries along."""

import base64
import json
import re
from typing import Any

from markupsafe import Markup

from nunbit.language import tr
from nunbit.pages.environment import page_environment
from nunbit.reporting import dots, svg

NBSP, NB_HYPHEN = "\N{NO-BREAK SPACE}", "\N{NON-BREAKING HYPHEN}"
JOINER = "\N{WORD JOINER}"


def render(template: str, **facts: Any) -> str:
    """Return the page that a file in `templates/` makes of the facts."""
    environment = page_environment("nunbit.reporting")
    environment.filters |= FILTERS
    environment.globals |= DRAWINGS
    return environment.get_template(template).render(**facts)


def percent(fraction: float, digits: int = 1) -> str:
    """Return a fraction as `87.8 %` that no line break tears apart."""
    return f"{100 * fraction:.{digits}f}{NBSP}%"


def percents(ends: tuple[float, float], digits: int = 1) -> str:
    """Return an interval of fractions as `86.2 – 89.1 %`."""
    return f"{100 * ends[0]:.{digits}f}{NBSP}–{NBSP}{percent(ends[1], digits)}"


def glued(text: str) -> str:
    """Return a message with its numbers as pages write them (`95 %`), which no line tears apart."""
    text = re.sub(r"(\d) ?%(?!p)", rf"\1{NBSP}%", text)  # Korean points are %p
    text = re.sub(r"%(?=[^\Wp])", f"%{JOINER}", text)  # and its particles follow without a space
    text = re.sub(r"p ([<=]) ", rf"p{NBSP}\1{NBSP}", text)
    return re.sub(r"(\de)-(\d)", rf"\1{NB_HYPHEN}\2", text)  # 1e-5


def breakable(name: str) -> Markup:
    """Return the name of a recipe that may break where its settings begin."""
    return Markup(":<wbr>").join(name.split(":"))


def capital(text: str) -> str:
    """Return a message, which begins small on a terminal, as a page begins it."""
    return text[:1].upper() + text[1:]


def sentence(text: str) -> str:
    """Return a message with a capital letter and a full stop."""
    return f"{capital(text)}."


def count(number: float) -> str:
    """Return a whole number with commas."""
    return f"{number:,.0f}"


def duration(seconds: float) -> str:
    """Return a time in the unit that suits it: `0.42 s`, `35 s`, `12 min 5 s`, `3 h 10 min`."""
    if seconds < 10:
        return tr("{s} s", s=f"{seconds:.2g}").replace(" ", NBSP)
    whole = round(seconds) if seconds < 2 * 3600 else 60 * round(seconds / 60)
    hours, minutes, rest = 0, whole // 60, whole % 60
    if whole < 2 * 60:
        minutes, rest = 0, whole
    elif whole >= 2 * 3600:
        hours, minutes = divmod(minutes, 60)
    parts = (
        tr("{h} h", h=hours) if hours else "",
        tr("{min} min", min=minutes) if minutes else "",
        tr("{s} s", s=rest) if rest else "",
    )
    return " ".join(filter(None, parts)).replace(" ", NBSP)


def embedded(data: Any) -> Markup:
    """Return JSON that can stand in a script element: `<` could end it."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c"))


def data_uri(content: bytes, kind: str) -> str:
    """Return the bytes of a picture as an address that needs no file."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


FILTERS = {
    "percent": percent,
    "percents": percents,
    "glued": glued,
    "breakable": breakable,
    "capital": capital,
    "sentence": sentence,
    "count": count,
    "duration": duration,
}
DRAWINGS = {
    "line_chart": svg.line_chart,
    "line": svg.Line,
    "dot_chart": dots.dot_chart,
    "slice_chart": dots.slice_chart,
    "interval": dots.interval,
}
