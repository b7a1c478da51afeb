"""What a network makes of pictures on the way to its logits: the maps of its stages, its features.

Shapes: B batch, C channels of a stage, F features.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from nunbit.models.head import find_head
from nunbit.models.surgery import get

WIDE = 512  # channels; statistics of wider stages take seconds and tell no more


@dataclass
class Sight:
    """What was seen in the last forward pass."""

    features: Tensor | None = None
    """(B, F), the input of the last layer."""
    maps: dict[str, Tensor] = field(default_factory=dict)
    """(B, C) by the stage's name: the mean of each channel over the picture."""

    def stages(self) -> tuple[Tensor, ...]:
        """Return the stages in the network's order, the narrowest where all are wide.

        A network without maps gives its features.
        """
        assert self.features is not None
        least = min((x.shape[1] for x in self.maps.values()), default=0)
        kept = [x for x in self.maps.values() if x.shape[1] <= max(WIDE, least)]
        return tuple(kept) or (self.features,)


def stage_names(model: nn.Module) -> list[str]:
    """Return the dotted names of a network's stages: its children, those of containers one by one.

    Layers without parameters (activations, poolings) and the last layer are left out.
    """
    head, names = find_head(model), []
    for name, child in model.named_children():
        inside = isinstance(child, nn.Sequential | nn.ModuleList)
        parts = [f"{name}.{n}" for n, _ in child.named_children()] if inside else [name]
        names += [part for part in parts if any(True for _ in get(model, part).parameters())]
    return [name for name in names if head != name and not head.startswith(f"{name}.")]


@contextmanager
def watched(model: nn.Module) -> Iterator[Sight]:
    """Keep what the stages and the last layer of a network see while the block runs it.

    Other threads may run the same network meanwhile, as those of a server do.
    """
    sight, is_nhwc, thread = Sight(), _is_nhwc(model), threading.get_ident()

    def keep_features(_head: nn.Module, inputs: tuple[Any, ...]) -> None:
        if threading.get_ident() == thread:
            sight.features = _pooled(inputs[0]) if inputs[0].ndim == 4 else inputs[0].flatten(1)

    def keep_maps(name: str) -> Callable[..., None]:
        def keep(_stage: nn.Module, _inputs: object, output: Any) -> None:
            is_map = isinstance(output, Tensor) and output.ndim in (3, 4)
            if is_map and threading.get_ident() == thread:
                sight.maps[name] = _pooled(output, is_nhwc=is_nhwc)

        return keep

    hooks = [get(model, find_head(model)).register_forward_pre_hook(keep_features)]
    hooks += [
        get(model, name).register_forward_hook(keep_maps(name)) for name in stage_names(model)
    ]
    try:
        yield sight
    finally:
        for hook in hooks:
            hook.remove()


def _is_nhwc(model: nn.Module) -> bool:
    """Return whether the maps of a network are (B, H, W, C): Swin's are; timm says it of others."""
    is_swin = type(model).__module__.endswith("swin_transformer")  # timm's and torchvision's
    return is_swin or str(getattr(model, "output_fmt", "")).endswith("NHWC")


def _pooled(x: Tensor, *, is_nhwc: bool = False) -> Tensor:
    """Return the mean (B, C) of maps (B, C, H, W) over pixels, or of (B, T, C) over tokens."""
    pixels = (1, 2) if is_nhwc else (2, 3)
    return x.float().mean(pixels if x.ndim == 4 else 1)
