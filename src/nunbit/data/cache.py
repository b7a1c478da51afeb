"""Decoded pictures on disk, found again by the content of their files and mapped into memory.

A kept set is one file that never changes once it is there: the pixels of its pictures from its
first byte on, then a table with one entry a picture: the sha256 of the picture's file and the
digest of its pixels. The file's name is the sha256 of the table, so that a cut or foreign file is
noticed when it is opened; pixels are compared with their digests when they are used. Nothing in it
is trusted, so it needs no fsync: what a power cut took is decoded again.

There is a folder for everything but the file that decides a pixel: size, way of resizing, versions
of Pillow and its libraries, and `DECODE_VERSION`.
"""

import contextlib
import hashlib
import json
import os
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL
from PIL import features

from nunbit.data.decode import DECODE_VERSION
from nunbit.data.download import cache_folder
from nunbit.data.pictures import Pixels
from nunbit.data.preprocess import Preprocess
from nunbit.data.room import asked_limit, cache_limit
from nunbit.data.stats import DIGEST_BYTES

KEY_BYTES = 32
NO_KEY = bytes(KEY_BYTES)  # a picture that was not read, or is too large a file to be hashed whole
UNREADABLE = "0" * 2 * DIGEST_BYTES  # instead of the digest of pixels
SUFFIX = ".pixels"
LITTER_SECONDS = 3600.0  # a file that nobody has written to for so long has lost its writer
LIBRARIES = ("libjpeg_turbo", "jpg", "zlib", "webp")


def pixels_folder() -> Path:
    """Return where decoded pictures are kept; it may be deleted at any time."""
    return cache_folder() / "pictures"


def key_of(content: bytes) -> bytes:
    """Return the key of a picture's file, whatever its name."""
    return hashlib.sha256(content).digest()


@dataclass(frozen=True)
class KeptSet:
    """A set that was decoded before."""

    file: Path
    pixels: Pixels
    """(N, H, W, C), mapped; to be compared with `digests` before use."""
    digests: list[str]
    """`UNREADABLE` where the picture could not be decoded."""
    row_of: dict[bytes, int]
    """Where the pixels of a picture's file are, by its key."""

    def forget(self) -> None:
        """Delete it; who has mapped it keeps what is mapped."""
        _delete(self.file)


class PixelCache:
    """The sets that were decoded in one way."""

    def __init__(self, preprocess: Preprocess) -> None:
        """Find the folder; nothing is written.

        Raises:
            UsageError: NUNBIT_CACHE_GB is no size.
        """
        asked_limit()
        p = preprocess
        self.shape = (p.height, p.width, p.channels)
        facts = [
            *self.shape, p.resize, p.interpolation, p.resize_to, DECODE_VERSION, PIL.__version__,
            *map(features.version, LIBRARIES),
        ]  # fmt: skip  # all that a pixel depends on but the picture's file
        self.folder = pixels_folder() / hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]

    def is_empty(self) -> bool:
        """Return whether there is nothing that a picture could be looked up in."""
        return asked_limit() == 0 or not self._files()

    def best(self, keys: Sequence[bytes]) -> KeptSet | None:
        """Return the set that knows most of these pictures, and mark it as used."""
        wanted = set(keys) - {NO_KEY}
        best, most = None, 0
        for file in self._files():
            kept = _open(file, self.shape)
            hits = len(wanted & kept.row_of.keys()) if kept is not None else 0
            if hits > most:
                best, most = kept, hits
            if most == len(wanted):
                break
        if best is not None:
            with contextlib.suppress(OSError):
                os.utime(best.file)
        return best

    def has_room(self, count: int) -> bool:
        """Return whether a set of `count` pictures may be kept; creates the folder."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            used = sum(size for _, size, _ in _kept_files())
            return count * int(np.prod(self.shape)) <= cache_limit(self.folder, used)
        except OSError:
            return False

    def _files(self) -> list[Path]:
        """Return the files of the sets, the last used first."""
        found = [(used_at, file) for used_at, _, file in _kept_files(self.folder)]
        return [file for _, file in sorted(found, reverse=True) if not _is_draft(file)]


class Draft:
    """A set that is being written; several threads may put rows at once.

    Rows are written and not mapped: on a full disk a write fails, and a mapping kills the process.
    """

    def __init__(self, cache: PixelCache, count: int) -> None:
        """Create a temporary file.

        Raises:
            OSError: the cache folder cannot be written.
        """
        cache.folder.mkdir(parents=True, exist_ok=True)
        self.path = cache.folder / f".{secrets.token_hex(8)}{SUFFIX}.tmp"
        self._shape = (count, *cache.shape)
        self._file = self.path.open("xb", buffering=0)

    def put(self, start: int, rows: Pixels) -> None:
        """Write pictures (B, H, W, C) from position `start` on.

        Raises:
            OSError: the disk is full.
        """
        self._write(rows.data.cast("B"), start * int(np.prod(self._shape[1:])))

    def publish(self, keys: Sequence[bytes], digests: Sequence[str]) -> bool:
        """Give the set its name, and return whether that was possible."""
        table = b"".join(k + bytes.fromhex(d) for k, d in zip(keys, digests, strict=True))
        name = self.path.with_name(hashlib.sha256(table).hexdigest() + SUFFIX)
        try:
            self._write(memoryview(table), int(np.prod(self._shape)))
            self.path.replace(name)
            self.path = name
            evict(name)
        except OSError:  # a cache that cannot be written is none
            return False
        return True

    def pixels(self) -> Pixels:
        """Return what was put, mapped; the mapping outlives the file's name."""
        return _map(self.path, self._shape)

    def close(self) -> None:
        """Remove the file, if it was not published."""
        self._file.close()
        if _is_draft(self.path):
            _delete(self.path)

    def _write(self, data: memoryview, offset: int) -> None:
        while data:
            written = os.pwrite(self._file.fileno(), data, offset)
            data, offset = data[written:], offset + written


