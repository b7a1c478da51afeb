"""Folders of class folders, and CSV files of path and label."""

import os
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from nunbit.data.decode import FOREIGN_SUFFIXES, SUFFIXES
from nunbit.data.pictures import Pictures, Source, composed, printable
from nunbit.data.table import read_table
from nunbit.errors import DataError, did_you_mean, listed
from nunbit.language import tr

SPLIT_NAMES = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val",
    "test": "test", "testing": "test",
}  # fmt: skip  # a table reads better in columns
NAMED_AS_PICTURES = SUFFIXES | FOREIGN_SUFFIXES
LITTER = frozenset({  # left by other programs, and by what the pictures are stored on; lower case
    "thumbs.db", "desktop.ini", "__macosx", "__pycache__",
    "@eadir", "#recycle", "lost+found", "$recycle.bin", "system volume information",
})  # fmt: skip  # one name a line would say no more


def open_folder(root: Path) -> Source:
    """Open a folder whose folders are classes, or are splits that hold classes.

    Classes are mapped by name over all splits and sorted; hidden folders and files are not
    classes. A class folder may be a link; links to folders inside of one are not followed, so that
    a loop cannot hang the search, and are named as ignored.

    Raises:
        DataError: no pictures, a class that train lacks, two folders for one class, or folders
            that cannot be told apart.
    """
    roles = _roles(root)
    ignored: list[str] = []
    found = {part: _by_class(folder, root, ignored) for part, folder in roles.items()}
    if "all" not in roles:
        ignored += [printable(path.name) for path in _of_no_class(root)]
    if not any(paths for classes in found.values() for paths in classes.values()):
        raise DataError(_why_empty(root, ignored))
    class_names = _class_names(found, root)
    index = {name: i for i, name in enumerate(class_names)}
    parts = {}
    for part, classes in found.items():
        rows = [(path, index[name]) for name in sorted(classes) for path in classes[name]]
        parts[part] = make_pictures(rows, root)
    return Source(str(root), class_names, parts, ignored=tuple(ignored))


def has_classes(root: Path) -> bool:
    """Return whether one of a folder's folders holds a picture, so that they may be classes."""
    return any(any(picture_files(folder)) for folder in _folders(root))


def open_csv(table: Path) -> Source:
    """Open a CSV file with the columns `path` and `label`, and perhaps `split`.

    Paths are relative to the table's folder. One that is there in Unicode's other spelling only,
    as macOS's archives have it, is found.

    Raises:
        DataError: a missing column, an empty cell, no rows, or an unknown split.
    """
    rows = _by_part(table)
    if not rows:
        raise DataError("{table} has no rows below its header", table=table)
    if "all" in rows and len(rows) > 1:
        raise DataError(
            "{table}: some lines name a split (train, val, test) and some do not", table=table
        )
    found = {part: _group(pairs) for part, pairs in rows.items()}
    class_names = _class_names(found, table)
    index = {name: i for i, name in enumerate(class_names)}
    parts = {
        part: make_pictures([(path, index[label]) for path, label in pairs], table.parent)
        for part, pairs in rows.items()
    }
    return Source(str(table), class_names, parts)


def _by_part(table: Path) -> dict[str, list[tuple[Path, str]]]:
    """Return (path, label) of the rows of each part."""
    rows: dict[str, list[tuple[Path, str]]] = {}
    for number, row in read_table(table, ("path", "label")):
        path, label, split = row["path"], row["label"], row.get("split", "").lower()
        if not path or not label:
            raise DataError(
                "{table}, line {number}: path or label is empty", table=table, number=number
            )
        if split and split not in SPLIT_NAMES:
            raise DataError(
                "{table}, line {number}: split '{split}'; {hint}",
                table=table,
                number=number,
                split=split,
                hint=did_you_mean(split, SPLIT_NAMES),
            )
        part = SPLIT_NAMES.get(split, "all")
        rows.setdefault(part, []).append((_picture_path(table.parent, path), composed(label)))
    return rows


def _picture_path(folder: Path, name: str) -> Path:
    """Return the path of a table's picture, in the spelling in which it is there."""
    path = folder / name
    if name.isascii() or os.path.exists(path):  # ASCII has one spelling: nothing to ask the disk
        return path
    others = (folder / unicodedata.normalize(form, name) for form in ("NFC", "NFD"))
    return next((other for other in others if os.path.exists(other)), path)


def _roles(root: Path) -> dict[str, Path]:
    """Return the folders of the splits, or the root itself where its folders are classes.

    A folder with a split's name counts as a split if it holds folders; a class of trains may be
    called "train".

    Raises:
        DataError: splits beside folders that are none, two folders for one split, or parquet files
            in them.
    """
    children = _folders(root)
    likely = [c for c in children if c.name.lower() in SPLIT_NAMES]
    splits = [c for c in likely if _folders(c)]
    if not splits:
        if len(likely) == len(children) > 1:
            _refuse_parquet(root, (path for child in children for path in _files(child)))
            raise DataError(
                "{root}: {names} hold no folders; put each class in a folder of its own, such as "
                "{example}",
                root=root,
                names=listed(c.name for c in children),
                example=children[0] / "cat",
            )
        return {"all": root}
    named, others = (", ".join(c.name for c in group) for group in (
        splits, [c for c in children if c not in splits]
    ))  # fmt: skip
    if others:
        raise DataError(
            "{root}: {others} beside {named} is no split with class folders; move it",
            root=root,
            others=others,
            named=named,
        )
    roles = {SPLIT_NAMES[c.name.lower()]: c for c in splits}
    if len(roles) < len(splits):
        raise DataError(
            "{root}: two of {named} mean the same split; keep one", root=root, named=named
        )
    return roles


