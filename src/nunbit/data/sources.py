"""One door to all data: a known name, a folder, a CSV file or parquet."""

from pathlib import Path

from nunbit.data.folder import open_csv, open_folder
from nunbit.data.named import NAMED
from nunbit.data.parquet import open_parquet
from nunbit.data.pictures import Source, Track, is_text, printable, untracked
from nunbit.errors import DataError, MissingInputError, UsageError, did_you_mean


def open_source(spec: str, track: Track = untracked) -> Source:
    """Open a data source without decoding its pictures.

    Args:
        spec: a name of `NAMED`, or a path; write ./digits for a folder that has a known name.
        track: shows the progress of a download, (items, total, label) -> items.

    Raises:
        MissingInputError: neither a known name nor a path that exists.
        DataError: there, but not what nunbit can train on.
        UsageError: the path is no text, which nothing that is written about it could name.
    """
    if spec in NAMED:
        return NAMED[spec](track)
    if not is_text(spec):
        raise UsageError(
            "{path} is not in UTF-8; rename it, or give a link to it", path=printable(spec)
        )
    path = Path(spec).expanduser()
    try:
        if path.is_dir():
            is_parquet = any(path.glob("*.parquet"))
            return open_parquet(path) if is_parquet else open_folder(path)
        if not path.exists():
            raise MissingInputError(
                "no data '{spec}': no such path; {hint}", spec=spec, hint=did_you_mean(spec, NAMED)
            )
    except PermissionError as error:
        raise MissingInputError(
            "cannot look into {path}: {strerror}", path=path, strerror=error.strerror
        ) from error
    openers = {".csv": open_csv, ".parquet": open_parquet}
    if path.suffix.lower() not in openers:
        raise DataError(
            "{path} is a file; allowed: a folder of class folders, .csv or .parquet", path=path
        )
    return openers[path.suffix.lower()](path)
