"""Logits of every picture, once, in eval mode: what all measuring starts from."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from nunbit.data.preprocess import Preprocess
from nunbit.errors import DivergedError
from nunbit.models.stages import watched
from nunbit.runtime import Runtime


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


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[nn.Module]:
    """Use a network without dropout or batch statistics, then put every module back as it was."""
    modes = {module: module.training for module in model.modules()}
    try:
        yield model.eval()
    finally:
        for module, training in modes.items():
            module.training = training


def collect_logits(
    model: nn.Module, images: Tensor, preprocess: Preprocess, runtime: Runtime, batch_size: int
) -> Tensor:
    """Return logits (N, K) as float32 on the CPU, in the order of the pictures.

    Args:
        model: on `runtime.device`; unchanged afterwards.
        images: uint8 (N, H, W, C) on the CPU.
        preprocess: the one that the network was trained with.
        runtime: where and how to compute.
        batch_size: pictures per forward pass; the last pass takes what is left.

    Raises:
        DivergedError: outputs that are not finite, which argmax would call class 0.
    """
    return _collect(model, images.split(batch_size), preprocess, runtime, with_stages=False).logits


def collect_outputs(
    model: nn.Module, images: Tensor, preprocess: Preprocess, runtime: Runtime, batch_size: int
) -> Outputs:
    """Return logits with what the stages saw; otherwise as `collect_logits`."""
    return _collect(model, images.split(batch_size), preprocess, runtime, with_stages=True)


def _collect(
    model: nn.Module,
    batches: Iterable[Tensor],
    preprocess: Preprocess,
    runtime: Runtime,
    *,
    with_stages: bool,
) -> Outputs:
    logits, stages = [], []
    watching = watched(model) if with_stages else nullcontext()
    with eval_mode(model), torch.inference_mode(), runtime.autocast(), watching as sight:
        for batch in batches:
            x = preprocess.normalize(batch.to(runtime.device))
            logits.append(model(x).float().cpu())
            if sight is not None:
                stages.append([stage.float().cpu() for stage in sight.stages()])
    logits_NK = torch.cat(logits)
    if not logits_NK.isfinite().all():
        raise DivergedError("the network's outputs are not finite; its weights are unusable")
    return Outputs(logits_NK, tuple(map(torch.cat, zip(*stages, strict=True))))
