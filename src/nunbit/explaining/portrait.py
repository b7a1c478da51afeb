"""One picture through a trained network: what it saw there, drawn.

Shapes: B batch (here 1), C channels, H and W pixels, K classes.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nunbit.bundle import Classifier
from nunbit.data.pictures import Track
from nunbit.explaining import drawing
from nunbit.explaining.layers import CamLayer
from nunbit.explaining.saliency import (
    Integrated,
    Occluded,
    complete_gradients,
    grad_cam,
    occlusion,
)
from nunbit.explaining.trace import trace

MAX_STEM = 40  # characters of a picture's name in the names of its drawings
TOP = 3  # classes that are named


@dataclass(frozen=True)
class Subject:
    """One picture as the network sees it."""

    name: str
    file: str
    """What the names of its drawings begin with."""
    pixels: drawing.Pixels
    x: Tensor
    """float (1, C, H, W)."""
    target: int
    """The class that is explained: the most probable one."""
    top: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Stage:
    """Where maps come from."""

    label: str
    where: str
    shape: tuple[int, ...]


def subjects_of(
    classifier: Classifier, named: Sequence[tuple[str, drawing.Pixels]]
) -> list[Subject]:
    """Classify pictures, which are given by name and as uint8 (H, W, C)."""
    if not named:
        return []
    images = torch.stack([torch.from_numpy(pixels.copy()) for _, pixels in named])
    probabilities_NK = classifier.logits(images).softmax(1)
    subjects = []
    for number, ((name, pixels), row) in enumerate(zip(named, probabilities_NK, strict=True), 1):
        values, order = row.topk(min(TOP, len(classifier.class_names)))
        pairs = zip(order.tolist(), values.tolist(), strict=True)
        top = tuple((classifier.class_names[i], value) for i, value in pairs)
        stem = re.sub(r"[^\w-]+", "-", Path(name).stem)[:MAX_STEM]
        x = _normalized(classifier, images[number - 1])
        subjects.append(Subject(name, f"{number}-{stem}", pixels, x, int(order[0]), top))
    return subjects


def portray(
    classifier: Classifier, subject: Subject, cam: CamLayer, track: Track
) -> tuple[dict[str, bytes], dict[str, Any]]:
    """Draw one picture's files; return them and what the page says of them.

    Args:
        classifier: in eval mode.
        subject: the picture.
        cam: the layer for Grad-CAM, if there is one.
        track: shows progress, (items, total, label) -> items.
    """
    model, x, target = classifier.module, subject.x, subject.target
    drawn = {"input": drawing.enlarged(subject.pixels)}
    cam_shape: tuple[int, ...] = ()
    if cam.name:
        heat = grad_cam(model, model.get_submodule(cam.name), x, target)
        drawn["grad-cam"], cam_shape = drawing.heat_over(subject.pixels, heat), tuple(heat.shape)
    gradients = complete_gradients(model, x, black(classifier), target)
    drawn["integrated-gradients"] = drawing.signed_over(subject.pixels, gradients.values.sum(0))
    occluded = occlusion(model, x, target, track)
    drawn["occlusion"] = drawing.signed_over(subject.pixels, occluded.drop)
    stages = _draw_stages(drawn, model, x)
    said = {
        "title": Path(subject.name).name, "file": subject.file, "top": subject.top,
        "stages": stages, "gradients": gradients, "occluded": occluded,
        "cam_shape": cam_shape, "facts": _facts(subject, gradients, occluded),
    }  # fmt: skip  # what the page shows
    files = {f"{subject.file}-{kind}.png": drawing.to_png(p) for kind, p in drawn.items()}
    return files, said


def _draw_stages(drawn: dict[str, drawing.Pixels], model: nn.Module, x: Tensor) -> list[Stage]:
    """Draw the maps that each stage hands on."""
    found, stages = trace(model, x), []
    for number, at in enumerate(found.stage_ends(), 1):
        drawn[f"stage-{number}"] = drawing.tiles(found.outputs[at][0])
        step = found.steps[at]
        stages.append(Stage(step.operation.label, step.name, step.shape))
    return stages


def _facts(subject: Subject, gradients: Integrated, occluded: Occluded) -> dict[str, Any]:
    label, probability = subject.top[0]
    return {
        "path": subject.name,
        "label": label,
        "probability": round(probability, 6),
        "score_change": round(gradients.score_change, 6),
        "integrated_gradients_gap": round(gradients.gap, 6),
        "integrated_gradients_steps": gradients.steps,
        "lowest_probability_when_covered": round(occluded.lowest, 6),
    }


def _normalized(classifier: Classifier, image: Tensor) -> Tensor:
    return classifier.preprocess.normalize(image[None].to(classifier.runtime.device))


def black(classifier: Classifier) -> Tensor:
    """Return the black picture (1, C, H, W), from which the gradients are integrated."""
    p = classifier.preprocess
    return _normalized(classifier, torch.zeros(p.height, p.width, p.channels, dtype=torch.uint8))
