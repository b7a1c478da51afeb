"""A warm start: network, weights and preprocessing of a model that nunbit trained before."""

import hashlib
import os
from pathlib import Path
from typing import Any

from nunbit.config import PRETRAINED, ModelConfig
from nunbit.data.pictures import composed
from nunbit.data.preprocess import Preprocess
from nunbit.errors import DataError, MissingInputError, UsageError
from nunbit.modelfile import built_for, load_classifier, model_file
from nunbit.models.catalog import NOT_STATED
from nunbit.models.pretrained import Pretrained
from nunbit.models.registry import all_options
from nunbit.storage import own_metadata
from nunbit.values import Setting, as_word

OWN = "a model of nunbit's"  # ends the record of where such weights come from


def own_card(settings: ModelConfig) -> dict[str, Any] | None:
    """Return what the model file that `model.weights` names says of itself; None of other weights.

    Only the file's head is read and nothing is verified; `load_own` does that.

    Raises:
        MissingInputError: no such file, or a folder without one.
    """
    weights = settings.weights
    if weights in ("", PRETRAINED):
        return None
    # What is gone is one of ours where nobody publishes weights of the network.
    if ":" not in settings.name and not os.path.exists(weights):
        raise MissingInputError("no file {path}", path=weights)
    return own_metadata(model_file(weights))


def own_preprocess(weights: str, card: dict[str, Any]) -> Preprocess:
    """Return how a model of one's own is shown pictures, by its card.

    Raises:
        DataError: the card does not say it.
    """
    try:
        return Preprocess.from_dict(card["preprocess"])
    except (KeyError, TypeError) as error:
        raise DataError(
            "{path} does not describe its own weights: {reason}",
            path=weights,
            reason=error,
        ) from error


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
    classifier = load_classifier(settings.weights)
    held, asked = ModelConfig(**classifier.card["model"]), settings
    options, wanted = (all_options(model.name, model.args) for model in (held, asked))
    if (held.name, options) != (asked.name, wanted):
        given = "".join(f" --model.{name} {as_word(value)}" for name, value in options.items())
        raise UsageError(
            "{weights} holds '{held}', and the settings ask for '{asked}'; write: {words}",
            weights=settings.weights,
            held=_described(held.name, options),
            asked=_described(asked.name, wanted),
            words=f"--model.name {held.name}{given}",
        )
    file = model_file(settings.weights)
    before = classifier.card.get("pretrained") or {}
    return Pretrained(
        name=held.name,
        module=classifier.module.cpu(),
        preprocess=classifier.preprocess,
        licence=str(before.get("licence", NOT_STATED)),
        source=f"{Path(settings.weights).name}, {OWN}",
        file=file.name,
        sha256=sha256_of(file),
        class_names=tuple(map(composed, classifier.class_names)),  # as data is read
        built_for=built_for(classifier.card, classifier.preprocess),
    )


def sha256_of(file: Path) -> str:
    """Return the sha256 of a file in hexadecimal digits."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _described(name: str, options: dict[str, Setting]) -> str:
    return " ".join([name, *(f"{option}={as_word(value)}" for option, value in options.items())])
