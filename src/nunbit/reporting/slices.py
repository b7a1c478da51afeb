"""Parts of a test set on which a network does worse: dark, flat or small pictures."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from PIL import Image
from torch import Tensor

from nunbit.data.decode import FORMATS, PILLOW_ERRORS, quiet_pillow
from nunbit.data.preprocess import LUMA
from nunbit.data.rows import Images, batches, collect_rows
from nunbit.metrics import wilson_interval

Property = Literal["brightness", "contrast", "size"]
PARTS = 5  # fifths: 400 of 2,000 pictures still give an interval of 3 points to each side


@dataclass(frozen=True)
class Slice:
    """The test pictures with one property in one range."""

    property: Property
    low: float
    """Smallest value: brightness and contrast in [0, 1], size in pixels."""
    high: float
    """Largest value."""
    n: int
    accuracy: float
    ci95: tuple[float, float]


def slices(properties: dict[Property, Tensor], correct_N: Tensor) -> list[Slice]:
    """Cut a set into fifths by each property; equal values stay together.

    Args:
        properties: float (N,) each.
        correct_N: bool (N,).
    """
    found = []
    for name, values_N in properties.items():
        levels = torch.arange(1, PARTS, dtype=torch.float64) / PARTS
        # torch.quantile refuses more than 16 million values; sorting has no limit.
        at = (levels * len(values_N)).long().clamp(max=len(values_N) - 1)
        edges = values_N.sort().values[at].unique()
        part_N = torch.bucketize(values_N, edges, right=True)
        for part in part_N.unique().tolist():
            inside = part_N == part
            n, correct = int(inside.sum()), int(correct_N[inside].sum())
            low, high = float(values_N[inside].min()), float(values_N[inside].max())
            found.append(Slice(name, low, high, n, correct / n, wilson_interval(correct, n)))
    return found


def drops(found: Iterable[Slice], accuracy: float) -> list[Slice]:
    """Return the slices whose whole interval lies below the accuracy over all pictures."""
    return [part for part in found if part.ci95[1] < accuracy]


def light(images: Images) -> dict[Property, Tensor]:
    """Return brightness and contrast: mean and standard deviation of the grey values in [0, 1].

    Args:
        images: uint8 (N, H, W, C).
    """
    weights = torch.tensor(LUMA if images.shape[-1] == 3 else (1.0,))
    greys = ((batch.float() @ weights / 255).flatten(1) for batch in batches(images))
    found = ((grey.mean(1), grey.std(1, correction=0)) for grey in greys)
    brightness, contrast = collect_rows(len(images), found)
    return {"brightness": brightness, "contrast": contrast}


def sides(names: Sequence[str], root: Path) -> Tensor | None:
    """Return the size of picture files as the side of a square of equal area, in pixels.

    Args:
        names: paths from `root`, as folders and CSV files name their pictures.
        root: where they lie.

    Returns:
        float (N,); None where the names are no files (arrays, parquet) or all sizes are equal.
    """
    found = []
    with quiet_pillow():
        for name in names:
            path = root / name
            try:
                if not path.is_file():
                    return None
                with Image.open(path, formats=FORMATS) as image:  # reads the header only
                    found.append(math.sqrt(image.width * image.height))
            except PILLOW_ERRORS:
                return None
    return torch.tensor(found) if len(set(found)) > 1 else None
