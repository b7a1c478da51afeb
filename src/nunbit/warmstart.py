"""A warm start: network, weights and preprocessing of a model that nunbit trained before."""

import hashlib
import os
from pathlib import Path

from nunbit.bundle import MODEL_FILE
from nunbit.config import PRETRAINED, ModelConfig
from nunbit.errors import UsageError
from nunbit.modelfile import load_classifier
from nunbit.models.catalog import NOT_STATED
from nunbit.models.pretrained import Pretrained
from nunbit.storage import is_own_file


def is_own(settings: ModelConfig) -> bool:
    """Return whether `model.weights` names a run folder or a model file of nunbit's."""
    weights = settings.weights
    if weights in ("", PRETRAINED):
        return False
    if os.path.isdir(weights) or is_own_file(Path(weights)):
        return True
    # What is gone: nobody publishes weights of nunbit's own networks.
    return ":" not in settings.name and not os.path.exists(weights)


def load_own(settings: ModelConfig) -> Pretrained:
    """Return the network of a run folder or model file, with its last layer.

    Args:
        settings: `weights` says where; name and options must be those that the file states, so
            that the settings of the new run describe its network.

    Raises:
        MissingInputError: no such file, or a folder without one.
        DataError: no model file, or a damaged one.
        UsageError: the file holds another network; the text has the words that ask for it.
    """
    path = Path(settings.weights)
    classifier = load_classifier(path)
    held = ModelConfig(**classifier.card["model"])
    if (held.name, dict(held.args)) != (settings.name, dict(settings.args)):
        options = (f" --model.{name} {value}" for name, value in held.args.items())
        raise UsageError(
            "{weights} holds '{held}', and the settings ask for '{asked}'; write: {words}",
            weights=path,
            held=_described(held),
            asked=_described(settings),
            words=f"--model {held.name}{''.join(options)}",
        )
    file = path / MODEL_FILE if path.is_dir() else path
    with file.open("rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    before = classifier.card.get("pretrained") or {}
    return Pretrained(
        name=held.name,
        module=classifier.module.cpu(),
        preprocess=classifier.preprocess,
        licence=str(before.get("licence", NOT_STATED)),
        source=f"{path.name}, a model of nunbit's",
        file=file.name,
        sha256=sha256,
        class_names=classifier.class_names,
    )


def _described(model: ModelConfig) -> str:
    return " ".join([model.name, *(f"{name}={value}" for name, value in model.args.items())])
