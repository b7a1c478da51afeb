"""Tensors as PNG files: heat over a picture, signed attributions, feature maps, kernels.

A picture is uint8 (H, W, C) as the network sees it; a drawing is uint8 (H, W, 3) or, with
transparent gaps, (H, W, 4).
"""

import io
import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib import colormaps
from PIL import Image
from torch import Tensor

SIDE = 336  # pixels of a drawn picture; sharp on a telephone, and small enough to send
TILE_SIDE, TILE_GAP, EDGE = 44, 5, 150  # EDGE is a grey that both black and white stand out from
MAX_TILES, MOST_TILE_SIDE = 64, 64  # larger maps are averaged: a page of them would not be sent
HEAT, SIGNED, LEVELS = "inferno", "RdBu_r", "viridis"
BRIGHTEST = 0.995  # quantile that is drawn at full strength; one outlier must not darken the rest

Pixels = np.ndarray[Any, np.dtype[np.uint8]]


def to_png(pixels: Pixels) -> bytes:
    """Return a drawing as the bytes of a PNG file."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="PNG", optimize=True)
    return stream.getvalue()


def enlarged(picture: Pixels) -> Pixels:
    """Return a picture in RGB, its pixels repeated so that a small one can be looked at."""
    colour = np.repeat(picture, 3, axis=2) if picture.shape[2] == 1 else picture
    factor = max(1, SIDE // max(colour.shape[:2]))
    return colour.repeat(factor, axis=0).repeat(factor, axis=1)


def heat_over(picture: Pixels, heat_hw: Tensor) -> Pixels:
    """Lay a map over a picture: the brighter, the larger; nothing where it is 0.

    Args:
        picture: uint8 (H, W, C).
        heat_hw: float (h, w), not below 0; resized to the picture, bilinear.
    """
    base = enlarged(picture).astype(np.float32)
    grey = base.mean(axis=2, keepdims=True).repeat(3, axis=2)
    level = F.interpolate(heat_hw[None, None].float().cpu(), base.shape[:2], mode="bilinear")[0, 0]
    level = level.clamp(min=0) / level.max().clamp(min=1e-12)
    colour = colormaps[HEAT](level.numpy())[:, :, :3] * 255
    share = 0.75 * level.sqrt().numpy()[:, :, None]
    return np.asarray(grey * (1 - share) + colour * share, dtype=np.uint8)


def signed_over(picture: Pixels, values_HW: Tensor) -> Pixels:
    """Draw values over a faint picture: red above 0 (speaks for the class), blue below (against).

    Args:
        picture: uint8 (H, W, C).
        values_HW: float (H, W).
    """
    base = enlarged(picture).astype(np.float32)
    faint = 240 - 0.28 * (255 - base.mean(axis=2, keepdims=True).repeat(3, axis=2))
    level = _strength(values_HW.float().cpu())
    factor = base.shape[0] // values_HW.shape[0]
    level = level.repeat_interleave(factor, 0).repeat_interleave(factor, 1)
    colour = colormaps[SIGNED](0.5 + 0.5 * level.numpy())[:, :, :3] * 255
    share = level.abs().sqrt().numpy()[:, :, None]
    return np.asarray(faint * (1 - share) + colour * share, dtype=np.uint8)


def tiles(maps_NHW: Tensor) -> Pixels:
    """Draw up to 64 maps side by side on one scale: blue to red around 0, or dark to bright.

    Args:
        maps_NHW: float (N, h, w).
    """
    shown = maps_NHW[:MAX_TILES].float().cpu()
    times = math.ceil(max(shown.shape[1:]) / MOST_TILE_SIDE)
    if times > 1:
        shown = F.avg_pool2d(shown, times)
    if shown.min() < 0:
        coloured = colormaps[SIGNED](0.5 + 0.5 * _strength(shown).numpy())
    else:
        coloured = colormaps[LEVELS](_strength(shown).numpy())
    return _sheet((coloured[..., :3] * 255).astype(np.uint8))


def kernels(weight: Tensor) -> Pixels:
    """Draw the kernels of a first layer side by side on one scale.

    Args:
        weight: float (N, C, h, w); of three channels a kernel is a coloured picture around grey,
            of others each channel is drawn red above 0 and blue below.
    """
    weight = weight.detach()
    if weight.shape[1] != 3:
        return tiles(weight.flatten(0, 1))
    shown = weight[:MAX_TILES].float().cpu()
    grey = 0.5 + 0.5 * shown / shown.abs().max().clamp(min=1e-12)
    return _sheet((grey.permute(0, 2, 3, 1).numpy() * 255).astype(np.uint8))


def _strength(values: Tensor) -> Tensor:
    """Return values scaled to [-1, 1], all by one number."""
    sample = values.abs().flatten()
    most = torch.quantile(sample[:: max(1, len(sample) // 2**20)], BRIGHTEST)
    if most <= 0:  # nearly everything is 0
        most = sample.max().clamp(min=1e-12)
    return (values / most).clamp(-1, 1)


def _sheet(pictures: Pixels) -> Pixels:
    """Lay pictures (N, h, w, 3) into a grid with transparent gaps, (H, W, 4)."""
    count, height, width, _ = pictures.shape
    factor = max(1, math.ceil(TILE_SIDE / max(height, width)))
    large = pictures.repeat(factor, axis=1).repeat(factor, axis=2)
    height, width = height * factor + 2 + TILE_GAP, width * factor + 2 + TILE_GAP
    columns = min(count, 8 if count <= 32 else 16) if width < 60 else min(count, 8)
    rows = math.ceil(count / columns)
    sheet = np.zeros((rows * height - TILE_GAP, columns * width - TILE_GAP, 4), dtype=np.uint8)
    for i, picture in enumerate(large):
        top, left = i // columns * height, i % columns * width
        tile = sheet[top : top + height - TILE_GAP, left : left + width - TILE_GAP]
        tile[:] = (EDGE, EDGE, EDGE, 255)
        tile[1:-1, 1:-1, :3] = picture
    return sheet
