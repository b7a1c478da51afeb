"""One black picture through a network, to see whether its layers fit, and which one does not."""

from typing import Any

import torch
from torch import Tensor, nn

from nunbit.errors import UsageError
from nunbit.language import tr
from nunbit.models.mode import eval_mode

# What layers raise for an input that they cannot take; a missing attribute is a removed layer.
FAULTS = (RuntimeError, ValueError, TypeError, AttributeError, LookupError, AssertionError)
Shape = tuple[int, ...]


def dry_run(model: nn.Module, input_shape: Shape) -> Any:
    """Return what a network gives for one black picture in eval mode; the network is unchanged.

    Args:
        model: any network.
        input_shape: (C, H, W) of the picture; the batch of one is added.

    Raises:
        UsageError: a layer that does not fit, with the shape that it needs and the one it is given.
    """
    require_shape(input_shape)
    names = {module: name or type(model).__name__ for name, module in model.named_modules()}
    running: list[tuple[nn.Module, Shape]] = []  # the modules being called, outermost first

    def enter(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        is_tensor = bool(inputs) and isinstance(inputs[0], Tensor)
        running.append((module, tuple(inputs[0].shape) if is_tensor else ()))

    def leave(_module: nn.Module, _inputs: Any, _output: Any) -> None:
        running.pop()

    hooks = [module.register_forward_pre_hook(enter) for module in names]
    hooks += [module.register_forward_hook(leave) for module in names]
    first = next((p for p in model.parameters() if p.is_floating_point()), torch.zeros(()))
    try:
        # Not inference_mode: what a network caches must stay trainable.
        with eval_mode(model), torch.no_grad():
            return model(first.new_zeros(1, *input_shape))
    except FAULTS as error:
        module, given = running[-1] if running else (model, input_shape)
        raise UsageError(_explain(module, names[module], given, error)) from error
    finally:
        for hook in hooks:
            hook.remove()


def require_classes(model: nn.Module, input_shape: Shape, num_classes: int) -> None:
    """Refuse a network whose output is not one logit per class.

    Args:
        model: any network.
        input_shape: (C, H, W) of one picture.
        num_classes: K.

    Raises:
        UsageError: with the shape that it gives and the one that is needed.
    """
    output = dry_run(model, input_shape)
    shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
    if shape != (1, num_classes):
        raise UsageError(
            "the network gives {shape} for one picture, needed (1, {num_classes}): one "
            "output a class; try reset_head(model, {num_classes})",
            shape=shape,
            num_classes=num_classes,
        )


def require_shape(shape: Shape) -> None:
    """Refuse what is no shape of one picture.

    Raises:
        UsageError: not whole numbers from 1.
    """
    is_shape = isinstance(shape, tuple) and all(type(side) is int and side > 0 for side in shape)
    if not shape or not is_shape:
        raise UsageError(
            "input_shape is {shape!r}; allowed: (C, H, W), such as (3, 224, 224)", shape=shape
        )


def _explain(module: nn.Module, name: str, given: Shape, error: Exception) -> str:
    kind = type(module).__name__
    where = name if name == kind else f"{name} ({kind})"
    axis, needed = _needed(module)
    if needed and (len(given) < abs(axis) or given[axis] != needed):
        wanted = f"(*, {needed}{', *' * (-1 - axis)})"
        return tr(
            "{where} needs {wanted} and is given {given}", where=where, wanted=wanted, given=given
        )
    reason = str(error).split("\n")[0][:200]
    hint = tr("; put nn.Identity() there") if isinstance(error, AttributeError) else ""
    return tr(
        "{where}, given {given}: {reason}{hint}", where=where, given=given, reason=reason, hint=hint
    )


def _needed(module: nn.Module) -> tuple[int, int]:
    """Return an axis, counted from the end, and the size that it must have; 0 is any."""
    if isinstance(module, nn.Linear):
        return -1, module.in_features
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        return -3, module.in_channels
    if isinstance(module, nn.BatchNorm2d):
        return -3, module.num_features
    if isinstance(module, nn.LayerNorm):
        return -1, module.normalized_shape[-1]
    return -1, 0
