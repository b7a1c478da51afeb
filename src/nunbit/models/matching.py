"""Whether weights are those of a network: by names, shapes, types and values."""

from collections.abc import Mapping

from torch import Tensor, nn

from nunbit.errors import DataError
from nunbit.language import tr

LONGEST = 120  # characters of a sentence: names in a foreign file may be anything
Shapes = Mapping[str, tuple[int, ...]]


def shapes_of(tensors: Mapping[str, Tensor]) -> Shapes:
    """Return the shape of each tensor."""
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def misfits(given: Shapes, needed: Shapes) -> list[str]:
    """Return a sentence for each tensor that is missing, foreign or of another shape."""
    faults = [tr("{name} is missing", name=name) for name in needed if name not in given]
    faults += [tr("{name!r} is foreign", name=name) for name in given if name not in needed]
    faults += [
        tr(
            "{name} is {given}, needed {needed}",
            name=name,
            given=_say(given[name]),
            needed=_say(needed[name]),
        )
        for name in needed
        if name in given and given[name] != needed[name]
    ]
    return [fault[:LONGEST] for fault in faults]


def load_exactly(module: nn.Module, tensors: Mapping[str, Tensor], file: object) -> None:
    """Copy weights of the network's own names and shapes into it.

    Args:
        module: none of its own values is left.
        tensors: by name; their shapes were compared before.
        file: what they were read from, for the message.

    Raises:
        DataError: a tensor of another type, or with values that are not finite.
    """
    for name, own in module.state_dict().items():
        if own.is_floating_point() != tensors[name].is_floating_point():
            raise DataError(
                "{file}: {name} is {given}, needed {needed}",
                file=file,
                name=name,
                given=tensors[name].dtype,
                needed=own.dtype,
            )
        if not tensors[name].isfinite().all():
            raise DataError("{file}: {name} has values that are not finite", file=file, name=name)
    module.load_state_dict(tensors, strict=True)


def _say(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or tr("one number")
