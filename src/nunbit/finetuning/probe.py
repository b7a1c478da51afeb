"""What a data set costs a pretrained network on this machine: a few pictures, timed."""

import time
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np
import torch

from nunbit.config import RunConfig
from nunbit.data.decode import BadPictureError, quiet_pillow
from nunbit.data.pictures import Item, Source, as_image
from nunbit.data.preprocess import Preprocess
from nunbit.data.stats import digests_of
from nunbit.errors import DataError, UsageError
from nunbit.features import FeatureSource, known_digests
from nunbit.models.head import linear_head, reset_head
from nunbit.models.pretrained import Pretrained
from nunbit.models.registry import require_fit
from nunbit.runtime import Runtime, choose_runtime, limited_threads, seeded
from nunbit.start import load_weights, preprocess_of
from nunbit.training.tempo import LEAST_GAIN, Precision, is_open

SIZES = (224, 192, 160, 128, 96)  # pixels; smaller ones than the weights' own cost accuracy
PROBE_PICTURES = 16
HEAD_SECONDS = 5.0  # logistic regression, measuring and writing, for some thousand pictures
RESERVE = 0.85  # of the budget that estimates may fill


@dataclass(frozen=True)
class Probe:
    """What a data set costs on this machine at one size."""

    size: int
    """In pixels."""
    forward_seconds: float
    """Of one picture through the network."""
    fresh: int
    """Pictures whose features are not in the cache, about."""
    seconds: float
    """Estimate for reading, features, the last layer and measuring."""
    precision: Precision
    """In which the network is faster; features of another one are other features."""


def count_of(source: Source) -> int:
    """Return the number of pictures of all parts."""
    return sum(map(len, source.parts.values()))


def largest_that_fits(
    config: RunConfig, sizes: list[int], source: Source, sample: list[Item], limit_seconds: float
) -> Probe:
    """Probe sizes from the largest on; return the first whose features fit the limit.

    Raises:
        UsageError: none does.
    """
    runtime, weights, own = (
        choose_runtime(config.train),
        load_weights(config),
        preprocess_of(config),
    )
    assert own is not None
    if config.model.head == "logistic":  # refused before anything is measured
        with seeded(config.train.seed, "init"):
            reset_head(weights.module, len(source.class_names))  # weights may come without one
        linear_head(weights.module)
    if config.data.size:
        require_fit(config.model.name, weights.module, own.channels, (own.height, own.width))
    else:
        sizes = [size for size in sizes if _takes(weights, own.resized(size))] or [own.height]
    for size in sizes:
        preprocess = own if size == own.height else own.resized(size)
        features = FeatureSource(weights.module, preprocess, runtime, weights.name, weights.sha256)
        probe = _probe(features, source, sample)
        if is_open(config.train, runtime):
            short = replace(features, runtime=replace(runtime, precision="bf16"))
            probe = _faster(probe, _probe(short, source, sample))
        if probe.seconds <= limit_seconds or config.data.size:
            return probe
    raise UsageError(
        "the pictures need about {seconds:.0f} s even at {size} pixels; give a "
        "budget of {least:.0f}s or more",
        seconds=probe.seconds,
        size=size,
        least=1.2 * probe.seconds / RESERVE,
    )


def _takes(weights: Pretrained, preprocess: Preprocess) -> bool:
    """Return whether a network takes pictures of a size: many transformers take one only."""
    size = (preprocess.height, preprocess.width)
    try:
        require_fit("", weights.module, preprocess.channels, size)
    except UsageError:
        return False
    return True


def _faster(exact: Probe, short: Probe) -> Probe:
    """Return the probe of the precision to take: what is known already is faster than any."""
    if exact.fresh != short.fresh:
        return min(exact, short, key=lambda probe: probe.fresh)
    return short if exact.forward_seconds > LEAST_GAIN * short.forward_seconds else exact


def sizes_of(own: Preprocess, items: list[Item]) -> list[int]:
    """Return the sizes worth trying, largest first: enlarging a picture adds cost but no detail."""
    with quiet_pillow():
        sides = sorted(max(as_image(item, own).size) for item in items)
    most = max(sides[len(sides) // 2], SIZES[-1])
    fitting = [size for size in (own.height, *SIZES) if size <= min(most, own.height)]
    return list(dict.fromkeys(fitting)) or [own.height]


def sample_of(source: Source, preprocess: Preprocess) -> list[Item]:
    """Return pictures from all over a source that can be read; the others are named when all are.

    Raises:
        DataError: there is none.
    """
    parts = source.parts.values()
    step = max(1, -(-count_of(source) // PROBE_PICTURES))
    spread = (part.items[i] for part in parts for i in range(0, len(part), step))
    every = chain.from_iterable(part.items for part in parts)  # where many cannot be read
    found: list[Item] = []
    with quiet_pillow():
        for item in chain(spread, every):
            with suppress(BadPictureError):
                as_image(item, preprocess)
                found.append(item)
            if len(found) == PROBE_PICTURES:
                break
    if not found:
        raise DataError("no picture of {spec} can be read", spec=source.spec)
    return found


def _probe(features: FeatureSource, source: Source, items: list[Item]) -> Probe:
    """Time decoding and the network on some pictures of a source."""
    preprocess, runtime = features.preprocess, features.runtime
    start = time.perf_counter()
    with quiet_pillow():
        pixels = [preprocess.to_pixels(as_image(item, preprocess)) for item in items]
    decode = (time.perf_counter() - start) / len(items) / runtime.threads
    x = torch.zeros(PROBE_PICTURES, preprocess.channels, preprocess.height, preprocess.width)
    model = features.model.to(memory_format=torch.channels_last)
    forward = _forward_seconds(model, x, runtime) / len(x)
    pictures, known = count_of(source), known_digests(features)
    share = sum(digest not in known for digest in digests_of(np.stack(pixels))) / len(items)
    fresh = max(round(share * pictures), pictures - len(known))  # those known may be of other data
    seconds = pictures * decode + fresh * forward + HEAD_SECONDS
    return Probe(preprocess.height, forward, fresh, seconds, runtime.precision)


def _forward_seconds(model: torch.nn.Module, x: torch.Tensor, runtime: Runtime) -> float:
    """Return the seconds of one forward pass: the smaller of two, after one to warm up."""
    x = x.to(runtime.device, memory_format=torch.channels_last)
    model.to(runtime.device)
    seconds = []
    with limited_threads(runtime.threads), torch.inference_mode(), runtime.autocast():
        for _ in range(3):
            start = time.perf_counter()
            model(x).sum().item()  # waits for a GPU
            seconds.append(time.perf_counter() - start)
    return min(seconds[1:])
