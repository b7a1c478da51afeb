"""Logits of every picture, once, in eval mode: what all measuring starts from."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nunbit.data.preprocess import Preprocess
from nunbit.data.rows import Images, Stoppable, batches, collect_rows
from nunbit.errors import DivergedError
from nunbit.models.mode import eval_mode
from nunbit.models.stages import watched
from nunbit.runtime import Runtime

Views = Literal["one", "mirror", "shift", "both"]
VIEW_COUNT = {"one": 1, "mirror": 2, "shift": 3, "both": 6}
SHIFT = 1  # pixels
INPUT_BYTES = 256 << 20  # float32; 256 pictures fit up to 295 pixels, and 21 of 1,024


@dataclass(frozen=True)
class Outputs:
    """What a network says of N pictures, and what its stages saw; float32 on the CPU."""

    logits: Tensor
    """(N, K)."""
    stages: tuple[Tensor, ...] = ()
    """(N, C) each, from the input to the output; see `models.stages`. Empty if not asked for."""

    def cooled(self, temperature: float) -> "Outputs":
        """Return the same with logits divided by a temperature."""
        return replace(self, logits=self.logits / temperature)


def collect_logits(
    model: nn.Module,
    images: Images | Stoppable,
    preprocess: Preprocess,
    runtime: Runtime,
    batch_size: int,
    views: Views = "one",
) -> Tensor:
    """Return logits (N, K) as float32 on the CPU, in the order of the pictures.

    Args:
        model: on `runtime.device`; unchanged afterwards.
        images: uint8 (N, H, W, C) on the CPU, in memory or mapped.
        preprocess: the one that the network was trained with.
        runtime: where and how to compute.
        batch_size: most pictures per forward pass; see `inputs`.
        views: which views of a picture are averaged; "one" is the picture itself.

    Raises:
        DivergedError: outputs that are not finite, which argmax would call class 0.
    """

    def mean_over_views(x: Tensor) -> Tensor:
        return torch.stack([model(view).float() for view in _views(x, views)]).mean(0)

    with eval_mode(model), torch.inference_mode(), runtime.autocast():
        shown = inputs(images, preprocess, runtime, batch_size)
        (logits,) = collect_rows(len(images), ([mean_over_views(x)] for x in shown))
    return _finite(logits)


def collect_outputs(
    model: nn.Module,
    images: Images | Stoppable,
    preprocess: Preprocess,
    runtime: Runtime,
    batch_size: int,
) -> Outputs:
    """Return logits of one view with what the stages saw; otherwise as `collect_logits`."""
    with (
        eval_mode(model),
        torch.inference_mode(),
        runtime.autocast(),
        watched(model) as sight,
    ):
        shown = inputs(images, preprocess, runtime, batch_size)
        # A generator is asked for one batch at a time, so that the sight is that batch's.
        found = ([model(x).float(), *(seen.float() for seen in sight.stages())] for x in shown)
        logits, *stages = collect_rows(len(images), found)
    return Outputs(_finite(logits), tuple(stages))


def inputs(
    images: Images | Stoppable, preprocess: Preprocess, runtime: Runtime, batch_size: int
) -> Iterator[Tensor]:
    """Yield float x (B, C, H, W), batch after batch, on the device.

    Args:
        images: uint8 (N, H, W, C) on the CPU, in memory or mapped.
        preprocess: the network's own.
        runtime: where to.
        batch_size: most pictures of a batch; no more than `INPUT_BYTES` are shown at once.
    """
    for batch in batches(images, fitting(images.shape, batch_size)):
        yield preprocess.normalize(batch.to(runtime.device))


def fitting(shape: torch.Size, batch_size: int) -> int:
    """Return how many pictures of a set (N, H, W, C) are shown at once: no more than asked for."""
    return min(batch_size, max(1, INPUT_BYTES // (4 * math.prod(shape[1:]))))


def _finite(logits_NK: Tensor) -> Tensor:
    if not logits_NK.isfinite().all():
        raise DivergedError("the network's outputs are not finite; its weights are unusable")
    return logits_NK


def _views(x: Tensor, views: Views) -> list[Tensor]:
    """Return views of pictures x (B, C, H, W) of the same shape.

    "mirror" adds the mirrored picture; "shift" the picture moved by a pixel up and left, and down
    and right; "both" these three and their mirror images (the six views of arXiv 2404.00498, 3.5,
    which gives the unmoved ones twice the weight of the others; here all count alike).
    """
    shown = [x]
    if views in ("shift", "both"):
        height, width = x.shape[2:]
        filled = "reflect" if min(height, width) > SHIFT else "replicate"
        padded = F.pad(x, (SHIFT,) * 4, filled)
        shown += [padded[:, :, i : i + height, i : i + width] for i in (0, 2 * SHIFT)]
    if views in ("mirror", "both"):
        shown += [view.flip(3) for view in shown]
    return shown
