"""All pictures of a source, read once: the facts of their files, and their pixels at one size."""

import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, JpegImagePlugin

from nunbit.data.decode import FORMATS, ORIENTATION, PILLOW_ERRORS, quiet_pillow
from nunbit.data.joined import Joined
from nunbit.data.pictures import Item, Pictures, Pixels, Source, Track
from nunbit.data.pixels import load
from nunbit.data.preprocess import Preprocess
from nunbit.language import tr

Ints = np.ndarray[Any, np.dtype[np.int64]]
Floats = np.ndarray[Any, np.dtype[np.float32]]

SIDES = (128, 96, 64)  # pixels; the largest whose pictures fit `MAX_BYTES`
MAX_BYTES = 1 << 30
# The sum of the standard luminance table of quality 50 (JPEG standard, annex K). The tables of
# other qualities are multiples of it (libjpeg, jcparam.c), so sums give the quality back.
STANDARD_SUM = 3688


@dataclass(frozen=True)
class FileFacts:
    """What a file says of itself before its pixels are decoded."""

    num_bytes: int
    kind: str
    """JPEG, PNG, WEBP, GIF or BMP, by its content."""
    mode: str
    """Pillow's name for its channels: RGB, L, CMYK, P, I;16, ..."""
    width: int
    height: int
    jpeg_quality: int
    """0 to 100 as libjpeg counts it; 0 for other kinds."""
    is_turned: bool
    """Its EXIF orientation asks for a turn."""
    num_frames: int


@dataclass(frozen=True)
class Examination:
    """The pictures of all parts of a source, in one row.

    Arrays over readable pictures have R rows, in the order of `readable`; everything else has N.
    """

    source: Source
    items: Sequence[Item]
    names: Sequence[str]
    parts: Sequence[str]
    """all, train, val or test."""
    labels: np.ndarray[Any, np.dtype[np.int64]]
    files: Sequence[FileFacts | None]
    """None for arrays and for files that are no pictures."""
    faults: dict[int, str]
    """Why pictures cannot be read, by their positions."""
    readable: np.ndarray[Any, np.dtype[np.int64]]
    """Positions of the readable pictures."""
    images: Pixels
    """uint8 (R, H, W, C), of one size, whatever the aspect ratio."""
    digests: Sequence[str]
    """One per readable picture, equal for equal pixels."""

    def __len__(self) -> int:
        return len(self.names)

    def describe(self, i: int) -> dict[str, str]:
        """Return what a picture is called, for JSON."""
        label = self.source.class_names[self.labels[i]]
        return {"path": self.names[i], "label": label, "part": self.parts[i]}

    @cached_property
    def class_counts(self) -> dict[str, int]:
        """Readable pictures of each class."""
        return self._counts(self.readable)

    @cached_property
    def training_counts(self) -> dict[str, int]:
        """Readable pictures of each class that train would train on, or split itself."""
        is_trained = np.isin(np.array(self.parts)[self.readable], ("train", "all"))
        return self._counts(self.readable[is_trained])

    def _counts(self, positions: Ints) -> dict[str, int]:
        names = self.source.class_names
        counts = np.bincount(self.labels[positions], minlength=len(names)).tolist()
        return dict(zip(names, counts, strict=True))


def examine(source: Source, threads: int, track: Track) -> Examination:
    """Read every picture of a source.

    Args:
        source: what to read; nothing of it is changed.
        threads: for decoding.
        track: shows progress, (items, total, label) -> items.
    """
    items = _Items(source)
    names = [name for part in source.parts.values() for name in part.names]
    labels = np.concatenate([part.labels for part in source.parts.values()])
    with quiet_pillow():
        files = [file_facts(item) for item in track(items, len(items), tr("reading headers"))]
    height, width = _size(items, files)
    preprocess = Preprocess(
        height=height,
        width=width,
        channels=source.channels,
        resize="squash",
        mean=(0.0,) * source.channels,
        std=(1.0,) * source.channels,
    )
    loaded = load(_together(source, items, names, labels), preprocess, threads, track)
    reasons = {fault.name: fault.reason for fault in loaded.skipped}
    faults = {i: reasons[name] for i, name in enumerate(names) if name in reasons}
    return Examination(
        source=source,
        items=items,
        names=names,
        parts=[part for part, pictures in source.parts.items() for _ in range(len(pictures))],
        labels=labels,
        files=files,
        faults=faults,
        readable=np.array([i for i in range(len(names)) if i not in faults], dtype=np.int64),
        images=loaded.images.images[:].numpy(),
        digests=loaded.images.digests,
    )


