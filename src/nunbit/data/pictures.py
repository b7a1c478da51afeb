"""The two states of a set of pictures: as found (`Pictures`) and as pixels (`ImageSet`)."""

import os
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from nunbit.data.decode import BadPictureError, decode
from nunbit.data.preprocess import Preprocess
from nunbit.data.rows import Images, choose
from nunbit.errors import NunbitError, UsageError
from nunbit.language import mark, tr, trn

MAX_CLASSES = 100_000
MAX_NAME = 255  # characters of a class name, as in names of folders

Pixels = np.ndarray[Any, np.dtype[np.uint8]]
Item = Path | bytes | Pixels
Track = Callable[[Iterable[Any], int, str], Iterator[Any]]


def untracked(items: Iterable[Any], _total: int, _label: str) -> Iterator[Any]:
    """Return the items; a `Track` that shows nothing."""
    return iter(items)


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
        chosen = items[indices] if isinstance(items, np.ndarray) else _Chosen(items, indices)
        return Pictures(chosen, self.labels[indices], [self.names[i] for i in indices])


class _Chosen(Sequence[Path | bytes]):
    """Some of a sequence, taken when they are asked for: those of parquet are not all in memory."""

    def __init__(self, items: Sequence[Path | bytes], indices: np.ndarray[Any, Any]) -> None:
        self._items, self._indices = items, indices.tolist()

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, at: Any) -> Any:
        return self._items[self._indices[at]]


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
    """What lies among the pictures and is not used: other files, pictures of no class, links."""


@dataclass(frozen=True)
class ImageSet:
    """Pictures of one size, in memory or mapped from a file."""

    images: Images
    """uint8 (N, H, W, C): index it, or take `batches`."""
    labels: Tensor
    """int64 (N,)."""
    names: Sequence[str]
    digests: Sequence[str]
    """One per picture, equal for equal pixels."""

    def __len__(self) -> int:
        return len(self.labels)

    def select(self, indices: Tensor) -> "ImageSet":
        """Return the pictures at these positions, in their order; no pixels are copied."""
        at = indices.tolist()
        names, digests = [self.names[i] for i in at], [self.digests[i] for i in at]
        return ImageSet(choose(self.images, indices), self.labels[indices], names, digests)


@dataclass(frozen=True)
class Skipped:
    """A picture that could not be read."""

    name: str
    reason: str


@dataclass(frozen=True)
class Reading:
    """Where the pixels of pictures came from, and where they are; counts of pictures."""

    decoded: int = 0
    """Decoded from their files now."""
    cached: int = 0
    """Decoded by an earlier run and kept."""
    given: int = 0
    """Pixels from the beginning: nothing had to be decoded."""
    kept: int = 0
    """In a set that this run wrote into the cache."""
    mapped: int = 0
    """Mapped from a file, so that they need no memory of their own; the others are in memory."""

    def __add__(self, other: "Reading") -> "Reading":
        return Reading(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def line(self) -> str:
        """Say it in a few words."""
        if self.cached and self.decoded:
            said = tr(
                "{cached:,} pictures from the cache, {decoded:,} decoded",
                cached=self.cached,
                decoded=self.decoded,
            )
        elif self.cached:
            said = trn(
                "{count} picture from the cache", "{count} pictures from the cache", self.cached
            )
        elif self.kept:
            said = trn(
                "{count} picture decoded and kept",
                "{count} pictures decoded and kept",
                self.decoded,
            )
        elif self.mapped:
            said = trn("{count} picture mapped", "{count} pictures mapped", self.mapped)
        else:
            count = self.decoded + self.given
            said = trn("{count} picture in memory", "{count} pictures in memory", count)
        return said


@dataclass
class Loaded:
    """What `load` read, and what it could not."""

    images: ImageSet
    skipped: list[Skipped] = field(default_factory=list)
    reading: Reading = field(default_factory=Reading)


def as_image(item: Item, preprocess: Preprocess) -> Image.Image:
    """Return one item as a Pillow picture.

    Raises:
        BadPictureError: it cannot be read.
    """
    if isinstance(item, np.ndarray):
        return array_to_image(item)
    return decode(item, preprocess.mode, preprocess.near_side)


def require_class_names(names: Any, kind: type[NunbitError]) -> None:
    """Refuse what is not a list of different names, which a model file could not hold.

    Raises:
        NunbitError: of the given kind, with what is allowed.
    """
    is_list = isinstance(names, list | tuple) and 0 < len(names) <= MAX_CLASSES
    wrong = [name for name in names if not _is_class_name(name)] if is_list else []
    if not is_list or wrong:
        raise kind(
            mark("class names are 1 to {max_classes:,} texts of 1 to {max_name} characters{found}"),
            max_classes=MAX_CLASSES,
            max_name=MAX_NAME,
            found=tr("; found {name}", name=ascii(wrong[0])[:60]) if wrong else "",
        )
    twice, count = Counter(names).most_common(1)[0]
    if count > 1:
        text = mark("two classes are named '{twice}'; class names are all different")
        raise kind(text, twice=twice)


def _is_class_name(name: object) -> bool:
    if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME:
        return False
    return not any("\ud800" <= character <= "\udfff" for character in name)  # halves of a pair


def printable(path: str) -> str:
    """Return a file name as text that can be written; names that are not UTF-8 get backslashes."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def composed(name: str) -> str:
    """Return a name in the one spelling that is compared: Unicode's composed form (NFC).

    Archives of macOS hold the other one (NFD), which looks the same and is other characters.
    """
    return unicodedata.normalize("NFC", name)


def require_text(path: str | Path) -> None:
    """Refuse a file name that cannot be written as UTF-8, as JSON and model files must.

    Raises:
        UsageError: it cannot.
    """
    if printable(str(path)) != str(path):
        raise UsageError(
            "{path} is not in UTF-8; rename it, or give a link to it", path=printable(str(path))
        )


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
