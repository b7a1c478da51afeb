"""Held-out pictures that a model knows from an earlier training are no test of it."""

import json
from pathlib import Path

from nunbit.bundle import MODEL_FILE
from nunbit.config import RunConfig
from nunbit.data.splits import Dataset
from nunbit.errors import DataError, listed
from nunbit.language import tr
from nunbit.modelfile import load_classifier
from nunbit.runfolder import SPLIT_FILE, read_split
from nunbit.warmstart import is_own

NAMED = 3
MOST_BEGINNINGS = 20  # trainings that went on from each other


def require_unseen(config: RunConfig, dataset: Dataset) -> str:
    """Refuse held-out pictures that the model of `model.weights`, or one before it, learned from.

    Args:
        config: of the new training.
        dataset: its pictures.

    Returns:
        A line for the user where nobody can tell; "" where all is well.

    Raises:
        DataError: naming some of them.
    """
    settings = config.model
    for _ in range(MOST_BEGINNINGS):
        if not is_own(settings):
            break
        path = Path(settings.weights)
        classifier = load_classifier(path)
        if (classifier.card.get("data") or {}).get("fingerprint") != dataset.fingerprint:
            folder = path if path.is_dir() else path.parent
            is_run = path.is_dir() or path.name == MODEL_FILE
            if not is_run or not (folder / SPLIT_FILE).exists():
                return _unknown(path)
            if classifier.preprocess != dataset.preprocess:  # digests are of what it showed
                return _unknown(path)
            _require_disjoint(folder, dataset)
        before = classifier.card.get("config")
        if before is None:
            break
        settings = RunConfig.from_json(json.dumps(before)).model
    return ""


def _unknown(path: Path) -> str:
    return tr(
        "nobody can tell whether the model of {path} was trained on some of the test pictures; if "
        "it was, their accuracy flatters it",
        path=path,
    )


def _require_disjoint(folder: Path, dataset: Dataset) -> None:
    """Refuse a data set that holds out what a run did not."""
    rows = read_split(folder).values()
    known = {digest for _, split, digest in rows if split != "test"}
    held_out = [pictures for pictures in (dataset.val, dataset.test) if pictures is not None]
    found = [
        name
        for pictures in held_out
        for name, digest in zip(pictures.names, pictures.digests, strict=True)
        if digest in known
    ]
    if found:
        raise DataError(
            "the model of {folder} was trained on {count} pictures that are held out here: "
            "{named}; hold out others (a test/ folder and val/), or leave these out of the data",
            folder=folder,
            count=len(found),
            named=listed(found, NAMED),
        )
