"""Parquet files in the hub's layout: an image column (struct of bytes and path) and a label."""

import json
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from nunbit.data.folder import SPLIT_NAMES
from nunbit.data.pictures import Pictures, Source
from nunbit.errors import DataError, UsageError

MAX_CLASSES = 100_000  # a label above it is no class number
LABEL_COLUMNS = ("label", "labels", "fine_label")


def open_parquet(path: Path) -> Source:
    """Open a parquet file, or a folder of files named by split: `train-00000-of-00001.parquet`.

    Only the bytes inside the table are used; a `path` in it is a name and never opened.

    Raises:
        DataError: not parquet, no image or label column, or labels that have no names.
        UsageError: pyarrow is not installed.
    """
    files = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
    grouped: dict[str, list[Path]] = {}
    for file in files:
        prefix = file.name.split("-")[0].lower() if path.is_dir() else ""
        grouped.setdefault(SPLIT_NAMES.get(prefix, "all"), []).append(file)
    tables = {part: _read(names) for part, names in grouped.items()}
    class_names = _class_names(list(tables.values()), path)
    parts = {part: _pictures(table, class_names, part) for part, table in tables.items()}
    return Source(str(path), class_names, parts)


def _read(files: list[Path]) -> Any:
    """Return a table of the image and the label column of all files."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise UsageError('reading parquet needs: pip install "nunbit[parquet]"') from None
    try:
        schema = pq.read_schema(files[0])
        columns = [_image_column(schema), _label_column(schema)]
        return pa.concat_tables([pq.read_table(file, columns=columns) for file in files])
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(
            "{files} cannot be read as parquet: {reason}", files=files[0], reason=reason
        ) from error


def _image_column(schema: Any) -> str:
    for field in schema:
        children = {field.type.field(i).name for i in range(field.type.num_fields)}
        if "bytes" in children:
            return str(field.name)
    raise DataError("no image column (struct with bytes) among {names}", names=schema.names)


def _label_column(schema: Any) -> str:
    for name in LABEL_COLUMNS:
        if name in schema.names:
            return name
    raise DataError(
        "no label column among {names}; allowed: {label_columns}",
        names=schema.names,
        label_columns=LABEL_COLUMNS,
    )


class _Blobs(Sequence[bytes]):
    """The bytes of a table's pictures, each taken out when it is asked for.

    A list of them all would hold every file a second time.
    """

    def __init__(self, column: Any) -> None:
        self._chunks = [chunk.field("bytes") for chunk in column.chunks]
        self._ends = list(accumulate(map(len, self._chunks)))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, i: Any) -> Any:
        if isinstance(i, slice):
            return [self[k] for k in range(*i.indices(len(self)))]
        at = range(len(self))[i]
        chunk = bisect_right(self._ends, at)
        return self._chunks[chunk][at - self._ends[chunk]].as_py() or b""


def _class_names(tables: list[Any], path: Path) -> tuple[str, ...]:
    """Return the names that the schema's `huggingface` metadata gives, or all text labels."""
    columns = [(_label_column(table.schema), table) for table in tables]
    try:
        column, table = columns[0]
        features = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]
        return tuple(str(name) for name in features[column]["names"])
    except (KeyError, TypeError, ValueError):
        values = {v for column, table in columns for v in table.column(column).unique().to_pylist()}
    if all(isinstance(value, str) for value in values):
        return tuple(sorted(values))
    if all(isinstance(value, int) and 0 <= value < MAX_CLASSES for value in values):
        return tuple(str(value) for value in range(max(values) + 1))
    raise DataError(
        "{path}: the labels are neither class numbers from 0 nor class names", path=path
    )


def _pictures(table: Any, class_names: tuple[str, ...], part: str) -> Pictures:
    blobs = _Blobs(table.column(_image_column(table.schema)))
    labels = table.column(_label_column(table.schema)).to_pylist()
    index: dict[Any, int] = {name: i for i, name in enumerate(class_names)}
    index |= {i: i for i in range(len(class_names))}
    try:
        numbers = np.array([index[label] for label in labels], dtype=np.int64)
    except KeyError as error:
        raise DataError(
            "{part}: label {error} is not one of {count} classes",
            part=part,
            error=error,
            count=len(class_names),
        ) from None
    names = [f"{part}/{i}" for i in range(len(blobs))]
    return Pictures(blobs, numbers, names)
