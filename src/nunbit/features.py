"""What a network sees in pictures before its last layer and on the way, computed once for each.

Features of a pretrained network are most of the work of fine-tuning a head, and they do not change
while the weights and the picture do not. They are kept in the cache folder under a name that
follows from all that they depend on, with the digest of each picture's pixels.

Shapes: N pictures, F features, C channels of a stage.
"""

import hashlib
import json
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor, nn

from nunbit.data.download import cache_folder
from nunbit.data.pictures import ImageSet, Track
from nunbit.data.preprocess import Preprocess
from nunbit.data.stats import DIGEST_BYTES
from nunbit.errors import DataError, StorageError
from nunbit.language import tr
from nunbit.models.mode import eval_mode
from nunbit.models.stages import watched
from nunbit.places import make_folder
from nunbit.runtime import Runtime
from nunbit.storage import load_tensors, save_tensors

BATCH = 32  # pictures of 224 pixels: activations of a few hundred MB at most
SAVE_SECONDS = 30.0  # at least, between two savings
MAX_COST = 0.05  # share of the time that they may take: the file is written whole
ZOOS = ("timm", "torchvision")
# Of a row, and what is seen at all: another word (stages.py or head.py changed) gets another file.
LAYOUT = "features, stages, 2"


@dataclass(frozen=True)
class FeatureSource:
    """A network whose features are wanted."""

    model: nn.Module
    preprocess: Preprocess
    runtime: Runtime
    name: str
    """As `build_model` takes it: twins of a zoo share a weights file, but not how they use it."""
    weights_sha256: str
    """Of the file that the weights came from; "" keeps no features, as nobody can name them."""

    def file(self) -> Path | None:
        """Return where these features are kept."""
        if not self.weights_sha256:
            return None
        facts = [
            self.name, self.weights_sha256, self.preprocess.to_dict(), self.runtime.precision,
            self.runtime.device.type, torch.__version__, *map(version, ZOOS), LAYOUT,
        ]  # fmt: skip  # all that a feature depends on but the picture
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
        return cache_folder() / "features" / f"{digest[:32]}.safetensors"


@dataclass(frozen=True)
class Seen:
    """What a network sees in pictures, float32 on the CPU."""

    features: Tensor
    """(N, F), the input of the last layer."""
    stages: tuple[Tensor, ...]
    """(N, C) each; see `models.stages`."""


@dataclass
class _Known:
    """Rows of features with all stages behind one another, by the digest of a picture."""

    rows: dict[str, Tensor]
    widths: list[int]
    """F and the C of every stage; empty before the first picture."""

    def seen(self, digests: Sequence[str]) -> Seen:
        table = torch.stack([self.rows[digest] for digest in digests])
        features, *stages = table.split(self.widths, dim=1)
        return Seen(features, tuple(stages))


def known_digests(source: FeatureSource) -> Collection[str]:
    """Return the digests of the pictures whose features are in the cache, of whatever data."""
    return _load(source.file()).rows.keys()


def features_of(
    source: FeatureSource, parts: Sequence[ImageSet], track: Track
) -> tuple[list[Seen], int]:
    """Return what the network sees in the pictures of each part, and how many were computed.

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
        wanted |= {d: (part, i) for i, d in enumerate(part.digests) if d not in known.rows}
    digests = list(wanted)
    batches = [digests[i : i + BATCH] for i in range(0, len(digests), BATCH)]
    saved, wait = time.monotonic(), SAVE_SECONDS
    for batch in track(batches, len(batches), tr("features")):
        images = torch.stack([part.images[i] for part, i in map(wanted.__getitem__, batch)])
        rows = _compute(source, images)
        known.widths = [row.shape[1] for row in rows]
        known.rows |= zip(batch, torch.cat(rows, dim=1), strict=True)
        if time.monotonic() - saved > wait:
            began = time.monotonic()
            _save(source.file(), known)
            saved = time.monotonic()
            wait = max(SAVE_SECONDS, (saved - began) / MAX_COST)
    if digests:
        _save(source.file(), known)
    return [known.seen(part.digests) for part in parts], len(digests)


def _compute(source: FeatureSource, images: Tensor) -> list[Tensor]:
    """Return the input (B, F) of the network's last layer, then what each stage sees, (B, C)."""
    model, runtime = source.model, source.runtime
    with eval_mode(model), torch.inference_mode(), runtime.autocast(), watched(model) as sight:
        model(source.preprocess.normalize(images.to(runtime.device)))
    assert sight.features is not None
    rows = [x.float().cpu() for x in (sight.features, *sight.stages())]
    if not all(row.isfinite().all() for row in rows):
        raise DataError("the network's features are not finite; its weights are unusable")
    return rows


def _load(file: Path | None) -> _Known:
    """Return what is kept; a damaged cache is no reason to fail, only to compute again."""
    nothing = _Known({}, [])
    if file is None or not file.exists():
        return nothing
    try:
        tensors, about = load_tensors(file)
        names = bytes(tensors["digests"].numpy()).hex()
        width = 2 * DIGEST_BYTES
        digests = [names[i : i + width] for i in range(0, len(names), width)]
        rows = dict(zip(digests, tensors["rows"], strict=True))
        widths = about["widths"]
        return _Known(rows, widths) if sum(widths) == tensors["rows"].shape[1] else nothing
    except (DataError, StorageError, KeyError, ValueError, TypeError):
        return nothing


def _save(file: Path | None, known: _Known) -> None:
    """Keep features for the next time; a cache that cannot be written is none."""
    if file is None:
        return
    other = _load(file)  # another process may have saved other pictures meanwhile
    if other.widths == known.widths:
        known.rows = other.rows | known.rows
    names = bytearray.fromhex("".join(known.rows))
    tensors = {
        "digests": torch.frombuffer(names, dtype=torch.uint8).clone(),
        "rows": torch.stack(list(known.rows.values())),
    }
    try:
        make_folder(file.parent)
        save_tensors(file, tensors, {"kind": "nunbit features", "widths": known.widths})
    except OSError:
        return
