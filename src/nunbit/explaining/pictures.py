"""What a trained network sees in pictures, as one page: saliency, feature maps, kernels, numbers.

Shapes: C channels, H and W pixels, N pictures.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nunbit.bundle import Classifier
from nunbit.data.pictures import Track
from nunbit.explaining import drawing
from nunbit.explaining.activations import LayerStatistics, measure_layers
from nunbit.explaining.explanation import Drawn
from nunbit.explaining.layers import cam_layer, first_weight
from nunbit.explaining.network import DIAGRAM, diagram_of, layer_facts, layer_rows, numbers_of
from nunbit.explaining.portrait import Subject, black, portray, subjects_of
from nunbit.explaining.trace import Trace, trace
from nunbit.language import tr
from nunbit.runtime import limited_threads

MAX_DRAWN = 8  # pictures; a page of more is slow to open and nobody looks at it
MAX_MEASURED = 64  # pictures for the statistics of the layers


def draw_pictures(
    classifier: Classifier,
    named: Sequence[tuple[str, drawing.Pixels]],
    count: int,
    title: str,
    layer: str | None,
    track: Track,
) -> Drawn:
    """Explain what a classifier makes of pictures; without pictures, what it is made of.

    Args:
        classifier: in eval mode.
        named: names and uint8 (H, W, C) as `Preprocess.to_pixels` gives them, up to `MAX_MEASURED`.
        count: how many pictures there are.
        title: of the page: the run's name.
        layer: the module for Grad-CAM; None for the last one that gives maps.
        track: shows progress, (items, total, label) -> items.

    Raises:
        UsageError: no such layer, or one that gives no maps.
    """
    model, drawn, said = classifier.module, Drawn(), []
    with limited_threads(classifier.runtime.threads):
        subjects = subjects_of(classifier, named)
        found = trace(model, subjects[0].x if subjects else black(classifier))
        cam = cam_layer(model, found, layer)
        for subject in subjects[:MAX_DRAWN]:
            files, page = portray(classifier, subject, cam, track)
            drawn.files.update(files)
            said.append(page)
        measured = _measure(model, subjects)
    numbers = numbers_of(model, found)
    name = classifier.card.get("model", {}).get("name", "network")
    drawn.facts = {
        "model": name, **numbers, "grad_cam_layer": cam.name or None,
        "pictures": [page["facts"] for page in said], "layers": _facts(found, measured),
    }  # fmt: skip  # for JSON
    drawn.lines += [f"{s.name}: {s.top[0][0]} ({s.top[0][1]:.1%})" for s in subjects[:MAX_DRAWN]]
    drawn.lines += (
        [tr("no Grad-CAM: {reason}", reason=cam.reason)] if cam.reason and subjects else []
    )
    _add_network(
        drawn, found, first_weight(model, found), title=title, name=name, numbers=numbers, cam=cam,
        recipe=classifier.card.get("recipe"), source=_source(classifier), pages=said,
        rows=layer_rows(found, measured), count_pictures=count, measured=len(subjects),
    )  # fmt: skip  # what the page shows
    return drawn


def _add_network(drawn: Drawn, found: Trace, first: tuple[str, Tensor] | None, **page: Any) -> None:
    """Draw the first weights and the architecture, and add the page."""
    if first is not None:
        drawn.files["kernels.png"] = drawing.to_png(drawing.kernels(first[1]))
    diagram = diagram_of(page["name"], found)
    drawn.files[DIAGRAM] = diagram.encode()
    drawn.add_page(
        "pictures.html", diagram=diagram, first=first, max_tiles=drawing.MAX_TILES, **page
    )


def _source(classifier: Classifier) -> str:
    """Return the name of what the network was trained on; a path would tell of somebody's disk."""
    data = classifier.card.get("data") or {}
    return Path(str(data.get("source", ""))).name


def _measure(model: nn.Module, subjects: Sequence[Subject]) -> list[LayerStatistics] | None:
    if not subjects:
        return None
    x = torch.cat([subject.x for subject in subjects])
    return measure_layers(model, x, [subject.target for subject in subjects])


def _facts(found: Trace, measured: list[LayerStatistics] | None) -> list[dict[str, Any]]:
    """Return every step for JSON, with what was measured."""
    facts = layer_facts(found)
    for row, one in zip(facts, measured or (), strict=False):
        row.update(
            mean=round(one.mean, 6), std=round(one.std, 6), zeros=round(one.zeros, 6),
            dead_units=one.dead, units=one.units,
            gradient=None if one.gradient is None else float(f"{one.gradient:.4g}"),
        )  # fmt: skip  # what is measured
    return facts
