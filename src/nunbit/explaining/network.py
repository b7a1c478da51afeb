"""A network without pictures: its diagram, its numbers, and the table of its layers."""

from typing import Any

import torch
from torch import nn

from nunbit.explaining.activations import LayerStatistics
from nunbit.explaining.diagram import draw_network
from nunbit.explaining.explanation import Drawn
from nunbit.explaining.folding import fold
from nunbit.explaining.trace import Step, Trace, trace
from nunbit.language import tr
from nunbit.models.summary import BYTES_PER_MB, count_parameters

DIAGRAM = "architecture.svg"


def draw_architecture(name: str, model: nn.Module, channels: int, size: tuple[int, int]) -> Drawn:
    """Draw a network as it takes square or other pictures; its weights do not matter.

    Args:
        name: for the title.
        model: from pictures (B, C, H, W) to logits (B, K).
        channels: C.
        size: (H, W) in pixels.
    """
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    steps = trace(model, torch.zeros(1, channels, *size, device=device))
    diagram = diagram_of(name, steps)
    numbers = numbers_of(model, steps)
    drawn = Drawn(
        files={DIAGRAM: diagram.encode()},
        facts={"model": name, **numbers, "layers": layer_facts(steps)},
        lines=[
            tr(
                "{name}: {parameters:,} parameters, {steps} steps",
                name=name,
                parameters=numbers["parameters"],
                steps=len(steps.steps),
            )
        ],
    )
    rows = layer_rows(steps)
    drawn.add_page(
        "network.html", name=name, diagram=diagram, numbers=numbers, rows=rows, size=size,
        channels=channels,
    )  # fmt: skip  # what the page shows
    return drawn


def diagram_of(name: str, found: Trace) -> str:
    """Return a network's diagram as SVG."""
    return draw_network(found, fold(found), tr("Architecture of {name}", name=name))


def numbers_of(model: nn.Module, found: Trace) -> dict[str, Any]:
    """Return what a network is in numbers."""
    size = sum(p.numel() * p.element_size() for p in model.parameters())
    return {
        "parameters": count_parameters(model),
        "parameters_mb": round(size / BYTES_PER_MB, 3),
        "multiply_adds": sum(step.operation.multiply_adds for step in found.steps),
        "steps": len(found.steps),
        "weighted_layers": sum(step.operation.role in ("conv", "linear") for step in found.steps),
    }


def layer_facts(found: Trace) -> list[dict[str, Any]]:
    """Return every step for JSON."""
    return [
        {
            "name": step.name,
            "operation": step.operation.label,
            "output_shape": list(step.shape),
            "parameters": 0 if step.is_repeated else step.parameters,
            "multiply_adds": step.operation.multiply_adds,
            "receptive_field": list(step.field),
            "stride": list(step.jump),
        }
        for step in found.steps
    ]


def layer_rows(
    found: Trace, statistics: list[LayerStatistics] | None = None
) -> list[dict[str, Any]]:
    """Return the table of the layers as texts, with what was measured where there is something."""
    rows = []
    for at, step in enumerate(found.steps):
        row = {
            "name": step.name,
            "label": step.operation.label,
            "role": step.operation.role,
            "shape": " × ".join(f"{n:,}" for n in step.shape),
            "parameters": "" if step.is_repeated or not step.parameters else f"{step.parameters:,}",
            "field": _field(step, found.picture),
            "jump": f"{max(step.jump)}",
        }
        rows.append(row if statistics is None else {**row, **_measured(statistics[at])})
    return rows


def _field(step: Step, picture: tuple[int, ...]) -> str:
    if all(f >= side for f, side in zip(step.field, picture[1:], strict=True)):
        return tr("all")
    return f"{step.field[0]} × {step.field[1]}"


def _measured(found: LayerStatistics) -> dict[str, Any]:
    return {
        "mean": f"{found.mean:.3g}",
        "std": f"{found.std:.3g}",
        "zeros": f"{found.zeros:.0%}" if found.zeros else "",
        "dead": "" if found.dead is None else f"{found.dead}/{found.units}",
        "is_dead": bool(found.dead),
        "gradient": "" if found.gradient is None else f"{found.gradient:.2g}",
    }
