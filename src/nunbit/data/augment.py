"""Random changes of training pictures, as pure functions of (seed, epoch, picture).

A picture's change in an epoch does not depend on its batch, its neighbours or what was drawn
before, so that a run can be resumed anywhere and a picture's changes can be shown on their own.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from nunbit.config import DataConfig
from nunbit.runtime import derive_seed

GREY = 127
Draws = np.ndarray[Any, np.dtype[np.float64]]


def uniform(seed: int, purpose: str, epoch: int, indices: Tensor) -> Draws:
    """Return one number in [0, 1) per picture: a function of the four arguments only.

    The splitmix64 generator (Steele et al., OOPSLA 2014) used as a hash: its output function is a
    bijection that mixes neighbouring counters, and numpy evaluates it for a whole batch at once.

    Args:
        seed: the run's seed.
        purpose: what the number is for; two purposes are independent.
        epoch: counts from 0.
        indices: int64 (B,), positions of the pictures in the training split.
    """
    key = np.uint64(derive_seed(seed, purpose, epoch))
    with np.errstate(over="ignore"):  # arithmetic modulo 2^64 is meant
        z = key + (indices.numpy().astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return np.asarray((z >> np.uint64(11)) * 2.0**-53)


def augment(images: Tensor, config: DataConfig, seed: int, epoch: int, indices: Tensor) -> Tensor:
    """Return a batch of pictures flipped, shifted, enlarged, relit and covered as settings ask.

    Geometry is one gather: each output row and column names the input row and column it shows.

    Args:
        images: uint8 (B, H, W, C); not changed.
        config: flip, shift_pixels, zoom, light and cutout.
        seed: the run's seed.
        epoch: counts from 0.
        indices: int64 (B,), positions of the pictures in the training split.
    """
    if config.flip or config.shift_pixels or config.zoom:
        zoom = 1 + config.zoom * uniform(seed, "zoom", epoch, indices)
        rows = _positions(images.shape[1], zoom, config, uniform(seed, "row", epoch, indices))
        cols = _positions(images.shape[2], zoom, config, uniform(seed, "col", epoch, indices))
        if config.flip:
            # By turns instead of at random: no picture is seen the same way several times in a row,
            # which short trainings gain from (arXiv 2404.00498, 3.6).
            mirrored = ((uniform(seed, "flip", 0, indices) < 0.5) + epoch) % 2 == 1
            cols = np.where(mirrored[:, None], cols[:, ::-1], cols)
        count, height, width, channels = images.shape
        lines = (np.arange(count)[:, None, None] * height + rows[:, :, None]) * width
        kind = np.int32 if count * height * width < 2**31 else np.int64  # half the memory
        at = np.add(lines, cols[:, None], dtype=kind, casting="same_kind")  # (B, H, W)
        pixels = images.reshape(-1, channels)  # which index_select copies whole
        images = pixels.index_select(0, torch.from_numpy(at).flatten()).view(images.shape)
    if config.light:
        images = _relight(images, config.light, seed, epoch, indices)
    if config.cutout:
        images = _cover(images, config.cutout, seed, epoch, indices)
    return images


def _positions(
    side: int, zoom: Draws, config: DataConfig, where: Draws
) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return (B, side): the input row (or column) that each output row shows.

    Nearest neighbour, so that the gather stays in bytes; positions outside are reflected.
    """
    centred = np.arange(side) - (side - 1) / 2
    room = (side - side / zoom) / 2 + config.shift_pixels  # how far the window may move
    offset = (2 * where - 1) * room
    at = np.rint(centred / zoom[:, None] + offset[:, None] + (side - 1) / 2).astype(np.int64)
    period = max(1, 2 * (side - 1))
    at = np.abs(at) % period
    return np.where(at >= side, period - at, at)


def _relight(images: Tensor, light: float, seed: int, epoch: int, indices: Tensor) -> Tensor:
    """Change contrast and brightness of each picture by up to `light`."""
    contrast = 1 + light * (2 * uniform(seed, "contrast", epoch, indices) - 1)
    bright = 255 * light * (2 * uniform(seed, "brightness", epoch, indices) - 1)
    table = (np.arange(256) - 127.5) * contrast[:, None] + 127.5 + bright[:, None]
    levels = torch.from_numpy(table.clip(0, 255).round().astype(np.uint8))  # (B, 256)
    flat = images.flatten(1).long()
    return levels.gather(1, flat).view_as(images)


def _cover(images: Tensor, side: int, seed: int, epoch: int, indices: Tensor) -> Tensor:
    """Make a square of each picture grey; its middle is anywhere (cutout, arXiv 1708.04552)."""
    rows = _covered(images.shape[1], side, uniform(seed, "cutout row", epoch, indices))
    cols = _covered(images.shape[2], side, uniform(seed, "cutout col", epoch, indices))
    hole = torch.from_numpy(rows[:, :, None] & cols[:, None, :])[..., None]  # (B, H, W, 1)
    return images.masked_fill(hole, GREY)


def _covered(length: int, side: int, where: Draws) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Return (B, length): whether a row (or column) is covered."""
    first = np.floor(where * length).astype(np.int64)[:, None] - side // 2
    at = np.arange(length)
    return np.asarray((at >= first) & (at < first + side))
