"""Which weights train: freezing by name, and the table of what trains and what does not.

A frozen batch norm stays in eval mode, also when the network is set to train mode: its running
mean and variance belong to its weights, and one that goes on measuring a few pictures at a time
ruins features that nothing repairs.

Build the optimizer afterwards: it takes the parameters that train at that moment.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

from torch import nn

from nunbit.errors import UsageError, nearest
from nunbit.language import tr
from nunbit.models.summary import aligned

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


@dataclass(frozen=True)
class ParameterRow:
    """One parameter of a network."""

    name: str
    shape: tuple[int, ...]
    parameters: int
    trainable: bool


@dataclass(frozen=True)
class Trainable:
    """What trains and what does not; a parameter that layers share is listed once."""

    rows: tuple[ParameterRow, ...]

    @property
    def parameters(self) -> int:
        """Numbers in all parameters."""
        return sum(row.parameters for row in self.rows)

    @property
    def trainable(self) -> int:
        """Numbers in the parameters that train."""
        return sum(row.parameters for row in self.rows if row.trainable)

    def lines(self) -> list[str]:
        """Return the table as text, one parameter a line."""
        cells = [(tr("parameter"), tr("dimensions"), tr("numbers"), "")]
        for row in self.rows:
            shape = "x".join(map(str, row.shape)) or "1"
            state = tr("trains") if row.trainable else tr("frozen")
            cells.append((row.name, shape, f"{row.parameters:,}", state))
        share = self.trainable / max(1, self.parameters)
        return [
            *aligned(cells, right=2),
            tr(
                "{trainable:,} of {parameters:,} numbers train ({share:.1%})",
                trainable=self.trainable,
                parameters=self.parameters,
                share=share,
            ),
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return the fields for JSON."""
        rows = [{**asdict(row), "shape": list(row.shape)} for row in self.rows]
        return {"parameters": self.parameters, "trainable": self.trainable, "rows": rows}


def trainable(model: nn.Module) -> Trainable:
    """List the parameters of a network in their order."""
    return Trainable(
        tuple(
            ParameterRow(name, tuple(p.shape), p.numel(), p.requires_grad)
            for name, p in model.named_parameters()
        )
    )


def freeze(model: nn.Module, *patterns: str) -> list[str]:
    """Stop parameters from training, and hold their batch norms in eval mode.

    Args:
        model: the network; it is changed.
        patterns: names of layers or parameters, with *, ? and [...] as in file names; a layer
            stands for all in it: `features.*`, `features.0`, `*.bias`.

    Returns:
        The names of the parameters that match.

    Raises:
        UsageError: no pattern, or one that matches nothing; then nothing is changed.
    """
    return _set(model, patterns, trains=False)


def unfreeze(model: nn.Module, *patterns: str) -> list[str]:
    """Let parameters train again; see `freeze`. The network's mode decides that of its norms."""
    return _set(model, patterns, trains=True)


def require_trainable(model: nn.Module) -> None:
    """Refuse to train a network of which everything is frozen; called before the optimizer is made.

    Raises:
        UsageError: no parameter trains.
    """
    if not any(p.requires_grad for p in model.parameters()):
        raise UsageError("every parameter is frozen: nothing would train; unfreeze a layer")


def _set(model: nn.Module, patterns: tuple[str, ...], *, trains: bool) -> list[str]:
    # With duplicates: what two layers share is found under each of its names.
    parameters = dict(model.named_parameters(remove_duplicate=False))
    modules = dict(model.named_modules(remove_duplicate=False))
    norms = {name: part for name, part in modules.items() if isinstance(part, NORMS)}
    names = [*parameters, *norms]
    if not patterns:
        raise UsageError("no pattern is given, such as 'features.*'; '*' is everything")
    for pattern in patterns:
        if not any(_matches(name, pattern) for name in names):
            near = nearest(pattern, {part for name in names for part in _with_owners(name)})
            other = tr("allowed: names of layers, with *")
            hint = tr("did you mean '{near}'?", near=near) if near else other
            raise UsageError(
                "'{pattern}' matches no layer with parameters; {hint}", pattern=pattern, hint=hint
            )
    found = [name for name in names if any(_matches(name, pattern) for pattern in patterns)]
    matched = [name for name in found if name in parameters]
    for name in matched:
        parameters[name].requires_grad_(trains)
    touched = {owner for name in found for owner in _with_owners(name)}
    for norm in (part for name, part in norms.items() if name in touched):
        own = list(norm.parameters())
        _hold(norm, any(p.requires_grad for p in own) if own else trains, model.training)
    return matched


def _hold(norm: nn.Module, trains: bool, mode: bool) -> None:
    """Keep a frozen norm in eval mode whatever the network is set to, or let it follow again."""
    # An attribute of the object goes before the method of its class. Unlike a hook it does nothing
    # in a forward pass, and unlike a frozen kind of norm it changes no name in the state dict.
    norm.__dict__.pop("train", None)
    norm.train(trains and mode)
    if not trains:
        norm.__dict__["train"] = partial(_stay, norm)


def _stay(norm: nn.Module, _mode: bool = True) -> nn.Module:
    """Take the place of `norm.train`."""
    return norm


def _matches(name: str, pattern: str) -> bool:
    return any(fnmatchcase(part, pattern) for part in _with_owners(name))


def _with_owners(name: str) -> Iterator[str]:
    """Give a dotted name and those of the layers that it lies in."""
    steps = name.split(".")
    yield from (".".join(steps[:i]) for i in range(len(steps), 0, -1))