def make_pictures(rows: list[tuple[Path, int]], root: Path) -> Pictures:
    """Return files and labels as `Pictures`, named by their paths from `root`."""
    labels = np.array([label for _, label in rows], dtype=np.int64)
    names = [printable(os.path.relpath(path, root)) for path, _ in rows]
    return Pictures([path for path, _ in rows], labels, names)


def picture_files(folder: Path) -> Iterator[Path]:
    """Yield the picture files below a folder, sorted, hidden ones left out.

    Those of formats that are not read are among them, so that they are named as unreadable.
    """
    for path in _files(folder):
        if path.suffix.lower() in NAMED_AS_PICTURES:
            yield path


def _files(folder: Path) -> Iterator[Path]:
    """Yield the files below a folder, sorted, and the links to folders, which are not followed."""
    for where, folders, files in os.walk(folder, onerror=_refuse):
        # A folder that is named as a picture is given as one, so that it is found unreadable.
        odd = [
            name
            for name in folders
            if Path(name).suffix.lower() in SUFFIXES or os.path.islink(os.path.join(where, name))
        ]
        folders[:] = sorted(name for name in folders if not (_is_hidden(name) or name in odd))
        for name in sorted(files + odd):
            if not _is_hidden(name):
                yield Path(where, name)


def _refuse(error: OSError) -> None:
    """Stop at a folder that cannot be looked into: its pictures would be missing silently."""
    raise DataError(
        "cannot look into {filename}: {strerror}", filename=error.filename, strerror=error.strerror
    ) from error


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name.lower() in LITTER


def _folders(root: Path) -> list[Path]:
    return sorted(p for p in root.iterdir() if p.is_dir() and not _is_hidden(p.name))


def _by_class(folder: Path, root: Path, ignored: list[str]) -> dict[str, list[Path]]:
    classes: dict[str, list[Path]] = {}
    for child, name in _class_folders(folder):
        found = classes.setdefault(name, [])
        others: list[Path] = []
        for path in _files(child):
            if path.suffix.lower() in NAMED_AS_PICTURES:
                found.append(path)
            else:
                others.append(path)
        if not found:  # it could not be trained on
            _refuse_parquet(root, others)
        ignored += [printable(os.path.relpath(path, root)) for path in others]
    ignored += [printable(os.path.relpath(path, root)) for path in _of_no_class(folder)]
    return classes


def _refuse_parquet(root: Path, files: Iterable[Path]) -> None:
    """Say where parquet files lie that stand in the place of pictures.

    Raises:
        DataError: there are some.
    """
    folders = {file.parent for file in files if file.suffix.lower() == ".parquet"}
    if any(folder.name.lower() in SPLIT_NAMES for folder in folders):
        # One of them alone would be trained on, perhaps that of test.
        raise DataError(
            "{root}: the parquet files lie in {folders}; put them into one folder, with names that "
            "begin with the split, such as train-1.parquet",
            root=root,
            folders=listed(map(str, sorted(folders))),
        )
    if folders:
        raise DataError(
            "{root}: the parquet files lie in {folder}; give that folder",
            root=root,
            folder=min(folders),
        )


def _class_folders(folder: Path) -> Iterator[tuple[Path, str]]:
    """Yield the class folders and the names of their classes.

    Raises:
        DataError: two folders are spellings of one name.
    """
    seen: dict[str, Path] = {}
    for child in _folders(folder):
        name = composed(printable(child.name))
        if name in seen:
            raise DataError(
                "{folder}: {first} and {second} are two spellings of the name '{name}'; move the "
                "pictures into one of them",
                folder=folder,
                first=ascii(seen[name].name),  # as they would look the same
                second=ascii(child.name),
                name=name,
            )
        seen[name] = child
        yield child, name


def _of_no_class(folder: Path) -> list[Path]:
    """Return the pictures that lie beside the class folders."""
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in NAMED_AS_PICTURES
        and not (_is_hidden(path.name) or os.path.isdir(path))
    )


def _group(pairs: list[tuple[Path, str]]) -> dict[str, list[Path]]:
    classes: dict[str, list[Path]] = {}
    for path, label in pairs:
        classes.setdefault(label, []).append(path)
    return classes


def _class_names(found: dict[str, dict[str, list[Path]]], where: Path) -> tuple[str, ...]:
    """Return the classes that training knows, after checking every part against them."""
    training = found.get("train") or found.get("all") or next(iter(found.values()))
    for part, classes in found.items():
        foreign = sorted(set(classes) - set(training))
        if foreign:
            raise DataError(
                "{where}: {part} has classes that train lacks: {foreign}",
                where=where,
                part=part,
                foreign=listed(foreign),
            )
    return tuple(sorted(training))


def _why_empty(root: Path, ignored: list[str]) -> str:
    kinds = ", ".join(sorted(SUFFIXES))
    if _of_no_class(root):
        return tr(
            "{root}: pictures lie in the folder itself; put each class in a folder of its own",
            root=root,
        )
    beside = [name for name in ignored if Path(name).suffix.lower() in NAMED_AS_PICTURES]
    if beside:
        return tr(
            "{root}: {picture} lies in no class; put each class in a folder of its own",
            root=root,
            picture=beside[0],
        )
    if ignored:
        return tr(
            "{root}: no pictures ({kinds}), only other files: {ignored}",
            root=root,
            kinds=kinds,
            ignored=listed(ignored, 1),
        )
    return tr(
        "{root} is empty; put each class's pictures ({kinds}) in a folder of its own",
        root=root,
        kinds=kinds,
    )
