"""Where a training begins: the network and its first weights."""

import functools
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from nunbit.config import PRETRAINED, ModelConfig, RunConfig
from nunbit.data.augment import require_possible
from nunbit.data.loader import shrink
from nunbit.data.preprocess import Preprocess
from nunbit.data.splits import Dataset
from nunbit.errors import UsageError
from nunbit.language import tr
from nunbit.models.base import Network
from nunbit.models.catalog import find_entry
from nunbit.models.freeze import freeze
from nunbit.models.head import require_coolable, reset_head
from nunbit.models.init import initialize
from nunbit.models.mode import eval_mode
from nunbit.models.pretrained import Pretrained
from nunbit.models.registry import build_model, require_fit
from nunbit.runtime import Runtime, choose_runtime, limited_threads, multiplies_bf16, seeded
from nunbit.warmstart import load_own, own_card, own_preprocess, sha256_of
from nunbit.zoo import load_pretrained

PREPARE_PIXELS = 2000 * 32 * 32  # enough for second moments of patches: 500,000 of 2 x 2 pixels
PREPARE_PICTURES = 200  # at least, of whatever size


@dataclass(frozen=True)
class Start:
    """A network before its first update."""

    model: nn.Module
    origin: dict[str, str] | None
    """Name, licence, source, file and sha256 of pretrained weights; None for random ones."""
    built_for: tuple[int, int]
    """(height, width) of the pictures that it was built for; see `modelfile.built_for`."""


def preprocess_of(config: RunConfig) -> Preprocess | None:
    """Return how pictures must be shown to weights that were trained before; None for random ones.

    Another size than the weights were trained with is taken in proportion: the network sees the
    same part of the picture.

    Raises:
        UsageError: a network without pretrained weights, or pictures that these do not take.
    """
    if not config.model.weights:
        return None
    card = own_card(config.model)
    if card is not None:
        own = own_preprocess(config.model.weights, card)
    else:
        own = find_entry(config.model.name, _hash_of(config.model)).preprocess
    for name, asked, plain, taken in (
        ("channels", config.data.channels, 0, own.channels),
        ("resize", config.data.resize, "crop", own.resize),
    ):
        if asked not in (plain, taken):
            raise UsageError(
                "data.{name} is {asked}; the weights take {taken}",
                name=name,
                asked=asked,
                taken=taken,
            )
    return own.resized(config.data.size) if config.data.size else own


def _hash_of(model: ModelConfig) -> str:
    """Return the sha256 of a weights file, by which torchvision's are known; "" of any other."""
    if not model.name.startswith("torchvision:"):
        return ""
    try:
        info = os.stat(model.weights)
        is_file = stat.S_ISREG(info.st_mode)  # a FIFO would be waited for
        return _file_hash(model.weights, info.st_size, info.st_mtime_ns) if is_file else ""
    except OSError:  # reading it says what is wrong; or the word `pretrained`
        return ""


@functools.lru_cache(maxsize=8)
def _file_hash(path: str, _size: int, _mtime_ns: int) -> str:
    return sha256_of(Path(path))


def load_weights(config: RunConfig) -> Pretrained:
    """Return the network that the settings name, with weights that were trained before.

    Raises:
        MissingInputError: the weights cannot be had; the text says what to do.
        DataError: they are damaged, or of another network.
        UsageError: a model of nunbit's is another one than the settings say.
    """
    if own_card(config.model) is not None:
        return load_own(config.model)
    file = None if config.model.weights == PRETRAINED else Path(config.model.weights)
    return load_pretrained(config.model.name, file)


