"""A table of corrections to a data set: pictures to leave out and labels to change.

The files stay as they are; a person, or a program, writes the table and trains with it.
"""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from nunbit.data.pictures import Pictures, Source, composed
from nunbit.data.table import read_table, table_bytes
from nunbit.errors import DataError, UsageError, did_you_mean
from nunbit.language import mark
from nunbit.storage import csv_line

Action = Literal["drop", "relabel"]
COLUMNS = ("path", "action", "label", "reason")
MAX_BYTES = 100 << 20  # of a table of corrections
NAMED_AGAIN = mark("{where}: '{path}' is named a second time; keep one line for it")


@dataclass(frozen=True)
class Override:
    """One line of the table."""

    path: str
    """The picture's name as the source gives it: relative to its folder or table."""
    action: Action
    label: str
    """The new class of a relabel, else ""."""
    reason: str
    """For the reader; not used."""


def apply_overrides(source: Source, table: Path) -> Source:
    """Return a source with the table's corrections.

    Raises:
        MissingInputError: no such table.
        DataError: not such a table, or a line that names an unknown picture, action or class.
        UsageError: a published set, whose splits are never changed.
    """
    if source.is_published:
        raise UsageError(
            "data.overrides is for your own pictures; {spec} is published", spec=source.spec
        )
    known = {name for part in source.parts.values() for name in part.names}
    rows = _as_spelt(_read_rows(table), known)
    seen: set[str] = set()
    for line, row in rows:
        where = f"{table}, line {line}"
        if row.path in seen:
            raise DataError(NAMED_AGAIN, where=where, path=row.path)
        seen.add(row.path)
        if row.path not in known:
            raise DataError(
                "{where}: {spec} has no picture '{path}'",
                where=where,
                spec=source.spec,
                path=row.path,
            )
        if row.action == "relabel" and row.label not in source.class_names:
            hint = did_you_mean(row.label, source.class_names)
            raise DataError(
                "{where}: no class '{label}'; {hint}", where=where, label=row.label, hint=hint
            )
    chosen = {row.path: row for _, row in rows}
    parts = {name: _corrected(p, chosen, source.class_names) for name, p in source.parts.items()}
    return replace(source, parts=parts)


def _as_spelt(rows: list[tuple[int, Override]], known: set[str]) -> list[tuple[int, Override]]:
    """Return rows with the names as the source spells them: Unicode has two forms of many."""
    spelt = {composed(name): name for name in known} | {name: name for name in known}
    names = (spelt.get(row.path) or spelt.get(composed(row.path), row.path) for _, row in rows)
    return [(line, replace(row, path=name)) for (line, row), name in zip(rows, names, strict=True)]


def read_overrides(table: Path) -> list[Override]:
    """Read a table with the columns path, action and label (and perhaps reason).

    Raises:
        MissingInputError: no such table.
        DataError: not CSV, a missing column, an unknown action, or a picture that is named twice.
    """
    return [row for _, row in _read_rows(table)]


def _read_rows(table: Path) -> list[tuple[int, Override]]:
    """Return the rows of a table with the line of the file in which each ends."""
    rows: dict[str, tuple[int, Override]] = {}
    for number, line in read_table(table, COLUMNS[:3], MAX_BYTES):
        path, action, label, reason = (line.get(name, "") for name in COLUMNS)
        where = f"{table}, line {number}"
        if action not in get_args(Action):
            raise DataError(
                "{where}: action '{action}'; {hint}",
                where=where,
                action=action,
                hint=did_you_mean(action, get_args(Action)),
            )
        if path in rows:
            raise DataError(NAMED_AGAIN, where=where, path=path)
        row = Override(path, "drop" if action == "drop" else "relabel", composed(label), reason)
        rows[path] = number, row
    return list(rows.values())


def write_overrides(rows: list[Override]) -> str:
    """Return the text of a table that `read_overrides` reads."""
    lines = [COLUMNS, *((row.path, row.action, row.label, row.reason) for row in rows)]
    return "".join(map(csv_line, lines))


def overrides_digest(table: Path) -> str:
    """Return the sha256 of a table, which becomes part of the data's fingerprint."""
    return hashlib.sha256(table_bytes(table, MAX_BYTES)).hexdigest()


def _corrected(
    pictures: Pictures, rows: dict[str, Override], class_names: tuple[str, ...]
) -> Pictures:
    actions = [rows.get(name) for name in pictures.names]
    labels = pictures.labels.copy()
    for i, row in enumerate(actions):
        if row is not None and row.action == "relabel":
            labels[i] = class_names.index(row.label)
    kept = [i for i, row in enumerate(actions) if row is None or row.action != "drop"]
    return replace(pictures, labels=labels).select(np.array(kept, dtype=np.int64))
