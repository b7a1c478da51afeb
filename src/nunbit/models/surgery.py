"""Reading and changing the parts of a finished network by their dotted names.

Every change happens at exactly one place or not at all. With `input_shape` one black picture goes
through the changed network: if a layer no longer fits, the change is taken back and the error names
the layer with the shape that it needs and the one that it is given.

Build the optimizer after the last change: an older one goes on updating what was thrown away.
"""

from torch import nn

from nunbit.errors import UsageError, nearest
from nunbit.language import tr
from nunbit.models.change import Children, change
from nunbit.models.dryrun import Shape

# Their children are called one after the other; anywhere else, forward() decides.
ORDERED = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


def get(model: nn.Module, name: str) -> nn.Module:
    """Return a part of a network, e.g. `get(alexnet, "classifier.6")`; "" is the network itself.

    Raises:
        UsageError: no such part; the nearest name is given.
    """
    try:
        return model.get_submodule(name)
    except AttributeError:
        names = [known for known, _ in model.named_modules() if known]
        first = ", ".join(known for known in names if "." not in known)  # of hundreds perhaps
        near, other = nearest(name, names), tr("allowed: {words}", words=first)
        raise UsageError(
            "{name} has no layer '{layer}'; {nearest}",
            name=type(model).__name__,
            layer=name,
            nearest=tr("did you mean '{near}'?", near=near) if near else other,
        ) from None


def replace(
    model: nn.Module, name: str, layer: nn.Module, *, input_shape: Shape | None = None
) -> None:
    """Put another layer in the place of one.

    Args:
        model: the network; it is changed.
        name: dotted name of the part that goes.
        layer: what comes; it takes over the network's mode (train or eval).
        input_shape: (C, H, W) of a picture that the network must still take; None checks nothing.

    Raises:
        UsageError: no such part, or the layer does not fit; the network is as it was.
    """
    owner, leaf = _place(model, name)
    change(model, owner, {**owner._modules, leaf: layer}, layer, input_shape)


def remove(model: nn.Module, name: str, *, input_shape: Shape | None = None) -> nn.Module:
    """Take a layer out and return it; in a numbered container later layers move up by one.

    Args:
        model: the network; it is changed.
        name: dotted name of the part that goes.
        input_shape: as in `replace`; needed where only forward() knows whether the part is used.

    Raises:
        UsageError: no such part, the only one of its container, or one that the network needs; the
            network is as it was.
    """
    owner, leaf = _place(model, name)
    rest: Children = {key: child for key, child in owner._modules.items() if key != leaf}
    if isinstance(owner, ORDERED):
        if not rest:
            raise UsageError("'{name}' is all there is; put nn.Identity() in its place", name=name)
        if _has_numbers(owner):
            rest = {str(i): child for i, child in enumerate(rest.values())}
    elif input_shape is None:
        raise UsageError(
            "forward() may use '{name}': add input_shape, or put nn.Identity() there", name=name
        )
    removed = get(model, name)
    change(model, owner, rest, None, input_shape)
    return removed


def insert(
    model: nn.Module,
    layer: nn.Module,
    *,
    after: str,
    name: str = "",
    input_shape: Shape | None = None,
) -> str:
    """Put a new layer behind an existing one of a Sequential, ModuleList or ModuleDict.

    In a numbered container later layers move down by one: what was features.12 is features.13.

    Args:
        model: the network; it is changed.
        layer: what comes; it takes over the network's mode (train or eval).
        after: dotted name of the layer before it.
        name: its own name, where the container's layers have names; numbers are given.
        input_shape: as in `replace`.

    Returns:
        The new layer's dotted name.

    Raises:
        UsageError: no such place, no order to insert into, a name that is taken or missing, or a
            layer that does not fit; the network is as it was.
    """
    owner, leaf = _place(model, after)
    if not isinstance(owner, ORDERED):
        raise UsageError(
            "forward() of {name} decides what follows '{after}': replace it by "
            "nn.Sequential(it, the new layer)",
            name=type(owner).__name__,
            after=after,
        )
    own = _add(model, owner, layer, (list(owner._modules).index(leaf) + 1, name), input_shape)
    return f"{after.removesuffix(leaf)}{own}"


def append(
    model: nn.Module,
    container: str,
    layer: nn.Module,
    *,
    name: str = "",
    input_shape: Shape | None = None,
) -> str:
    """Put a new layer at the end of a container; see `insert`.

    Args:
        model: the network; it is changed.
        container: dotted name of a Sequential, ModuleList or ModuleDict; "" where the network is
            one itself.
        layer: what comes.
        name: its own name, where the container's layers have names.
        input_shape: as in `replace`.

    Returns:
        The new layer's dotted name.

    Raises:
        UsageError: as `insert`.
    """
    owner = get(model, container)
    if not isinstance(owner, ORDERED):
        kind = type(owner).__name__
        raise UsageError(
            "'{container}' is a {kind}; allowed: Sequential, ModuleList, ModuleDict",
            container=container,
            kind=kind,
        )
    own = _add(model, owner, layer, (len(owner._modules), name), input_shape)
    return f"{container}.{own}" if container else own


def rename(model: nn.Module, name: str, new_name: str, *, input_shape: Shape | None = None) -> None:
    """Give a layer another name in the same place: saved weights have the new one.

    Args:
        model: the network; it is changed.
        name: dotted name.
        new_name: the last part of the new name.
        input_shape: as in `replace`; needed where only forward() knows whether the name is used.

    Raises:
        UsageError: no such part, a name that is taken, or one that the network's forward() uses;
            the network is as it was.
    """
    owner, leaf = _place(model, name)
    if isinstance(owner, nn.ModuleList):
        raise UsageError(
            "'{name}' is in a ModuleList: its layers have numbers, not names", name=name
        )
    if not isinstance(owner, ORDERED) and input_shape is None:
        raise UsageError("forward() may use '{name}': add input_shape to check it", name=name)
    _require_free(owner, new_name)
    children = {new_name if k == leaf else k: child for k, child in owner._modules.items()}
    change(model, owner, children, None, input_shape)


def _add(
    model: nn.Module,
    owner: nn.Module,
    layer: nn.Module,
    place: tuple[int, str],
    input_shape: Shape | None,
) -> str:
    """Add a layer at a position of a container, under a name of its own or "" for a number."""
    position, name = place
    pairs = list(owner._modules.items())
    if _has_numbers(owner):
        if name:
            raise UsageError(
                "the layers there have numbers; leave out the name '{name}'", name=name
            )
        name = str(position)
    else:
        _require_free(owner, name)
    pairs.insert(position, (name, layer))
    if _has_numbers(owner):
        pairs = [(str(i), child) for i, (_, child) in enumerate(pairs)]
    change(model, owner, dict(pairs), layer, input_shape)
    return name


def _place(model: nn.Module, name: str) -> tuple[nn.Module, str]:
    """Return the module that owns a part, and the part's name in it."""
    get(model, name)
    if not name:
        raise UsageError("'' is the whole network: name a layer of it")
    parent, _, leaf = name.rpartition(".")
    return get(model, parent), leaf


def _has_numbers(owner: nn.Module) -> bool:
    is_dict = isinstance(owner, nn.ModuleDict)
    return not is_dict and list(owner._modules) == [str(i) for i in range(len(owner._modules))]


def _require_free(owner: nn.Module, name: str) -> None:
    if not name or "." in name:
        raise UsageError(
            "the new layer's name is '{name}'; allowed: a word without dots", name=name
        )
    if hasattr(owner, name):
        raise UsageError(
            "{name} has something named '{taken}' already", name=type(owner).__name__, taken=name
        )
