"""The table of a network's layers: name, kind, output shape, parameters."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from rich.cells import cell_len
from torch import Tensor, nn

from nunbit.language import tr
from nunbit.models.mode import eval_mode

BYTES_PER_MB = 1e6


@dataclass(frozen=True)
class Layer:
    """A module without children, or one with parameters of its own beside its children's."""

    name: str
    kind: str
    output_shape: tuple[int, ...]
    """Without the batch; empty where nothing calls the module."""
    parameters: int
    """Its own, without those of its children and those of an earlier row that shares them."""
    parameter_sizes: tuple[int, ...]
    calls: int
    """How often one forward pass calls it; above 1 the module is shared, at 0 another one takes its
    weights, as attention does."""


@dataclass(frozen=True)
class Summary:
    """A network in numbers."""

    layers: tuple[Layer, ...]
    """In the order in which their first calls end; their parameters sum to the network's."""
    parameters: int
    trainable: int
    parameter_sizes: tuple[int, ...]
    parameters_mb: float
    activations_mb: float
    """Outputs of all layers for one picture in fp32."""

    def lines(self) -> list[str]:
        """Return the table as text, one layer a line."""
        rows = [(tr("layer"), tr("kind"), tr("output"), tr("parameters"))]
        for layer in self.layers:
            shape = "x".join(map(str, layer.output_shape))
            again = tr(" (called {calls} times)", calls=layer.calls) if layer.calls > 1 else ""
            rows.append((layer.name, layer.kind + again, shape, f"{layer.parameters:,}"))
        sizes = ", ".join(map(str, self.parameter_sizes[:12]))
        more = ", ..." if len(self.parameter_sizes) > 12 else ""
        return [
            *aligned(rows, right=3),
            tr(
                "{parameters:,} parameters ({trainable:,} trainable) in [{sizes}{more}]",
                parameters=self.parameters,
                trainable=self.trainable,
                sizes=sizes,
                more=more,
            ),
            tr(
                "{parameters_mb:.2f} MB of weights, {activations_mb:.2f} MB of outputs for "
                "one picture",
                parameters_mb=self.parameters_mb,
                activations_mb=self.activations_mb,
            ),
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return the fields for JSON."""
        layers = [
            {
                "name": layer.name,
                "kind": layer.kind,
                "output_shape": list(layer.output_shape),
                "parameters": layer.parameters,
                "calls": layer.calls,
            }
            for layer in self.layers
        ]
        return {
            "parameters": self.parameters,
            "trainable": self.trainable,
            "parameter_sizes": list(self.parameter_sizes),
            "parameters_mb": round(self.parameters_mb, 3),
            "activations_mb": round(self.activations_mb, 3),
            "layers": layers,
        }


def summarize(model: nn.Module, in_channels: int, image_size: tuple[int, int]) -> Summary:
    """Run one black picture through a network in eval mode and list what its modules gave.

    The network is unchanged: its mode is restored, nothing is trained, no statistics move.

    Args:
        model: any module from pictures (B, C, H, W) to a tensor.
        in_channels: C.
        image_size: (H, W) in pixels.
    """
    calls = _watch(model, in_channels, image_size)
    parameters = list(model.parameters())
    # A module with children gives what the last of them gave, unless it called none of them.
    outputs = [s for name, s in calls.items() if not any(_is_in(n, name) for n in calls)]
    values = sum(shape.numel() for shapes in outputs for shape in shapes)
    return Summary(
        layers=_layers(model, calls),
        parameters=count_parameters(model),
        trainable=sum(p.numel() for p in parameters if p.requires_grad),
        parameter_sizes=tuple(p.numel() for p in parameters),
        parameters_mb=sum(p.numel() * p.element_size() for p in parameters) / BYTES_PER_MB,
        activations_mb=values * 4 / BYTES_PER_MB,
    )


def aligned(rows: Sequence[Sequence[str]], right: int) -> list[str]:
    """Return the lines of a table in a terminal, where each Hangul syllable takes two columns.

    Args:
        rows: of equal length.
        right: the column of numbers, which end below each other.
    """
    widths = [max(map(cell_len, cells)) for cells in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        filled = []
        for i, (cell, width) in enumerate(zip(row, widths, strict=True)):
            gap = " " * (width - cell_len(cell))
            filled.append(gap + cell if i == right else cell + gap)
        lines.append("  ".join(filled).rstrip())
    return lines


def count_parameters(model: nn.Module) -> int:
    """Return the number of parameters, a shared one counted once."""
    return sum(p.numel() for p in model.parameters())


def _watch(
    model: nn.Module, in_channels: int, image_size: tuple[int, int]
) -> dict[str, list[torch.Size]]:
    """Return the shape of every output, with the batch, by the name of the module that gave it."""
    calls: dict[str, list[torch.Size]] = {}
    names = {
        module: name
        for name, module in model.named_modules()
        if not list(module.children()) or _owns_parameters(module)
    }

    def note(module: nn.Module, _inputs: Any, output: Any) -> None:
        first = output[0] if isinstance(output, tuple) and output else output
        if isinstance(first, Tensor):
            calls.setdefault(names[module], []).append(first.shape)

    hooks = [module.register_forward_hook(note) for module in names]
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    try:
        with eval_mode(model), torch.inference_mode():
            model(torch.zeros(1, in_channels, *image_size, device=device))
    finally:
        for hook in hooks:
            hook.remove()
    return calls


def _layers(model: nn.Module, calls: dict[str, list[torch.Size]]) -> tuple[Layer, ...]:
    modules, order = dict(model.named_modules()), list(calls)
    for name, module in modules.items():
        if name not in calls and _owns_parameters(module):  # before what takes its weights
            holders = (i for i, other in enumerate(order) if _is_in(name, other))
            order.insert(next(holders, len(order)), name)
    listed: set[nn.Parameter] = set()
    layers = []
    for name in order:
        own = [p for p in modules[name].parameters(recurse=False) if p not in listed]
        listed.update(own)
        sizes, shapes = tuple(p.numel() for p in own), calls.get(name, [])
        shape = tuple(shapes[0][1:]) if shapes else ()
        kind = type(modules[name]).__name__
        layers.append(Layer(name or "(model)", kind, shape, sum(sizes), sizes, len(shapes)))
    return tuple(layers)


def _owns_parameters(module: nn.Module) -> bool:
    return next(module.parameters(recurse=False), None) is not None


def _is_in(name: str, other: str) -> bool:
    """Return whether a module lies in another one; "" is the network."""
    return name != other and (not other or name.startswith(f"{other}."))
