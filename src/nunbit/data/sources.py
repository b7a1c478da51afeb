"""One door to all data: a known name, a folder, a CSV file or parquet; and where it lies."""

import os
from collections.abc import Container
from dataclasses import replace
from pathlib import Path

from nunbit.config import PRETRAINED, RunConfig
from nunbit.data.folder import has_classes, open_csv, open_folder
from nunbit.data.named import NAMED
from nunbit.data.parquet import open_parquet
from nunbit.data.pictures import Source, Track, require_class_names, require_text, untracked
from nunbit.errors import (
    CannotCreateError,
    DataError,
    MissingInputError,
    NunbitError,
    UsageError,
    did_you_mean,
)
from nunbit.language import tr

HUB_FOLDER = "data"  # beside a README.md
EXPECTED = ("imagenet", "photos")  # folders of recipes that have no set of their own


def open_source(spec: str, track: Track = untracked) -> Source:
    """Open a data source without decoding its pictures.

    Args:
        spec: a name of `NAMED`, or a path; write ./digits for a folder that has a known name.
        track: shows the progress of a download, (items, total, label) -> items.

    Raises:
        MissingInputError: neither a known name nor a path that exists.
        DataError: there, but not what nunbit can train on.
        UsageError: the path is empty, or no text, which nothing that is written could name.
    """
    source = NAMED[spec](track) if spec in NAMED else _open_path(spec)
    require_class_names(source.class_names, DataError)
    return source


def _open_path(spec: str) -> Source:
    if not spec:
        raise UsageError("no data: its name is empty; give a known name or a path")
    require_text(spec)
    path = Path(os.path.expanduser(spec))  # as it stands where no user has that name
    try:
        if path.is_dir():
            tables = _parquet_folder(path)
            return open_folder(path) if tables is None else open_parquet(tables)
        if not path.exists():
            hint = did_you_mean(spec, NAMED)
            if spec in EXPECTED:
                hint = tr("name a folder with --data")
            raise MissingInputError("no data '{spec}': no such path; {hint}", spec=spec, hint=hint)
    except NunbitError:
        raise
    except OSError as error:  # no permission, or a name that is too long
        raise MissingInputError(
            "cannot look into {path}: {strerror}", path=path, strerror=error.strerror
        ) from error
    openers = {".csv": open_csv, ".parquet": open_parquet}
    if path.suffix.lower() not in openers:
        raise DataError(
            "{path} is a file; allowed: a folder of class folders, .csv or .parquet", path=path
        )
    return openers[path.suffix.lower()](path)


def _parquet_folder(folder: Path) -> Path | None:
    """Return where the parquet files of a folder lie: in it, or in `data` as the hub lays it out.

    None where there are none, or classes in folders, one of which may be called `data`.
    """
    if any(folder.glob("*.parquet")):
        return folder
    inside = folder / HUB_FOLDER
    return inside if any(inside.glob("*.parquet")) and not has_classes(folder) else None


def absolute(source: str, names: Container[str] = NAMED) -> str:
    """Return the absolute path of a data source that is one; a known name stays as it is."""
    path = os.path.expanduser(source)
    is_path = source not in names and source and os.path.exists(path)
    return os.path.abspath(path) if is_path else source


def anchored(config: RunConfig) -> RunConfig:
    """Return settings whose paths mean the same from any folder.

    Raises:
        UsageError: one of them is no text, which no configuration could hold.
    """
    data, model = config.data, config.model
    source, overrides = absolute(data.source), absolute(data.overrides, names=())
    weights = absolute(model.weights, names=(PRETRAINED,))
    for path in (source, overrides, weights):
        require_text(path)
    return replace(
        config,
        data=replace(data, source=source, overrides=overrides),
        model=replace(model, weights=weights),
    )


def refuse_inside(folder: Path, source: str, option: str) -> None:
    """Refuse a folder to write into that lies inside the data, or that holds its table.

    Inside a folder of pictures the results would become a class; beside a table they might bear
    its name.

    Args:
        folder: where the results would be.
        source: the data.
        option: how another folder is asked for.

    Raises:
        UsageError: it lies inside.
        CannotCreateError: it holds the table.
    """
    data = Path(os.path.expanduser(source))
    if source in NAMED or not os.path.exists(data):
        return
    # os.path: links that lead round in a circle are refused where the folder is made.
    inside, real = Path(os.path.realpath(folder)), Path(os.path.realpath(data))
    if os.path.isfile(data) and inside == real.parent:
        raise CannotCreateError(
            "{folder} holds the data; choose another place with {option}",
            folder=folder,
            option=option,
        )
    if os.path.isdir(data) and inside.is_relative_to(real):
        raise UsageError(
            "{folder} would lie inside the data; choose another place with {option}",
            folder=folder,
            option=option,
        )
