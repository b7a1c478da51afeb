"""Pictures that a model knows from an earlier training are no test of it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from nunbit.bundle import MODEL_FILE
from nunbit.config import RunConfig
from nunbit.data.pictures import ImageSet
from nunbit.data.splits import Dataset
from nunbit.errors import DataError, listed
from nunbit.language import tr
from nunbit.modelfile import model_file
from nunbit.runfolder import SPLIT_FILE, read_split
from nunbit.storage import own_metadata
from nunbit.warmstart import OWN, own_card, own_preprocess, sha256_of

NAMED = 3


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
    weights, card = config.model.weights, own_card(config.model)
    while card is not None:
        if _part(card, "data").get("fingerprint") != dataset.fingerprint:
            folder = model_file(weights).parent
            is_run = model_file(weights).name == MODEL_FILE and (folder / SPLIT_FILE).exists()
            # Digests are of what the model was shown.
            if not is_run or own_preprocess(weights, card) != dataset.preprocess:
                return _unknown(weights)
            _require_disjoint(folder, dataset)
        origin = _part(card, "pretrained")
        if not str(origin.get("source")).endswith(OWN):
            return ""
        weights = str(_part(_part(card, "config"), "model").get("weights"))
        before = Path(weights)
        file = model_file(weights) if before.exists() else before
        # Another training may have taken the name since.
        if not file.is_file() or sha256_of(file) != origin.get("sha256"):
            return _unknown(weights)
        card = own_metadata(file)
    return ""


def _part(card: dict[str, Any], name: str) -> dict[str, Any]:
    found = card.get(name)
    return found if isinstance(found, dict) else {}


def _unknown(weights: str) -> str:
    return tr(
        "nobody can tell whether the model of {path} was trained on some of the test pictures; if "
        "it was, their accuracy flatters it",
        path=weights,
    )


def say_known(run: str | Path, say: Callable[[str], None], pictures: ImageSet) -> None:
    """Say how many pictures a run has learned from; what no split.csv tells is not known.

    Args:
        run: its folder or model file.
        say: prints one line.
        pictures: shown as the run's model wants them.
    """
    file = model_file(run)
    if file.name != MODEL_FILE or not (file.parent / SPLIT_FILE).exists():
        return
    try:
        known = _known(file.parent)
    except DataError:  # a damaged file is no reason not to measure
        return
    count = sum(digest in known for digest in pictures.digests)
    if count:
        say(
            tr(
                "the model was trained on {count:,} of these {total:,} pictures, or chosen by "
                "them; their accuracy flatters it",
                count=count,
                total=len(pictures),
            )
        )


def _known(folder: Path) -> set[str]:
    """Return the digests of the pictures that a run was trained on or chosen by."""
    return {digest for _, split, digest in read_split(folder).values() if split != "test"}


def _require_disjoint(folder: Path, dataset: Dataset) -> None:
    """Refuse a data set that holds out what a run did not."""
    known = _known(folder)
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
            "{named}; hold out others (in a folder, those of test/), or leave these out",
            folder=folder,
            count=len(found),
            named=listed(found, NAMED),
        )
