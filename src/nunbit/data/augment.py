"""Random changes of training pictures, as pure functions of (seed, epoch, picture).

A picture's change in an epoch does not depend on its batch, its neighbours or what was drawn
before, so that a run can be resumed anywhere and a picture's changes can be shown on their own.
"""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nunbit.config import DataConfig
from nunbit.data.preprocess import LUMA, Preprocess
from nunbit.errors import UsageError
from nunbit.runtime import derive_seed

MOVES = ("flip", "flip_vertical", "rotate", "shift_pixels", "zoom")
CHANGES = (*MOVES, "light", "saturation", "cutout")  # settings of `DataConfig`, in this order
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


def require_possible(config: DataConfig, preprocess: Preprocess) -> None:
    """Refuse changes that leave nothing of a picture, or that it has no colours for.

    Raises:
        UsageError: naming the setting.
    """
    height, width = preprocess.height, preprocess.width
    for name in ("shift_pixels", "cutout", "small_size"):
        pixels = getattr(config, name)
        if pixels >= min(height, width):
            raise UsageError(
                "{setting} is {pixels}; the pictures are {height}x{width}: set it below, or to 0",
                setting=f"data.{name}",
                pixels=pixels,
                height=height,
                width=width,
            )
    if config.saturation and preprocess.channels == 1:
        raise UsageError("data.saturation needs colours; the pictures are grey: set it to 0")


def augment(images: Tensor, config: DataConfig, seed: int, epoch: int, indices: Tensor) -> Tensor:
    """Return a batch of pictures moved, relit and covered as the settings ask.

    Args:
        images: uint8 (B, H, W, C); not changed.
        config: `CHANGES`.
        seed: the run's seed.
        epoch: counts from 0.
        indices: int64 (B,), positions of the pictures in the training split.
    """
    if any(getattr(config, name) for name in MOVES):
        images = _move(images, config, seed, epoch, indices)
    if config.light:
        images = _relight(images, config.light, seed, epoch, indices)
    if config.saturation:
        images = _saturate(images, config.saturation, seed, epoch, indices)
    if config.cutout:
        images = _cover(images, config.cutout, seed, epoch, indices)
    return images


def _move(images: Tensor, config: DataConfig, seed: int, epoch: int, indices: Tensor) -> Tensor:
    """Mirror, rotate, enlarge and shift pictures (B, H, W, C): one gather, which stays in bytes.

    Each output pixel names the nearest input pixel; positions outside are reflected. Unless
    pictures are rotated, the input row depends on the output row only, and the column likewise.
    """
    count, height, width, channels = images.shape
    y = np.broadcast_to(_centred(height)[:, None], (count, height, 1))
    x = np.broadcast_to(_centred(width), (count, 1, width))
    if config.flip_vertical:
        time = epoch // 2 if config.flip else epoch  # all four ways in four epochs
        y = np.where(_mirrored(uniform(seed, "flip vertical", 0, indices), time), -y, y)
    if config.flip:
        x = np.where(_mirrored(uniform(seed, "flip", 0, indices), epoch), -x, x)
    if config.rotate:
        angle = math.radians(config.rotate) * (2 * uniform(seed, "rotate", epoch, indices) - 1)
        cos, sin = _of_each(np.cos(angle)), _of_each(np.sin(angle))
        y, x = cos * y + sin * x, cos * x - sin * y  # (B, H, W); counterclockwise
    zoom = 1 + config.zoom * uniform(seed, "zoom", epoch, indices)
    rows = _positions(y, height, zoom, config, uniform(seed, "row", epoch, indices))
    cols = _positions(x, width, zoom, config, uniform(seed, "col", epoch, indices))
    lines = (_of_each(np.arange(count)) * height + rows) * width
    kind = np.int32 if count * height * width < 2**31 else np.int64  # half the memory
    at = np.add(lines, cols, dtype=kind, casting="same_kind")  # (B, H, W)
    pixels = images.reshape(-1, channels)  # which index_select copies whole
    return pixels.index_select(0, torch.from_numpy(at).flatten()).view(images.shape)


