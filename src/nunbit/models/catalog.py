"""What timm and torchvision say of their pretrained weights: preprocessing, licence, address."""

import difflib
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from nunbit.data.preprocess import Preprocess
from nunbit.errors import UsageError
from nunbit.language import tr

RESIZES = {"center": "crop", "squash": "squash"}  # timm's word: ours
HUB_FILE = "model.safetensors"
NOT_STATED = "not stated"
# With weights these two of torchvision change the statistics of their input from ImageNet's, which
# their transforms give, to these (`transform_input`); built without weights they do not.
OWN_STATISTICS = {"googlenet": (0.5, 0.5), "inception_v3": (0.5, 0.5)}


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One set of pretrained weights of a zoo."""

    model: str
    """Name for `build_model`, e.g. timm:resnet50."""
    tag: str
    """Which of the network's weights, e.g. a1_in1k."""
    num_classes: int
    preprocess: Preprocess
    licence: str
    repository: str
    """On the hub, with `HUB_FILE` in it; "" where there is a `url` instead."""
    url: str

    @property
    def source(self) -> str:
        """Where the weights come from."""
        where = f"https://huggingface.co/{self.repository}" if self.repository else self.url
        return f"{self.model}.{self.tag}, {where}"


def find_entry(name: str, sha256: str = "") -> Entry:
    """Return the entry of pretrained weights.

    Args:
        name: timm:NAME or torchvision:NAME for the zoo's first choice, or with .TAG for another.
        sha256: of a weights file; torchvision's addresses hold the first digits of theirs, so that
            the file decides the tag where `name` does not.

    Raises:
        UsageError: no such zoo, network or tag, none with weights, or a preprocessing that nunbit
            cannot do.
    """
    zoo, _, inner = name.partition(":")
    inner, _, tag = inner.partition(".")
    if zoo == "timm":
        return _timm_entry(inner, tag)
    if zoo == "torchvision":
        return _torchvision_entry(inner, tag, sha256)
    raise UsageError(
        "'{name}' has no pretrained weights; allowed: timm:NAME, torchvision:NAME, or as "
        "model.weights a run or model file of nunbit's (`nunbit import` makes one)",
        name=name,
    )


def _timm_entry(name: str, tag: str) -> Entry:
    import timm

    known = timm.list_models()
    if name not in known:
        raise UsageError("timm has no network '{name}'; {near}", name=name, near=_near(name, known))
    full = f"{name}.{tag}" if tag else name
    with_weights = timm.list_pretrained(f"{name}.*")
    if not with_weights or (tag and full not in with_weights):
        raise UsageError(
            "timm has no weights '{full}'; {near}", full=full, near=_near(full, with_weights)
        )
    facts = timm.get_pretrained_cfg(full)
    assert facts is not None  # it is in the list
    return Entry(
        model=f"timm:{name}",
        tag=facts.tag or "",
        num_classes=facts.num_classes,
        preprocess=_timm_preprocess(full, facts),
        licence=facts.license or NOT_STATED,
        repository=facts.hf_hub_id or "",
        url=str(facts.url or ""),
    )


def _timm_preprocess(name: str, facts: Any) -> Preprocess:
    channels, height, width = facts.input_size
    part, mode = facts.crop_pct, facts.crop_mode
    side = math.floor(height / part)  # as timm's transforms_imagenet_eval rounds
    if mode not in RESIZES or (height != width and (mode, part) != ("squash", 1.0)):
        raise UsageError(
            "timm:{name} resizes by '{mode}' to {part}, which nunbit cannot do",
            name=name,
            mode=mode,
            part=part,
        )
    return Preprocess(
        height=height,
        width=width,
        channels=channels,
        resize=RESIZES[mode],  # type: ignore[arg-type]  # one of our three words
        mean=tuple(facts.mean),
        std=tuple(facts.std),
        interpolation=facts.interpolation,
        resize_to=side if height == width else 0,
    )


def _torchvision_entry(name: str, tag: str, sha256: str) -> Entry:
    from torchvision import models as zoo

    known = zoo.list_models(module=zoo)
    if name not in known:
        raise UsageError(
            "torchvision has no network '{name}'; {near}", name=name, near=_near(name, known)
        )
    kinds = zoo.get_model_weights(name)
    weights = {w.name: w for w in kinds if w.meta.get("categories")}
    by_hash = [w.name for w in weights.values() if sha256 and _hash_in(w.url) == sha256[:8]]
    tag = tag or next(iter(by_hash), kinds.DEFAULT.name)
    if tag not in weights:
        raise UsageError(
            "torchvision has no weights '{name}.{tag}'; {near}",
            name=name,
            tag=tag,
            near=_near(tag, weights),
        )
    chosen = weights[tag]
    data = chosen.transforms()
    preprocess = Preprocess(
        height=data.crop_size[0],
        width=data.crop_size[0],
        channels=3,
        resize="crop",
        mean=tuple(data.mean),
        std=tuple(data.std),
        interpolation=data.interpolation.value,
        resize_to=data.resize_size[0],
    )
    if name in OWN_STATISTICS:
        mean, std = OWN_STATISTICS[name]
        preprocess = replace(preprocess, mean=(mean,) * 3, std=(std,) * 3)
    return Entry(
        model=f"torchvision:{name}",
        tag=tag,
        num_classes=len(chosen.meta["categories"]),
        preprocess=preprocess,
        licence=chosen.meta.get("license", NOT_STATED),
        repository="",
        url=chosen.url,
    )


def _hash_in(url: str) -> str:
    """Return the first eight digits of the sha256 that torchvision writes into its addresses."""
    found = re.search(r"-([0-9a-f]{8})\.pth$", url)
    return found[1] if found else "unknown"


def _near(name: str, words: Iterable[str]) -> str:
    """Name the nearest of words that are too many to list."""
    near = difflib.get_close_matches(name, words, n=3, cutoff=0)
    return tr("near: {near}", near=", ".join(near) or tr("none"))
