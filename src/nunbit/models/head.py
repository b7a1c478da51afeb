"""The last layer of a network, whichever zoo it comes from."""

from typing import Any

import torch
from torch import nn

from nunbit.errors import UsageError
from nunbit.models.base import Network
from nunbit.models.dryrun import Shape, require_classes
from nunbit.models.mode import eval_mode
from nunbit.models.surgery import get, replace

WIDEST = 100_000  # classes, as in the model file


def find_head(model: nn.Module) -> str:
    """Return the dotted name of the layer that gives the logits.

    `replace(model, find_head(model), nn.Identity())` leaves a network that gives features.
    nunbit's and timm's networks name it; elsewhere it is the last linear layer or convolution that
    was registered, as in all classifiers of torchvision.

    Raises:
        UsageError: a network without such layers, or with several heads.
    """
    if isinstance(model, Network):
        return model.head_name
    facts: dict[str, Any] = getattr(model, "pretrained_cfg", None) or {}  # timm's
    head = facts.get("classifier")
    if isinstance(head, str):
        return head
    if head:
        raise UsageError(
            "{name} has several heads: {head}", name=type(model).__name__, head=", ".join(head)
        )
    last = ""
    for name, part in model.named_modules():
        if isinstance(part, nn.Linear | nn.Conv2d):
            last = name
    if not last:
        raise UsageError(
            "{name} has no linear layer and no convolution in it", name=type(model).__name__
        )
    return last


def coolable_head(model: nn.Module) -> nn.Linear | nn.Conv2d:
    """Return the last layer of a network whose probabilities can be calibrated.

    Raises:
        UsageError: the last layer is no linear layer and no convolution.
    """
    name = find_head(model)
    last: Any = get(model, name)
    if not isinstance(last, nn.Linear | nn.Conv2d):
        raise UsageError(
            "the last layer '{name}' is {kind}, no linear layer: its probabilities cannot be "
            "calibrated; set eval.max_error to 0",
            name=name,
            kind=type(last).__name__,
        )
    return last


def linear_head(model: nn.Module) -> nn.Linear:
    """Return the last layer of a network that logistic regression can fill.

    Raises:
        UsageError: the last layer is no linear layer with a bias.
    """
    name = find_head(model)
    last: Any = get(model, name)
    if not isinstance(last, nn.Linear) or last.bias is None:
        raise UsageError(
            "the last layer '{name}' is {kind}, no linear layer with a bias: set model.head to "
            "random, in finetune with --strategy full",
            name=name,
            kind=type(last).__name__,
        )
    return last


def require_coolable(model: nn.Module, input_shape: Shape) -> None:
    """Refuse a network whose logits would not follow the weights of its last layer.

    Which layer is the last is a guess for networks of one's own: it is the one registered last.

    Args:
        model: any network; unchanged afterwards, since halving and doubling are exact.
        input_shape: (C, H, W).

    Raises:
        UsageError: there is no such layer, or halving its weights does not halve the logits.
    """
    coolable_head(model)
    first = next(model.parameters())
    x = torch.randn(1, *input_shape, generator=torch.Generator().manual_seed(0)).to(first)
    with eval_mode(model), torch.no_grad():
        before = model(x)
        cool_head(model, 2.0)
        after = model(x)
        cool_head(model, 0.5)
    if not torch.allclose(after, before / 2, rtol=1e-3, atol=1e-6):
        raise UsageError(
            "the layer '{name}' was registered last and does not give the logits, so that "
            "probabilities cannot be calibrated; register the last layer last, or set "
            "eval.max_error to 0",
            name=find_head(model),
        )


@torch.no_grad()
def cool_head(model: nn.Module, temperature: float) -> None:
    """Divide the weights of the last layer, and so the logits, by a temperature.

    Raises:
        UsageError: the last layer is no linear layer and no convolution.
    """
    for parameter in coolable_head(model).parameters():
        parameter.div_(temperature)


def reset_head(model: nn.Module, num_classes: int, *, input_shape: Shape | None = None) -> None:
    """Replace the last layer by a new one with random weights for other classes.

    Args:
        model: a network of nunbit, timm, torchvision or one's own; it is changed.
        num_classes: outputs of the new layer, K.
        input_shape: (C, H, W); then the network must give (1, K) for such a picture.

    Raises:
        UsageError: a number of classes that cannot be, or a head that is not found or not last.
    """
    if type(num_classes) is not int or not 1 <= num_classes <= WIDEST:
        raise UsageError(
            "num_classes is {num_classes!r}; allowed: a whole number, 1 to {widest}",
            num_classes=num_classes,
            widest=WIDEST,
        )
    if isinstance(model, Network):
        model.reset_head(num_classes)
    elif callable(reset := getattr(model, "reset_classifier", None)) and not _is_inside(model):
        device = next(model.parameters()).device
        reset(num_classes)
        model.to(device)
    else:
        _replace_last(model, num_classes, input_shape)
        return
    if input_shape is not None:
        require_classes(model, input_shape, num_classes)


def _is_inside(model: Any) -> bool:
    """Return whether timm's method would also replace trained layers before the last one.

    In a head of several layers, as MetaFormer's, timm names the last, and resets all.
    """
    name = (getattr(model, "pretrained_cfg", None) or {}).get("classifier")
    if not isinstance(name, str) or not isinstance(last := get(model, name), nn.Linear | nn.Conv2d):
        return False
    whole = model.get_classifier()
    return isinstance(whole, nn.Module) and whole is not last


def _replace_last(model: nn.Module, num_classes: int, input_shape: Shape | None) -> None:
    """Replace the last layer by one like it with other outputs; torchvision has no method."""
    name = find_head(model)
    old = get(model, name)
    replace(model, name, _resized(old, num_classes))
    try:
        if input_shape is not None:
            require_classes(model, input_shape, num_classes)
    except UsageError as error:
        replace(model, name, old)
        raise UsageError(
            "'{name}' is not the last layer: {error}", name=name, error=error
        ) from error
    if hasattr(model, "num_classes"):
        model.num_classes = num_classes  # type: ignore[assignment]  # torchvision's plain number


def _resized(old: nn.Module, num_classes: int) -> nn.Module:
    """Return a new layer like the old one with other outputs, on the same device."""
    if isinstance(old, nn.Linear):
        new: nn.Module = nn.Linear(old.in_features, num_classes, old.bias is not None)
    else:
        assert isinstance(old, nn.Conv2d)  # SqueezeNet's: `find_head` returns one of the two
        sizes = (old.in_channels, num_classes, old.kernel_size, old.stride, old.padding)
        new = nn.Conv2d(*sizes, bias=old.bias is not None)  # type: ignore[arg-type]  # pairs
    return new.to(old.weight.device, old.weight.dtype)
