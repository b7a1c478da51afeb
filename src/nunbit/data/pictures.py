"""The two states of a set of pictures: as found (`Pictures`) and in memory (`ImageSet`)."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from nunbit.data.decode import BadPictureError, decode, quiet_pillow
from nunbit.data.preprocess import Preprocess
from nunbit.data.stats import digests
from nunbit.language import tr

Pixels = np.ndarray[Any, np.dtype[np.uint8]]
Item = Path | bytes | Pixels
Track = Callable[[Iterable[Any], int, str], Iterator[Any]]


@dataclass(frozen=True)
class Pictures:
    """Labelled pictures as a source gives them."""

    items: Sequence[Path | bytes] | Pixels
    """Files, bytes of files, or uint8 (N, H, W, C)."""
    labels: np.ndarray[Any, np.dtype[np.int64]]
    names: Sequence[str]

    def __len__(self) -> int:
        return len(self.items)

    def select(self, indices: np.ndarray[Any, Any]) -> "Pictures":
        """Return the pictures at these positions, in their order."""
        items = self.items
        chosen = items[indices] if isinstance(items, np.ndarray) else [items[i] for i in indices]
        return Pictures(chosen, self.labels[indices], [self.names[i] for i in indices])


@dataclass(frozen=True)
class Source:
    """An opened data source: its classes, and the parts that it comes in."""

    spec: str
    class_names: tuple[str, ...]
    parts: dict[str, Pictures]
    """Keys: "all" where the source has no split, else "train", "val", "test" as far as given."""
    channels: int = 3
    is_published: bool = False
    """A known set whose splits others measure on too: they are never changed."""
    ignored: tuple[str, ...] = ()
    """Files that are no pictures by their names, for the record."""


@dataclass(frozen=True)
class ImageSet:
    """Pictures in memory, all of one size."""

    images: Tensor
    """uint8 (N, H, W, C)."""
    labels: Tensor
    """int64 (N,)."""
    names: Sequence[str]
    digests: Sequence[str]
    """One per picture, equal for equal pixels."""

    def __len__(self) -> int:
        return len(self.labels)

    def select(self, indices: Tensor) -> "ImageSet":
        """Return the pictures at these positions, in their order."""
        at = indices.tolist()
        names, digests = [self.names[i] for i in at], [self.digests[i] for i in at]
        return ImageSet(self.images[indices], self.labels[indices], names, digests)


@dataclass(frozen=True)
class Skipped:
    """A picture that could not be read."""

    name: str
    reason: str


@dataclass
class Loaded:
    """What `load` read, and what it could not."""

    images: ImageSet
    skipped: list[Skipped] = field(default_factory=list)


def load(pictures: Pictures, preprocess: Preprocess, threads: int, track: Track) -> Loaded:
    """Decode and resize pictures once, in parallel (Pillow works outside Python's lock).

    Args:
        pictures: what to read.
        preprocess: gives size and channels; its statistics are not used here.
        threads: decoding threads.
        track: shows progress: (items, total, label) -> items.
    """
    shape = (len(pictures), preprocess.height, preprocess.width, preprocess.channels)
    items, is_whole = pictures.items, not preprocess.resize_to
    if isinstance(items, np.ndarray) and items.shape == shape and is_whole:
        return Loaded(_in_memory(items, pictures))
    pixels = np.empty(shape, dtype=np.uint8)
    skipped: dict[int, Skipped] = {}

    def read(index: int) -> None:
        try:
            pixels[index] = preprocess.to_pixels(as_image(pictures.items[index], preprocess))
        except BadPictureError as error:
            skipped[index] = Skipped(pictures.names[index], str(error))

    with quiet_pillow(), ThreadPoolExecutor(threads) as pool:
        for _ in track(pool.map(read, range(len(pictures))), len(pictures), tr("reading pictures")):
            pass
    images = _in_memory(pixels, pictures)
    if skipped:
        kept = [i for i in range(len(pictures)) if i not in skipped]
        images = images.select(torch.tensor(kept, dtype=torch.long))  # perhaps none
    return Loaded(images, [skipped[i] for i in sorted(skipped)])


def _in_memory(pixels: Pixels, pictures: Pictures) -> ImageSet:
    """Return pixels with the pictures' labels and names; IDX files give read-only arrays."""
    images = torch.from_numpy(pixels if pixels.flags.writeable else pixels.copy())
    return ImageSet(images, torch.from_numpy(pictures.labels), pictures.names, digests(images))


def as_image(item: Item, preprocess: Preprocess) -> Image.Image:
    """Return one item as a Pillow picture.

    Raises:
        BadPictureError: it cannot be read.
    """
    if isinstance(item, np.ndarray):
        return array_to_image(item)
    return decode(item, preprocess.mode, preprocess.near_side)


def printable(path: str) -> str:
    """Return a file name as text that can be written; names that are not UTF-8 get backslashes."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def array_to_image(array: np.ndarray[Any, Any]) -> Image.Image:
    """Return a uint8 array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) as a Pillow picture.

    Raises:
        BadPictureError: another type or shape; floats are refused since their range is unknown.
    """
    if array.dtype != np.uint8:
        raise BadPictureError(
            "an array of {dtype}; allowed: uint8 from 0 to 255", dtype=array.dtype
        )
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.size == 0 or not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))):
        raise BadPictureError(
            "an array of shape {shape}; allowed: (H, W), (H, W, 1|3|4)", shape=array.shape
        )
    return Image.fromarray(array)
