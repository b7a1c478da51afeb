"""Tables that people write: CSV in UTF-8, with a header."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from nunbit.errors import DataError, MissingInputError

MAX_BYTES = 1 << 30  # of a table that names a whole data set


def read_table(
    table: Path, needed: Sequence[str], most_bytes: int = MAX_BYTES
) -> list[tuple[int, dict[str, str]]]:
    """Return the rows of a table by column, without blanks around a cell, and their lines.

    Args:
        table: a CSV file; a byte order mark and lines of any kind are fine.
        needed: columns that it must have; others may be there.
        most_bytes: of the file.

    Raises:
        MissingInputError: no such file.
        DataError: it cannot be read, is not such a file, or lacks a column.
    """
    try:
        text = table_bytes(table, most_bytes).decode("utf-8-sig")
        reader = csv.DictReader(io.StringIO(text, newline=""))
        names = list(reader.fieldnames or ())
        # The line in which a row ends, as an editor counts them: cells may hold several.
        rows = [(reader.line_num, {n: str(row[n] or "").strip() for n in names}) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            "{table} is not a CSV file in UTF-8: {error}", table=table, error=error
        ) from error
    missing = [name for name in needed if name not in names]
    if missing:
        raise DataError(
            "{table} has no column {missing}; needed: {needed}",
            table=table,
            missing=", ".join(missing),
            needed=",".join(needed),
        )
    return rows


def table_bytes(table: Path, most_bytes: int) -> bytes:
    """Return the bytes of a table; a FIFO would be waited for.

    Raises:
        MissingInputError: no such file.
        DataError: it cannot be read, or is too large to be one.
    """
    try:
        if not table.is_file():
            raise MissingInputError("no table {table}", table=table)
        if table.stat().st_size > most_bytes:
            raise DataError(
                "{table} is larger than {max_bytes} MB; is it the right file?",
                table=table,
                max_bytes=most_bytes >> 20,
            )
        return table.read_bytes()
    except MissingInputError:
        raise
    except OSError as error:
        raise DataError(
            "cannot read {table}: {strerror}", table=table, strerror=error.strerror
        ) from error
