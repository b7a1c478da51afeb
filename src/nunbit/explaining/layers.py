"""Which layers are worth a look: the one for Grad-CAM, and the first one with weights.

Shapes: N kernels or units, C channels, h and w pixels of a kernel.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nunbit.errors import UsageError, did_you_mean
from nunbit.explaining.trace import Trace
from nunbit.language import tr

WEIGHTED = ("conv", "linear")


@dataclass(frozen=True)
class CamLayer:
    """Where Grad-CAM looks, or why it cannot."""

    name: str = ""
    reason: str = ""


def cam_layer(model: nn.Module, found: Trace, wanted: str | None) -> CamLayer:
    """Choose the module whose maps Grad-CAM weighs: the last one with a convolution.

    Raises:
        UsageError: the wanted one does not exist or gives no maps.
    """
    names = dict(found.map_layers)
    if wanted is not None:
        if wanted not in names:
            raise UsageError(
                "no layer '{wanted}' with feature maps; {near}",
                wanted=wanted,
                near=_near(wanted, names),
            )
        return CamLayer(wanted)
    if not any(isinstance(module, nn.Conv2d) for module in model.modules()):
        return CamLayer(reason=tr("this network has no convolution, so that there are no maps"))
    if not names:
        return CamLayer(reason=tr("no layer gives maps of more than one pixel a side"))
    name, at = found.map_layers[-1]
    weighted = [i for i, step in enumerate(found.steps) if step.operation.role in WEIGHTED]
    after = sum(i > at for i in weighted)
    if 2 * after > len(weighted):
        return CamLayer(
            reason=tr(
                "after the last maps ('{name}') come {after} of {count} layers with weights, "
                "so that the maps say little of the classes; choose others with --layer",
                name=name,
                after=after,
                count=len(weighted),
            )
        )
    return CamLayer(name)


def first_weight(model: nn.Module, found: Trace) -> tuple[str, Tensor] | None:
    """Return the first layer's name and weights (N, C, h, w) if they can be looked at as pictures.

    A fully connected first layer has one weight a pixel: each hidden unit is a picture.
    """
    step = next((s for s in found.steps if s.operation.role in WEIGHTED), None)
    weight = getattr(model.get_submodule(step.name), "weight", None) if step else None
    if step is None or not isinstance(weight, Tensor):
        return None
    if weight.ndim == 2 and weight.shape[1] == torch.Size(found.picture).numel():
        weight = weight.unflatten(1, found.picture)
    is_visible = weight.ndim == 4 and max(weight.shape[2:]) > 1
    return (step.name, weight) if is_visible else None


def _near(wanted: str, names: Mapping[str, int]) -> str:
    return did_you_mean(wanted, names) if names else tr("there are none")
