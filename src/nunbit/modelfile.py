"""From a model file to a classifier: nothing in it is believed before it is checked."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nunbit.bundle import DECIDING_VERSION, FORMAT_VERSION, MODEL_FILE, Classifier
from nunbit.config import ModelConfig
from nunbit.data.pictures import require_class_names
from nunbit.data.preprocess import MAX_SIDE, Preprocess
from nunbit.decision import read_decision
from nunbit.errors import DataError, MissingInputError
from nunbit.language import tr
from nunbit.models.limit import limited_size
from nunbit.models.registry import build_model
from nunbit.outliers import PREFIX
from nunbit.runtime import Runtime
from nunbit.storage import load_tensors
from nunbit.values import path_of

SPARE_NUMBERS = 1_000_000  # buffers that are not stored with the weights


def model_file(run: Path | str) -> Path:
    """Return the model file of a run folder, or the file that is named.

    Raises:
        MissingInputError: a folder without one.
    """
    path = path_of(run, "run")
    if not os.path.isdir(path):  # unlike path.is_dir(), False for a name that is too long
        return path
    if not (path / MODEL_FILE).exists():
        raise MissingInputError(
            "{run} holds no {model_file}; did its training end?", run=run, model_file=MODEL_FILE
        )
    return path / MODEL_FILE


def load_classifier(run: Path | str, runtime: Runtime | None = None) -> Classifier:
    """Load a classifier from a run folder or a model file, after verifying all of it.

    Args:
        run: the folder or the file.
        runtime: where and how to compute; None is as in training, where the hardware can.

    Raises:
        MissingInputError: no such folder or file.
        DataError: not a model file, damaged, or written by a newer nunbit.
    """
    path = model_file(run)
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
        _require_metrics(card.get("metrics"))
        module = _restored(card, preprocess, tensors)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = str(error)[:300]  # what a stranger wrote may be long
        raise DataError(
            "{path} does not describe its own weights: {reason}", path=path, reason=reason
        ) from error
    return Classifier(module, card["class_names"], preprocess, card, runtime, decision=decision)


def _require_metrics(metrics: object) -> None:
    """Refuse what does not say how many pictures each split had; `evaluate` asks for it."""
    parts = list(metrics.values()) if isinstance(metrics, dict) else [metrics]
    if metrics is not None and not all(
        isinstance(part, dict) and type(part.get("n")) is int for part in parts
    ):
        raise DataError("the metrics are not understood")


def built_for(card: Mapping[str, Any], preprocess: Preprocess) -> tuple[int, int]:
    """Return the (height, width) of pictures that a network was built for.

    Strides, and the number of stages, of some follow from it. After a warm start at another size it
    is not the size of the pictures.

    Raises:
        ValueError: the card has something else there.
    """
    size = card.get("built_for", [preprocess.height, preprocess.width])
    sides = size if isinstance(size, list) else []
    if len(sides) != 2 or not all(type(x) is int and 1 <= x <= MAX_SIDE for x in sides):
        raise ValueError(tr("built_for is no size"))
    height, width = sides
    return height, width


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
    # Older files may name the tag of the weights that the training began with.
    name = model.name.partition(".")[0] if ":" in model.name else model.name
    with torch.random.fork_rng(devices=[]), limited_size(most):  # its random weights are replaced
        module = build_model(
            name,
            num_classes=classes,
            in_channels=preprocess.channels,
            image_size=built_for(card, preprocess),
            args=model.args,
        )
    module.load_state_dict(tensors, strict=True)
    return module
