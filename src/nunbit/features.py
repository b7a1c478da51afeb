"""What a network sees in pictures before its last layer, computed once for each picture.

Features of a pretrained network are most of the work of fine-tuning a head, and they do not change
while the weights and the picture do not. They are kept in the cache folder under a name that
follows from all that they depend on, with the digest of each picture's pixels.

Shapes: N pictures, F features.
"""

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from nunbit.data.download import cache_folder
from nunbit.data.pictures import ImageSet, Track
from nunbit.data.preprocess import Preprocess
from nunbit.errors import DataError, StorageError
from nunbit.evaluation import eval_mode
from nunbit.language import tr
from nunbit.models.head import find_head
from nunbit.models.surgery import get
from nunbit.runtime import Runtime
from nunbit.storage import load_tensors, make_folder, save_tensors

BATCH = 32  # pictures of 224 pixels: activations of a few hundred MB at most
SAVE_SECONDS = 30.0  # a stop loses that much
DIGEST_BYTES = 8


@dataclass(frozen=True)
class FeatureSource:
    """A network whose features are wanted."""

    model: nn.Module
    preprocess: Preprocess
    runtime: Runtime
    weights_sha256: str
    """Of the file that the weights came from; "" keeps no features, as nobody can name them."""

    def file(self) -> Path | None:
        """Return where these features are kept."""
        if not self.weights_sha256:
            return None
        facts = [
            self.weights_sha256, self.preprocess.to_dict(), self.runtime.precision,
            self.runtime.device.type, torch.__version__,
        ]  # fmt: skip  # all that a feature depends on but the picture
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
        return cache_folder() / "features" / f"{digest[:32]}.safetensors"


def count_known(source: FeatureSource) -> int:
    """Return how many pictures have features in the cache, of whatever data."""
    return len(_load(source.file()))


def features_of(
    source: FeatureSource, parts: Sequence[ImageSet], track: Track
) -> tuple[list[Tensor], int]:
    """Return the features (N, F) of each part, float32 on the CPU, and how many were computed.

    Args:
        source: the network; not changed.
        parts: pictures in memory; equal pixels are computed once.
        track: shows progress, (items, total, label) -> items.

    Raises:
        DataError: the network's features are not finite.
    """
    known = _load(source.file())
    wanted: dict[str, tuple[ImageSet, int]] = {}
    for part in parts:
        wanted |= {d: (part, i) for i, d in enumerate(part.digests) if d not in known}
    digests = list(wanted)
    batches = [digests[i : i + BATCH] for i in range(0, len(digests), BATCH)]
    saved = time.monotonic()
    for batch in track(batches, len(batches), tr("features")):
        images = torch.stack([part.images[i] for part, i in map(wanted.__getitem__, batch)])
        known |= zip(batch, _compute(source, images), strict=True)
        if time.monotonic() - saved > SAVE_SECONDS:
            _save(source.file(), known)
            saved = time.monotonic()
    if digests:
        _save(source.file(), known)
    return [torch.stack([known[digest] for digest in part.digests]) for part in parts], len(digests)


def _compute(source: FeatureSource, images: Tensor) -> Tensor:
    """Return the input (B, F) of the network's last layer."""
    caught: list[Tensor] = []
    last = get(source.model, find_head(source.model))
    hook = last.register_forward_pre_hook(lambda _last, inputs: caught.append(inputs[0]))
    try:
        with eval_mode(source.model), torch.inference_mode(), source.runtime.autocast():
            x = source.preprocess.normalize(images.to(source.runtime.device))
            source.model(x)
    finally:
        hook.remove()
    features_BF = caught[0].flatten(1).float().cpu()
    if not features_BF.isfinite().all():
        raise DataError("the network's features are not finite; its weights are unusable")
    return features_BF


def _load(file: Path | None) -> dict[str, Tensor]:
    """Return what is kept; a damaged cache is no reason to fail, only to compute again."""
    if file is None or not file.exists():
        return {}
    try:
        tensors, _ = load_tensors(file)
        names = bytes(tensors["digests"].numpy()).hex()
        width = 2 * DIGEST_BYTES
        digests = [names[i : i + width] for i in range(0, len(names), width)]
        return dict(zip(digests, tensors["features"], strict=True))
    except (DataError, StorageError, KeyError, ValueError):
        return {}


def _save(file: Path | None, known: dict[str, Tensor]) -> None:
    """Keep features for the next time; a cache that cannot be written is none."""
    if file is None:
        return
    names = bytearray.fromhex("".join(known))
    tensors = {
        "digests": torch.frombuffer(names, dtype=torch.uint8).clone(),
        "features": torch.stack(list(known.values())),
    }
    try:
        make_folder(file.parent)
        save_tensors(file, tensors, {"kind": "nunbit features"})
    except OSError:
        return
