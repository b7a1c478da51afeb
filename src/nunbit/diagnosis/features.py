"""Numbers that tell pictures apart, for finding wrong labels: from a network, or without one."""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F

from nunbit.data.pictures import ImageSet, Pixels, Track
from nunbit.data.stats import digests
from nunbit.diagnosis.descriptors import describe_pictures, standardized
from nunbit.diagnosis.examination import Floats
from nunbit.errors import UsageError, did_you_mean
from nunbit.features import FeatureSource, features_of
from nunbit.language import tr
from nunbit.models.pretrained import LITE0, installed_weights
from nunbit.runtime import Runtime, limited_threads
from nunbit.zoo import load_pretrained

Choice = Literal["auto", "pretrained", "basic", "none"]
SIDE = 128  # pixels; 224 take three times as long and find no more wrong labels on flowers
BATCH = 256


def choose_features(name: str) -> Choice:
    """Return a choice by its name.

    Raises:
        UsageError: no such choice.
    """
    choices: tuple[Choice, ...] = get_args(Choice)
    for choice in choices:
        if name == choice:
            return choice
    raise UsageError("features is '{name}'; {hint}", name=name, hint=did_you_mean(name, choices))


@dataclass(frozen=True)
class Features:
    """One row per picture."""

    name: str
    """What they are, for the reader."""
    rows: Floats
    """float32 (N, F), standardised."""


def compute_features(images: Pixels, choice: Choice, runtime: Runtime, track: Track) -> Features:
    """Return features of pictures.

    Args:
        images: uint8 (N, H, W, C), C 1 or 3.
        choice: `auto` takes the pretrained network of the extra [offline] where it is installed.
        runtime: where to compute.
        track: shows progress, (items, total, label) -> items.

    Raises:
        MissingInputError: a pretrained network is wanted and not installed.
    """
    has_network = installed_weights(LITE0) is not None
    if choice == "pretrained" or (choice == "auto" and has_network):
        name = tr(
            "the pretrained {name} at {side} pixels, colours and edges",
            name=LITE0.partition(":")[2],
            side=SIDE,
        )
        rows = [_of_network(images, runtime, track), describe_pictures(images)]
        return Features(name, np.concatenate(rows, axis=1))
    why = "" if choice == "basic" else tr(" (no pretrained network: pip install 'nunbit[offline]')")
    return Features(
        tr("colours and edges, without a network{why}", why=why), describe_pictures(images)
    )


def _of_network(images: Pixels, runtime: Runtime, track: Track) -> Floats:
    network = load_pretrained(LITE0, allow_download=False)
    module = network.module.to(runtime.device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs lack this form
    # Whole pictures, squashed as the examination has them: a cut could remove what is labelled.
    preprocess = network.preprocess.resized(SIDE)
    source = FeatureSource(module, preprocess, runtime, network.name, network.sha256)
    resized = torch.cat([_resized(images[i : i + BATCH]) for i in range(0, len(images), BATCH)])
    numbers = torch.arange(len(resized))
    part = ImageSet(resized, numbers, [str(i) for i in range(len(resized))], digests(resized))
    with limited_threads(runtime.threads):
        (seen,), _ = features_of(source, [part], track)
    return standardized(seen.features.numpy().astype(np.float32))


def _resized(images: Pixels) -> torch.Tensor:
    """Return uint8 (B, SIDE, SIDE, 3)."""
    x = torch.from_numpy(images)
    x = x.expand(-1, -1, -1, 3) if x.shape[3] == 1 else x
    if x.shape[1:3] != (SIDE, SIDE):
        planes = x.permute(0, 3, 1, 2)
        planes = F.interpolate(planes, (SIDE, SIDE), mode="bicubic", antialias=True)
        x = planes.permute(0, 2, 3, 1)
    return x.contiguous()
