"""One change to the children of one module of a network, done whole or not at all."""

from collections import Counter
from collections.abc import Mapping

from torch import nn

from nunbit.errors import UsageError
from nunbit.language import tr
from nunbit.models.dryrun import Shape, dry_run, require_shape

Children = Mapping[str, nn.Module | None]


def change(
    model: nn.Module,
    owner: nn.Module,
    children: Children,
    new: nn.Module | None,
    input_shape: Shape | None,
) -> None:
    """Give a module other children, and take that back unless the network is sound with them.

    Args:
        model: the whole network.
        owner: the part of it whose children change.
        children: all of its children by name, in their order.
        new: the one that was not there before; it takes over the network's mode.
        input_shape: (C, H, W) of a picture that the network must still take; None checks nothing.

    Raises:
        UsageError: what is new is no layer, or is in the network already; the owner is at several
            places; or a layer no longer fits.
    """
    if input_shape is not None:
        require_shape(input_shape)
    if new is not None:
        _require_layer(owner, new)
    names = [name for name, part in _all_parts(model) if part is owner]
    if len(names) > 1:
        both = _both(names)
        raise UsageError("{both} are one object: a change of one would change both", both=both)
    before = dict(owner._modules)
    try:
        # `_modules` is where nn.Module keeps its children: only there can they change their order.
        _set(owner, children)
        if new is not None:
            _require_one_place(model, new)
            new.train(model.training)
        if input_shape is not None:
            dry_run(model, input_shape)
    except UsageError as error:
        _set(owner, before)
        if input_shape is not None:
            _require_sound(model, input_shape)
        raise UsageError("with this change {error}; nothing was changed", error=error) from error
    except BaseException:
        _set(owner, before)
        raise


def _set(owner: nn.Module, children: Children) -> None:
    owner._modules.clear()
    owner._modules.update(children)


def _require_layer(owner: nn.Module, layer: object) -> None:
    """Refuse what is no layer, and what would contain itself."""
    if not isinstance(layer, nn.Module):
        what = repr(layer)[:80]
        if isinstance(layer, type):
            what = tr("{name} without ()", name=layer.__name__)
        raise UsageError("{what} is no layer; pass an nn.Module such as nn.Identity()", what=what)
    if any(part is owner for part in layer.modules()):
        raise UsageError(
            "the new {name} contains the place that it goes to", name=type(layer).__name__
        )


def _require_sound(model: nn.Module, input_shape: Shape) -> None:
    """Say so if it was not the change that made the network fail."""
    try:
        dry_run(model, input_shape)
    except UsageError as error:
        raise UsageError(
            "the network did not take {input_shape} before the change either: {error}",
            input_shape=input_shape,
            error=error,
        ) from error


def _require_one_place(model: nn.Module, layer: nn.Module) -> None:
    """Refuse a new layer with parts that the network has elsewhere: they would share weights."""
    names_of: dict[nn.Module, list[str]] = {}
    for name, part in _all_parts(model):
        names_of.setdefault(part, []).append(name)
    for part, count in Counter(part for _, part in _all_parts(layer)).items():
        if len(names_of[part]) > count:
            raise UsageError(
                "one {name} would be at {places} and share its weights: pass a new one, or "
                "copy.deepcopy(it)",
                name=type(part).__name__,
                places=_both(names_of[part]),
            )


def _both(names: list[str]) -> str:
    return tr("'{first}' and '{second}'", first=names[0], second=names[1])


def _all_parts(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """Return all dotted names with their modules, one module under several names included."""
    return list(model.named_modules(remove_duplicate=False))