def file_facts(item: Item) -> FileFacts | None:
    """Return the facts of a file, or of the bytes of one; None where it is no picture."""
    if isinstance(item, np.ndarray) or (isinstance(item, Path) and not os.path.isfile(item)):
        return None
    try:
        num_bytes = os.path.getsize(item) if isinstance(item, Path) else len(item)
        with Image.open(
            item if isinstance(item, Path) else io.BytesIO(item), formats=FORMATS
        ) as image:
            return FileFacts(
                num_bytes=num_bytes,
                kind="JPEG" if image.format == "MPO" else image.format or "",
                mode=image.mode,
                width=image.width,
                height=image.height,
                jpeg_quality=_jpeg_quality(image),
                is_turned=_is_turned(image),
                num_frames=_frames(image),
            )
    except (*PILLOW_ERRORS, Image.DecompressionBombError):
        return None


def _is_turned(image: Image.Image) -> bool:
    """Return whether EXIF asks for turning; damaged EXIF asks for nothing."""
    try:
        return bool(image.getexif().get(ORIENTATION, 1) != 1)
    except PILLOW_ERRORS:
        return False


def _frames(image: Image.Image) -> int:
    """Return the frames of an animation; the further pictures of a telephone's JPEG are none."""
    try:
        return 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
    except PILLOW_ERRORS:  # cut off after the first
        return 1


def _jpeg_quality(image: Image.Image) -> int:
    """Return the quality that libjpeg would have to be asked for to get the file's table."""
    if not isinstance(image, JpegImagePlugin.JpegImageFile) or not image.quantization:
        return 0
    percent = 100 * sum(image.quantization[min(image.quantization)]) / STANDARD_SUM
    return round(50 * 100 / percent if percent > 100 else (200 - percent) / 2)


class _Items(Joined[Item]):
    """The items of all parts of a source; those of parquet are read as they are asked for."""

    def __init__(self, source: Source) -> None:
        self._parts: list[Any] = [pictures.items for pictures in source.parts.values()]
        super().__init__(map(len, self._parts))

    def _item(self, part: int, at: int) -> Item:
        return self._parts[part][at]  # type: ignore[no-any-return]  # lists and arrays of items


def _together(
    source: Source, items: Sequence[Item], names: list[str], labels: np.ndarray[Any, Any]
) -> Pictures:
    """Return the pictures of all parts as one row; arrays stay arrays."""
    arrays = [part.items for part in source.parts.values() if isinstance(part.items, np.ndarray)]
    return Pictures(np.concatenate(arrays) if arrays else items, labels, names)  # type: ignore[arg-type]  # a source is all arrays or none


def _size(items: Sequence[Item], files: Sequence[FileFacts | None]) -> tuple[int, int]:
    """Return (height, width): the pictures' own if they share a small one, else a square's."""
    sizes = {(f.height, f.width) for f in files if f is not None}
    if isinstance(items[0], np.ndarray):  # a source is all arrays or none
        sizes |= {item.shape[:2] for item in items if isinstance(item, np.ndarray)}
    if len(sizes) == 1 and max(next(iter(sizes))) <= SIDES[0]:
        return next(iter(sizes))
    side = next((s for s in SIDES if 3 * s * s * len(items) <= MAX_BYTES), SIDES[-1])
    return side, side
