"""From a model file to a classifier: nothing in it is believed before it is checked."""

import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nunbit.bundle import DECIDING_VERSION, FORMAT_VERSION, MODEL_FILE, Classifier
from nunbit.config import ModelConfig
from nunbit.data.preprocess import Preprocess
from nunbit.decision import read_decision
from nunbit.errors import DataError, MissingInputError, NunbitError
from nunbit.language import tr
from nunbit.models.limit import limited_size
from nunbit.models.registry import build_model
from nunbit.outliers import PREFIX
from nunbit.storage import load_tensors
from nunbit.values import path_of

MAX_CLASSES = 100_000
MAX_NAME = 255  # characters, as in names of folders
SPARE_NUMBERS = 1_000_000  # buffers that are not stored with the weights


def load_classifier(run: Path | str) -> Classifier:
    """Load a classifier from a run folder or a model file, after verifying all of it.

    Raises:
        MissingInputError: no such folder or file.
        DataError: not a model file, damaged, or written by a newer nunbit.
    """
    path = path_of(run, "run")
    if os.path.isdir(path):  # unlike path.is_dir(), False for a name that is too long
        path = path / MODEL_FILE
        if not path.exists():
            raise MissingInputError(
                "{run} holds no {model_file}; did its training end?", run=run, model_file=MODEL_FILE
            )
    tensors, card = load_tensors(path)
    version = card.get("format_version")
    if version not in (FORMAT_VERSION, DECIDING_VERSION):
        raise DataError(
            "{path} has format {version}; this nunbit reads {format_version}",
            path=path,
            version=version,
            format_version=f"{FORMAT_VERSION}, {DECIDING_VERSION}",
        )
    own = {name: tensor for name, tensor in tensors.items() if name.startswith(PREFIX)}
    try:
        decision = read_decision(card["decision"], own) if version == DECIDING_VERSION else None
        if decision:
            tensors = {name: tensor for name, tensor in tensors.items() if name not in own}
        preprocess = Preprocess.from_dict(card["preprocess"])
        require_class_names(card["class_names"], DataError)
        if not all(isinstance(card.get(key), dict | None) for key in ("config", "data")):
            raise DataError("config and data are no objects")
        module = _restored(card, preprocess, tensors)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = str(error)[:300]  # what a stranger wrote may be long
        raise DataError(
            "{path} does not describe its own weights: {reason}", path=path, reason=reason
        ) from error
    return Classifier(module, card["class_names"], preprocess, card, decision=decision)


def require_class_names(names: Any, kind: type[NunbitError]) -> None:
    """Refuse what is not a list of different names.

    Raises:
        NunbitError: of the given kind, with what is allowed.
    """
    is_list = isinstance(names, list | tuple) and 0 < len(names) <= MAX_CLASSES
    if not is_list or not all(isinstance(n, str) and 0 < len(n) <= MAX_NAME for n in names):
        raise kind(
            tr(
                "class names are 1 to {max_classes:,} texts of up to {max_name} characters",
                max_classes=MAX_CLASSES,
                max_name=MAX_NAME,
            )
        )
    twice, count = Counter(names).most_common(1)[0]
    if count > 1:
        raise kind(
            tr("two classes are named '{twice}'; class names are all different", twice=twice)
        )


def _restored(
    card: Mapping[str, Any], preprocess: Preprocess, tensors: Mapping[str, Tensor]
) -> nn.Module:
    """Build the network that a card describes, if it is no larger than the weights beside it."""
    model, classes = ModelConfig(**card["model"]), len(card["class_names"])
    if classes not in {tensor.shape[0] for tensor in tensors.values() if tensor.ndim}:
        raise DataError(
            "{classes:,} class names, but no layer has as many outputs", classes=classes
        )
    # Twice: weights that layers share are stored once a name but registered at each.
    most = 2 * sum(tensor.numel() for tensor in tensors.values()) + SPARE_NUMBERS
    with torch.random.fork_rng(devices=[]), limited_size(most):  # its random weights are replaced
        module = build_model(
            model.name,
            num_classes=classes,
            in_channels=preprocess.channels,
            image_size=(preprocess.height, preprocess.width),
            args=model.args,
        )
    module.load_state_dict(tensors, strict=True)
    return module
