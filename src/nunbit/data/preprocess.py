"""From a decoded picture to the network's input: one object, stored with every model."""

import dataclasses
import functools
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from nunbit.data.decode import BACKGROUND, Mode, to_mode
from nunbit.errors import DataError, UsageError
from nunbit.language import tr

MAX_SIDE = 1024  # pixels, as in the settings
MAX_VALUE = 100  # of mean and std; pixels go from 0 to 1
RESIZES = ("crop", "squash", "pad")
LUMA = (0.299, 0.587, 0.114)  # of R, G and B in grey (ITU-R BT.601), as in Pillow's "L"
INTERPOLATIONS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}
LONGEST_STRIP = 16  # times as long as wide; resized whole, a line of pixels would take gigabytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Preprocess:
    """How a picture becomes numbers. Equal objects give equal numbers for equal pictures."""

    height: int
    """Rows of the network's input in pixels."""
    width: int
    """Columns of the network's input in pixels."""
    channels: int
    """1 for grey, 3 for RGB."""
    resize: Literal["crop", "squash", "pad"]
    """How other shapes are made to fit, as in `DataConfig.resize`."""
    mean: tuple[float, ...]
    """Per channel, of pixels scaled to [0, 1]; subtracted."""
    std: tuple[float, ...]
    """Per channel, of pixels scaled to [0, 1]; divided by."""
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    """How values between pixels are found; always with antialiasing."""
    resize_to: int = 0
    """Shorter side in pixels that pictures are resized to before the centre is cut, as pretrained
    networks ask for it; 0 cuts the largest part that fits, and resizes that."""

    def __post_init__(self) -> None:
        for name, side in (("height", self.height), ("width", self.width)):
            _require(type(side) is int and 1 <= side <= MAX_SIDE, name, side, f"1 to {MAX_SIDE}")
        is_known = type(self.channels) is int and self.channels in (1, 3)
        _require(is_known, "channels", self.channels, "1 or 3")
        _require(self.resize in RESIZES, "resize", self.resize, ", ".join(RESIZES))
        how = self.interpolation
        _require(how in INTERPOLATIONS, "interpolation", how, ", ".join(INTERPOLATIONS))
        least, most = max(self.height, self.width), 2 * MAX_SIDE
        fits = least <= self.resize_to <= most and self.resize != "pad"
        is_side = type(self.resize_to) is int and (fits or self.resize_to == 0)
        _require(
            is_side,
            "resize_to",
            self.resize_to,
            tr("0 or {least} to {most}, not with pad", least=least, most=most),
        )
        for name, values in (("mean", self.mean), ("std", self.std)):
            are_numbers = all(type(v) in (int, float) and abs(v) <= MAX_VALUE for v in values)
            _require(
                are_numbers, name, values, tr("numbers up to {max_value}", max_value=MAX_VALUE)
            )
            _require(
                len(values) == self.channels,
                name,
                values,
                tr("{channels}, one a channel", channels=self.channels),
            )
        _require(all(value > 0 for value in self.std), "std", self.std, "above 0")

    def resized(self, side: int) -> "Preprocess":
        """Return the same for square inputs of another size, showing the same part of a picture.

        Args:
            side: in pixels.
        """
        resize_to = round(self.resize_to * side / max(self.height, self.width))
        return replace(self, height=side, width=side, resize_to=resize_to)

    @property
    def mode(self) -> Mode:
        """Pillow's name for the channels."""
        return "L" if self.channels == 1 else "RGB"

    @property
    def near_side(self) -> int:
        """The side in pixels that pictures are resized to, for `decode`."""
        return max(self.height, self.width, self.resize_to)

    def to_pixels(self, image: Image.Image) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """Return a picture as uint8 (H, W, C) of the input's size."""
        image = to_mode(image, self.mode)
        size = (self.width, self.height)
        if self.resize_to:
            image = _middle(self._resized(image), size)
        elif image.size != size:
            image = self._fit(image, size)
        return np.asarray(image, dtype=np.uint8).reshape(self.height, self.width, self.channels)

    def _resized(self, image: Image.Image) -> Image.Image:
        """Resize the shorter side to `resize_to`, to the bit as torchvision's `Resize` does."""
        how, side = INTERPOLATIONS[self.interpolation], self.resize_to
        if self.resize == "squash":
            return image.resize((side, side), how)
        short, long = sorted(image.size)
        if long > LONGEST_STRIP * short:
            longest = LONGEST_STRIP * short
            image = _middle(image, (min(image.width, longest), min(image.height, longest)))
            long = longest
        rest = side * long // short
        return image.resize((side, rest) if image.width <= image.height else (rest, side), how)

    def _fit(self, image: Image.Image, size: tuple[int, int]) -> Image.Image:
        how = INTERPOLATIONS[self.interpolation]
        if self.resize == "squash":
            return image.resize(size, how)
        scales = (size[0] / image.width, size[1] / image.height)
        scale = max(scales) if self.resize == "crop" else min(scales)
        if self.resize == "crop":  # cut first, then resize: resizes no pixel that is thrown away
            w, h = size[0] / scale, size[1] / scale
            # Rounding may put an edge outside by one part in 10^16, which Pillow refuses.
            left, top = max(0.0, (image.width - w) / 2), max(0.0, (image.height - h) / 2)
            box = (left, top, min(image.width, left + w), min(image.height, top + h))
            return image.resize(size, how, box=box)
        inner = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        canvas = Image.new(image.mode, size, 255 if self.channels == 1 else BACKGROUND)
        corner = ((size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2)
        canvas.paste(image.resize(inner, how), corner)
        return canvas

    def normalize(self, images: Tensor) -> Tensor:
        """Return uint8 images (B, H, W, C) as float x (B, C, H, W) in NHWC memory order."""
        mean, std = _levels(self.mean, self.std, images.shape[2], images.device)
        lines = images.flatten(2).float()  # long enough for vector instructions, as C is not
        # permute only renames the axes: the memory stays NHWC, which convolutions on CPUs prefer.
        return ((lines - mean) / std).view(images.shape).permute(0, 3, 1, 2)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Self:
        """Read what `to_dict` gave.

        Raises:
            DataError: a missing or foreign field, or a value that is out of bounds.
        """
        try:
            if not all(isinstance(fields[name], list | tuple) for name in ("mean", "std")):
                raise TypeError(tr("mean and std are lists of numbers"))
            lists = {name: tuple(fields[name]) for name in ("mean", "std")}
            return cls(**{**fields, **lists})
        except (TypeError, KeyError, UsageError) as error:
            raise DataError(
                "the model file's preprocessing is not understood: {error}", error=error
            ) from error


def _middle(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Return the middle (width, height) of a larger picture; halves round to even."""
    left, top = round((image.width - size[0]) / 2), round((image.height - size[1]) / 2)
    return image.crop((left, top, left + size[0], top + size[1]))


def _require(ok: bool, name: str, value: object, allowed: str) -> None:
    if not ok:
        raise UsageError(
            "{name} is {value}; allowed: {allowed}",
            name=name,
            value=str(value)[:80],
            allowed=allowed,
        )


@functools.lru_cache(maxsize=8)
def _levels(
    mean: tuple[float, ...], std: tuple[float, ...], width: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Return mean and std on the scale of bytes, each (W * C,): for a line of pixels.

    Kept, since copying to a GPU waits for it.
    """
    mean_WC, std_WC = (torch.tensor((mean, std), device=device) * 255).repeat(1, width)
    return mean_WC, std_WC