def keep(cache: PixelCache, pixels: Pixels, keys: Sequence[bytes], digests: Sequence[str]) -> bool:
    """Keep a set that is in memory, and return whether that was possible."""
    if not cache.has_room(len(pixels)):
        return False
    try:
        draft = Draft(cache, len(pixels))
        try:
            draft.put(0, pixels)
            return draft.publish(keys, digests)
        finally:
            draft.close()
    except OSError:
        return False


def evict(newest: Path) -> None:
    """Delete the sets that were not used for longest until the rest is within the limit.

    Args:
        newest: a set that stays, since `has_room` let it in.
    """
    files = sorted(_kept_files(), key=lambda found: (found[2] == newest, found[0]), reverse=True)
    limit, total = cache_limit(pixels_folder(), sum(size for _, size, _ in files)), 0
    for used_at, size, file in files:
        if _is_draft(file):
            is_wanted = used_at > time.time() - LITTER_SECONDS
        else:
            total += size
            is_wanted = file == newest or total <= limit
        if not is_wanted:
            _delete(file)
            with contextlib.suppress(OSError):  # it holds other sets
                file.parent.rmdir()


def _is_draft(file: Path) -> bool:
    return file.suffix == ".tmp"


def _kept_files(folder: Path | None = None) -> list[tuple[float, int, Path]]:
    """Return (time of last use, bytes, file) of all sets and drafts, or of those in one folder."""
    found = []
    with contextlib.suppress(OSError):
        for file in (folder or pixels_folder()).glob(f"{'' if folder else '*/'}*{SUFFIX}*"):
            with contextlib.suppress(OSError):  # another process has just deleted it
                stat = file.stat()
                found.append((stat.st_mtime, stat.st_size, file))
    return found


def _open(file: Path, shape: tuple[int, int, int]) -> KeptSet | None:
    """Map a kept set; what is no such set is deleted."""
    row_bytes, entry_bytes = int(np.prod(shape)), KEY_BYTES + DIGEST_BYTES
    try:
        with file.open("rb") as opened:
            size = os.fstat(opened.fileno()).st_size
            count = size // (row_bytes + entry_bytes)
            opened.seek(count * row_bytes)
            table = opened.read()
            if not count or hashlib.sha256(table).hexdigest() != file.name.removesuffix(SUFFIX):
                _delete(file)
                return None
            pixels = _map(file, (count, *shape))
    except (OSError, ValueError):  # deleted meanwhile, or not ours to read
        return None
    entries = [table[i : i + entry_bytes] for i in range(0, len(table), entry_bytes)]
    row_of = {entry[:KEY_BYTES]: row for row, entry in enumerate(entries)}
    row_of.pop(NO_KEY, None)
    return KeptSet(file, pixels, [entry[KEY_BYTES:].hex() for entry in entries], row_of)


def _map(file: Path, shape: tuple[int, ...]) -> Pixels:
    # Copy on write: torch wants arrays that can be written, and the file must not change.
    mapped: Pixels = np.memmap(file, dtype=np.uint8, mode="c", shape=shape).view(np.ndarray)
    return mapped


def _delete(file: Path) -> None:
    with contextlib.suppress(OSError):
        file.unlink(missing_ok=True)