def _centred(side: int) -> Draws:
    """Return (side,): the positions of rows (or columns), from the middle of the picture."""
    return np.arange(side, dtype=np.float64) - (side - 1) / 2


def _of_each(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return values (B,), one of each picture, as (B, 1, 1)."""
    return values[:, None, None]


def _mirrored(draw: Draws, time: int) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Return (B, 1, 1): whether a picture is mirrored at the `time`-th showing, from 0.

    By turns instead of at random: no picture is seen the same way several times in a row, which
    short trainings gain from (arXiv 2404.00498, 3.6).
    """
    return _of_each(((draw < 0.5) + time) % 2 == 1)


def _positions(
    at: Draws, side: int, zoom: Draws, config: DataConfig, where: Draws
) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return the input row (or column) that is shown at centred positions `at`, in their shape."""
    room = (side - side / zoom) / 2 + config.shift_pixels  # how far the window may move
    offset = (2 * where - 1) * room
    rounded = np.rint(at / _of_each(zoom) + _of_each(offset) + (side - 1) / 2).astype(np.int64)
    period = max(1, 2 * (side - 1))
    rounded = np.abs(rounded) % period
    return np.asarray(np.where(rounded >= side, period - rounded, rounded))


def _relight(images: Tensor, light: float, seed: int, epoch: int, indices: Tensor) -> Tensor:
    """Change contrast and brightness of each picture by up to `light`."""
    contrast = 1 + light * (2 * uniform(seed, "contrast", epoch, indices) - 1)
    bright = 255 * light * (2 * uniform(seed, "brightness", epoch, indices) - 1)
    table = (np.arange(256) - 127.5) * contrast[:, None] + 127.5 + bright[:, None]
    levels = torch.from_numpy(table.clip(0, 255).round().astype(np.uint8))  # (B, 256)
    flat = images.flatten(1).long()
    return levels.gather(1, flat).view_as(images)


def _saturate(images: Tensor, most: float, seed: int, epoch: int, indices: Tensor) -> Tensor:
    """Make the colours of pictures (B, H, W, 3) stronger or weaker by up to this share."""
    strength = 1 + most * (2 * uniform(seed, "saturation", epoch, indices) - 1)
    factor = torch.from_numpy(strength).float().view(-1, 1, 1, 1)
    x = images.float()
    # No matrix product: what that rounds depends on the batch.
    red, green, blue = x.unbind(-1)
    grey = (LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue)[..., None]  # (B, H, W, 1)
    return torch.lerp(grey, x, factor).round_().clamp_(0, 255).byte()


def _cover(images: Tensor, side: int, seed: int, epoch: int, indices: Tensor) -> Tensor:
    """Make a square of each picture grey; its middle is anywhere (cutout, arXiv 1708.04552)."""
    size = (images.shape[1], images.shape[2])
    hole = rectangles(size, (side, side), "cutout", seed, epoch, indices)
    return images.masked_fill(torch.from_numpy(hole)[..., None], GREY)


def rectangles(
    size: tuple[int, int],
    sides: tuple[int | Draws, int | Draws],
    purpose: str,
    seed: int,
    epoch: int,
    indices: Tensor,
) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Return bool (B, H, W): a rectangle in each picture, cut at the edges; its middle is anywhere.

    Args:
        size: height and width of the pictures, in pixels.
        sides: height and width of the rectangles, in whole pixels, of all or of each (B,).
        purpose: what they are for; two purposes are independent.
        seed: the run's seed.
        epoch: counts from 0.
        indices: int64 (B,), positions of the pictures in the training split.
    """
    rows, cols = (
        _covered(length, side, uniform(seed, f"{purpose} {axis}", epoch, indices))
        for length, side, axis in zip(size, sides, ("row", "col"), strict=True)
    )
    return np.asarray(rows[:, :, None] & cols[:, None, :])


def _covered(length: int, side: int | Draws, where: Draws) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Return (B, length): whether a row (or column) is covered."""
    first = np.floor(where * length) - np.floor_divide(side, 2)
    at = np.arange(length)
    return np.asarray((at >= first[:, None]) & (at < (first + side)[:, None]))
