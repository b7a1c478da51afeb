"""Parquet files in the hub's layout: an image column (struct of bytes and path) and a label."""

import json
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from nunbit.data.folder import SPLIT_NAMES
from nunbit.data.joined import Joined
from nunbit.data.pictures import Pictures, Source, composed
from nunbit.errors import DataError, UsageError

GROUPS_HELD = 4  # neighbours, which threads read together
LABEL_COLUMNS = ("label", "labels", "fine_label")


def open_parquet(path: Path) -> Source:
    """Open a parquet file, or a folder of files named by split.

    A name begins with its split: `train-00000-of-00001.parquet`, `test.parquet`. Only the bytes
    inside the table are used; a `path` in it is a name and never opened.

    Raises:
        DataError: not parquet, no image or label column, labels that have no names, or files of
            splits beside others.
        UsageError: pyarrow is not installed.
    """
    files = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
    grouped: dict[str, list[Path]] = {}
    for file in files:
        prefix = re.split(r"[-_.]", file.name, maxsplit=1)[0].lower() if path.is_dir() else ""
        grouped.setdefault(SPLIT_NAMES.get(prefix, "all"), []).append(file)
    if len(grouped) > 1 and "all" in grouped:
        raise DataError(
            "{path}: {name} names no split and other files do; allowed: {splits}",
            path=path,
            name=grouped["all"][0].name,
            splits=", ".join(f"{split}-..." for split in SPLIT_NAMES),
        )
    opened = {part: [_open(file) for file in names] for part, names in grouped.items()}
    labels = {part: _labels(found) for part, found in opened.items()}
    if not any(table.num_rows for table in labels.values()):
        raise DataError("{path} has no rows", path=path)
    classes = _classes(list(labels.values()), path)
    parts = {part: _pictures(opened[part], labels[part], classes, part) for part in opened}
    return Source(str(path), classes.names, parts)


@contextmanager
def _explained(file: Path) -> Iterator[None]:
    """Turn what Arrow raises into one line."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(
            "{files} cannot be read as parquet: {reason}", files=file, reason=reason
        ) from error


@dataclass(frozen=True)
class _File:
    """An opened file; only its footer has been read."""

    path: Path
    parquet: Any
    image_column: str
    label_column: str


def _open(path: Path) -> _File:
    try:
        import pyarrow.parquet as pq
    except ImportError:
        raise UsageError('reading parquet needs: pip install "nunbit[parquet]"') from None
    with _explained(path):
        parquet = pq.ParquetFile(path)
        schema = parquet.schema_arrow
    return _File(path, parquet, _image_column(schema), _label_column(schema))


def _labels(files: list[_File]) -> Any:
    """Return a table of the label columns of all files."""
    import pyarrow as pa

    with _explained(files[0].path):
        return pa.concat_tables([f.parquet.read(columns=[f.label_column]) for f in files])


def _image_column(schema: Any) -> str:
    for field in schema:
        children = {field.type.field(i).name for i in range(field.type.num_fields)}
        if "bytes" in children:
            return str(field.name)
    raise DataError("no image column (struct with bytes) among {names}", names=schema.names)


def _label_column(schema: Any) -> str:
    for name in LABEL_COLUMNS:
        if name in schema.names:
            if schema.field(name).type.num_fields:
                raise DataError(
                    "column {name} holds several labels; needed is one a picture", name=name
                )
            return name
    raise DataError(
        "no label column among {names}; allowed: {label_columns}",
        names=schema.names,
        label_columns=LABEL_COLUMNS,
    )


class _Blobs(Joined[bytes]):
    """The bytes of the pictures in some files, of which a few row groups are in memory at a time.

    All of them, beside the pixels that they become, would be the larger part of the memory.
    """

    def __init__(self, files: list[_File]) -> None:
        groups = [(file, group) for file in files for group in range(file.parquet.num_row_groups)]
        sizes = (file.parquet.metadata.row_group(group).num_rows for file, group in groups)
        super().__init__(sizes)
        self._groups = groups
        self._lock = Lock()  # a parquet file has one position, and pictures are read by threads
        self._held = lru_cache(GROUPS_HELD)(self._read)

    def _item(self, part: int, at: int) -> bytes:
        with self._lock:
            group = self._held(part)
        return group[at].as_py() or b""

    def _read(self, number: int) -> Any:
        """Return the bytes of one row group as an Arrow array."""
        file, group = self._groups[number]
        with _explained(file.path):
            table = file.parquet.read_row_group(group, columns=[file.image_column])
            return table.column(file.image_column).combine_chunks().field("bytes")


@dataclass(frozen=True)
class _Classes:
    names: tuple[str, ...]
    index: dict[Any, int]
    """The class of each label, which is a name or a number."""


def _classes(tables: list[Any], path: Path) -> _Classes:
    """Return the classes that the schema's `huggingface` metadata names, or those that occur.

    Numbers without names need not begin at 0 nor be without gaps: each that occurs is a class.
    """
    columns = [(_label_column(table.schema), table) for table in tables]
    try:
        column, table = columns[0]
        features = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]
        names = tuple(composed(str(name)) for name in features[column]["names"])
        return _Classes(names, _index(names) | _index(range(len(names))))
    except (KeyError, TypeError, ValueError):
        values = {v for column, table in columns for v in table.column(column).unique().to_pylist()}
    if all(isinstance(value, str) for value in values):
        values = {composed(value) for value in values}
    elif not all(isinstance(value, int) and value >= 0 for value in values):
        raise DataError(
            "{path}: the labels are neither class numbers from 0 nor class names", path=path
        )
    found = sorted(values)
    return _Classes(tuple(map(str, found)), _index(found))


def _index(labels: Iterable[Any]) -> dict[Any, int]:
    return {label: i for i, label in enumerate(labels)}


def _spelt(label: Any) -> Any:
    """Return a label as the classes are spelt; a number is none of Unicode's business."""
    return composed(label) if isinstance(label, str) else label


def _pictures(files: list[_File], table: Any, classes: _Classes, part: str) -> Pictures:
    blobs = _Blobs(files)
    labels = table.column(_label_column(table.schema)).to_pylist()
    try:
        numbers = np.array([classes.index[_spelt(label)] for label in labels], dtype=np.int64)
    except KeyError as error:
        raise DataError(
            "{part}: label {error} is not one of {count} classes",
            part=part,
            error=error,
            count=len(classes.names),
        ) from None
    names = [f"{part}/{i}" for i in range(len(blobs))]
    return Pictures(blobs, numbers, names)