def build_start(config: RunConfig, dataset: Dataset, runtime: Runtime) -> Start:
    """Build the network that a run begins with, on its device.

    Raises:
        UsageError: settings that contradict each other.
        MissingInputError: pretrained weights that cannot be had; never replaced by random ones.
    """
    settings, classes, p = config.model, len(dataset.class_names), dataset.preprocess
    origin: dict[str, str] | None = None
    built_for = (p.height, p.width)
    with seeded(config.train.seed, "init"):
        if settings.weights:
            has_options = settings.args and own_card(settings) is None
            if has_options or settings.init != "own":
                raise UsageError("model.weights cannot be combined with options or model.init")
            pretrained = load_weights(config)
            model, origin = pretrained.module, pretrained.record()
            built_for = pretrained.built_for or built_for
            if pretrained.class_names != dataset.class_names:
                reset_head(model, classes)
            require_fit(settings.name, model, p.channels, (p.height, p.width))
        else:
            model = build_model(
                settings.name,
                num_classes=classes,
                in_channels=p.channels,
                image_size=built_for,
                args=settings.args,
            )
        if settings.init != "own":
            initialize(model, settings.init)
    if config.eval.max_error:  # refused before the training, not after it
        require_coolable(model, (p.channels, p.height, p.width))
    if settings.freeze:
        freeze(model, *(pattern.strip() for pattern in settings.freeze.split(",")))
    require_possible(config.data, p)
    if config.data.small_size:
        _require_size(model, p, config.data.small_size)
    if isinstance(model, Network) and model.needs_preparing and not settings.weights:
        with limited_threads(runtime.threads):
            model.prepare(_sample(dataset))
    model.to(runtime.device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs lack this form
    return Start(model, origin, built_for)


def _sample(dataset: Dataset) -> Tensor:
    """Return training pictures (B, C, H, W), from all over the split: it may be in order."""
    p = dataset.preprocess
    count = max(PREPARE_PICTURES, PREPARE_PIXELS // (p.height * p.width))
    stride = max(1, len(dataset.train) // count)
    return p.normalize(dataset.train.images[::stride][:count])


def _require_size(model: nn.Module, preprocess: Preprocess, side: int) -> None:
    """Refuse a first size that the network cannot take: many are for one size.

    Raises:
        UsageError: the network cannot take it.
    """
    p = preprocess
    try:
        with eval_mode(model), torch.no_grad():
            model(shrink(torch.zeros(1, p.channels, p.height, p.width), side))
    except (RuntimeError, ValueError, AssertionError) as error:
        raise UsageError(
            "the network cannot take pictures of {side} pixels: set data.small_size to 0", side=side
        ) from error


def resolved(config: RunConfig, runtime: Runtime) -> RunConfig:
    """Return the settings with what the machine chose, so that the run can be repeated."""
    train = replace(
        config.train,
        device=str(runtime.device),
        precision=runtime.precision,
        threads=runtime.threads,
    )
    return replace(config, train=train)


def machine_of(config: RunConfig, say: Callable[[str], None]) -> Runtime:
    """Return the machine as a run used it, or as it is where that is not there any more."""
    try:
        return choose_runtime(config.train)
    except UsageError as error:
        runtime = choose_runtime(replace(config.train, device="auto", precision="fp32"))
        if config.train.precision == "bf16" and multiplies_bf16(runtime.device):
            runtime = replace(runtime, precision="bf16")
        say(tr("{error}; computing in {describe}", error=error, describe=runtime.describe()))
        return runtime


def describe_start(config: RunConfig) -> str:
    """Say in words how a run begins and goes on; empty where it begins with random weights."""
    if not config.model.weights:
        return ""
    size = tr(" at {size} pixels", size=config.data.size) if config.data.size else ""
    words = f"{config.model.name}{size}, pretrained"
    if config.model.weights != PRETRAINED:
        words += f" ({Path(config.model.weights).name})"
    if config.model.head == "logistic":
        words += tr(
            "; last layer by logistic regression on its features, each class counting the same"
        )
    if config.train.epochs:
        is_balanced = config.train.class_weight == "balanced"
        layers = tr("all layers")
        if config.model.freeze:
            layers = tr("all layers but {frozen}", frozen=config.model.freeze)
        words += tr(
            "; then {epochs} epochs of {layers}, each {counted} counting the same",
            epochs=config.train.epochs,
            layers=layers,
            counted=tr("class") if is_balanced else tr("picture"),
        )
    return words
