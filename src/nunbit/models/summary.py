"""The table of a network's layers: name, kind, output shape, parameters."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nunbit.language import tr
from nunbit.models.mode import eval_mode

BYTES_PER_MB = 1e6


@dataclass(frozen=True)
class Layer:
    """One module without children, in the order in which it is called."""

    name: str
    kind: str
    output_shape: tuple[int, ...]
    """Without the batch."""
    parameters: int
    parameter_sizes: tuple[int, ...]
    calls: int
    """How often one forward pass calls it; above 1 the module is shared."""


@dataclass(frozen=True)
class Summary:
    """A network in numbers."""

    layers: tuple[Layer, ...]
    parameters: int
    trainable: int
    parameter_sizes: tuple[int, ...]
    parameters_mb: float
    activations_mb: float
    """Outputs of all layers for one picture in fp32."""

    def lines(self) -> list[str]:
        """Return the table as text, one layer a line."""
        rows = [("layer", "kind", "output", "parameters")]
        for layer in self.layers:
            shape = "x".join(map(str, layer.output_shape))
            again = tr(" (called {calls} times)", calls=layer.calls) if layer.calls > 1 else ""
            rows.append((layer.name, layer.kind + again, shape, f"{layer.parameters:,}"))
        widths = [max(len(row[i]) for row in rows) for i in range(4)]
        text = [
            f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c:<{widths[2]}}  {d:>{widths[3]}}"
            for a, b, c, d in rows
        ]
        sizes = ", ".join(map(str, self.parameter_sizes[:12]))
        more = ", ..." if len(self.parameter_sizes) > 12 else ""
        return [
            *text,
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
    shapes: dict[str, tuple[int, ...]] = {}
    calls: dict[str, int] = {}
    names = {module: name for name, module in model.named_modules() if not list(module.children())}

    def note(module: nn.Module, _inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor):
            name = names[module]
            shapes.setdefault(name, tuple(output.shape[1:]))
            calls[name] = calls.get(name, 0) + 1

    hooks = [module.register_forward_hook(note) for module in names]
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    try:
        with eval_mode(model), torch.inference_mode():
            model(torch.zeros(1, in_channels, *image_size, device=device))
    finally:
        for hook in hooks:
            hook.remove()
    by_name = {name: module for module, name in names.items()}
    layers = tuple(_layer(name, by_name[name], shapes[name], calls[name]) for name in shapes)
    parameters = list(model.parameters())
    values = sum(calls[name] * torch.Size(shape).numel() for name, shape in shapes.items())
    return Summary(
        layers=layers,
        parameters=count_parameters(model),
        trainable=sum(p.numel() for p in parameters if p.requires_grad),
        parameter_sizes=tuple(p.numel() for p in parameters),
        parameters_mb=sum(p.numel() * p.element_size() for p in parameters) / BYTES_PER_MB,
        activations_mb=values * 4 / BYTES_PER_MB,
    )


def count_parameters(model: nn.Module) -> int:
    """Return the number of parameters, a shared one counted once."""
    return sum(p.numel() for p in model.parameters())


def _layer(name: str, module: nn.Module, shape: tuple[int, ...], calls: int) -> Layer:
    sizes = tuple(p.numel() for p in module.parameters())
    return Layer(name or "(model)", type(module).__name__, shape, sum(sizes), sizes, calls)
