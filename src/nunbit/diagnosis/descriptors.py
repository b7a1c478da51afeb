"""Features that need no network: where which colours are, and where edges point.

Colours: the mean of each cell of a grid, and a histogram over all. Edges: histograms of gradient
orientations per cell, weighted by their strength (HOG, Dalal and Triggs, 2005).
"""

import numpy as np
import torch
import torch.nn.functional as F

from nunbit.data.duplicates import GREY
from nunbit.data.pictures import Pixels
from nunbit.diagnosis.examination import Floats

SIDE = 64  # pixels
CELLS = 8  # a side
ORIENTATIONS = 9  # of undirected gradients over 180 degrees, as in the paper
LEVELS = 6  # of each channel in the histogram of colours
WEIGHTS = (0.5, 0.7, 0.7)  # of edges, colours per cell, histogram; measured on flowers
BATCH = 256


def describe_pictures(images: Pixels) -> Floats:
    """Return float32 (N, 984) features of standard scale.

    Args:
        images: uint8 (N, H, W, C), C 1 or 3.
    """
    rows = [_describe(images[i : i + BATCH]) for i in range(0, len(images), BATCH)]
    parts = [np.concatenate(part) for part in zip(*rows, strict=True)]
    scaled = [w * standardized(part) for w, part in zip(WEIGHTS, parts, strict=True)]
    return np.concatenate(scaled, axis=1)


def standardized(features_NF: Floats) -> Floats:
    """Return features as rows of a mean length of 1: centred, of equal spread.

    The signed square root before it tames the few large values of counts and activations.
    """
    roots = np.sign(features_NF) * np.sqrt(np.abs(features_NF))
    centred = roots - roots.mean(axis=0)
    spread = np.maximum(centred.std(axis=0), 1e-6) * np.sqrt(features_NF.shape[1])
    scaled: Floats = (centred / spread).astype(np.float32)
    return scaled


def _describe(images: Pixels) -> tuple[Floats, Floats, Floats]:
    """Return edges (B, 576), colours per cell (B, 192), and a histogram of colours (B, 216)."""
    x = torch.from_numpy(images).permute(0, 3, 1, 2).float()
    x = F.interpolate(x, (SIDE, SIDE), mode="bilinear", antialias=True)
    x = x.expand(-1, 3, -1, -1) if x.shape[1] == 1 else x
    small = x.permute(0, 2, 3, 1).numpy()
    colours = F.adaptive_avg_pool2d(x, CELLS).flatten(1).numpy()
    return _edges(small @ GREY), colours, _histogram(small)


def _edges(grey_BHW: Floats) -> Floats:
    """Return the cells' histograms of orientations over the picture's mean strength, (B, 576)."""
    down, right = np.gradient(grey_BHW, axis=(1, 2))
    strength = np.hypot(down, right)
    turn = np.arctan2(down, right) % np.pi / np.pi
    bins = np.minimum((turn * ORIENTATIONS).astype(int), ORIENTATIONS - 1)
    cell = SIDE // CELLS
    shape = (len(grey_BHW), CELLS, cell, CELLS, cell)
    sums = [(strength * (bins == k)).reshape(shape).sum(axis=(2, 4)) for k in range(ORIENTATIONS)]
    cells = np.stack(sums, axis=-1)
    mean_strength = np.linalg.norm(cells, axis=-1).mean(axis=(1, 2))[:, None, None, None]
    edges: Floats = cells / (mean_strength + 1)
    return edges.reshape(len(grey_BHW), CELLS * CELLS * ORIENTATIONS)


def _histogram(images_BHWC: Floats) -> Floats:
    """Return the share of the pixels in each of 216 boxes of RGB, (B, 216)."""
    levels = np.minimum((images_BHWC * (LEVELS / 256)).astype(int), LEVELS - 1)
    boxes = (levels[..., 0] * LEVELS + levels[..., 1]) * LEVELS + levels[..., 2]
    count = LEVELS**3
    rows = np.arange(len(boxes))[:, None] * count + boxes.reshape(len(boxes), -1)
    counts = np.bincount(rows.ravel(), minlength=len(boxes) * count)
    shares: Floats = (counts.reshape(len(boxes), count) / rows.shape[1]).astype(np.float32)
    return shares
