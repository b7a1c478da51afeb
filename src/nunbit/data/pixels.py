"""From pictures as found to pixels: looked up in the cache, decoded where it lacks them, kept.

Three ways, one result, bit for bit:
- what was decoded before is mapped from the cache;
- what fits is decoded into memory, and kept if that took long enough to be worth it;
- what does not fit is decoded into a file in the cache folder and mapped from there. Batches then
  read what they need, and the system's page cache holds as much of the file as there is memory for.
"""

import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import torch

from nunbit.data.cache import NO_KEY, UNREADABLE, Draft, KeptSet, PixelCache, keep, key_of
from nunbit.data.decode import BadPictureError, quiet_pillow, read_content
from nunbit.data.pictures import (
    ImageSet,
    Item,
    Loaded,
    Pictures,
    Pixels,
    Reading,
    Skipped,
    Track,
    as_image,
)  # fmt: skip
from nunbit.data.preprocess import Preprocess
from nunbit.data.room import free_memory
from nunbit.data.rows import Images, choose
from nunbit.data.stats import digests, digests_of
from nunbit.errors import StorageError
from nunbit.language import tr

KEEP_SECONDS = 1.0  # what is decoded faster is not worth a file
SHARE_OF_MEMORY = 0.5  # of what is free; the network and its activations need the rest
CHUNK = 16  # pictures per task: one each would cost small pictures a fifth of their time again


def load(pictures: Pictures, preprocess: Preprocess, threads: int, track: Track) -> Loaded:
    """Return pictures as pixels of one size.

    Args:
        pictures: what to read.
        preprocess: gives size and channels; its statistics are not used here.
        threads: decoding threads (Pillow decodes outside Python's lock).
        track: shows progress: (items, total, label) -> items.

    Raises:
        StorageError: the pictures fit neither into memory nor on the disk.
        UsageError: NUNBIT_CACHE_GB is no size.
    """
    items, count = pictures.items, len(pictures)
    shape = (count, preprocess.height, preprocess.width, preprocess.channels)
    if isinstance(items, np.ndarray) and items.shape == shape and not preprocess.resize_to:
        # IDX files give arrays that cannot be written, which torch refuses.
        images = torch.from_numpy(items if items.flags.writeable else items.copy())
        facts = (torch.from_numpy(pictures.labels), pictures.names, digests(images))
        return Loaded(ImageSet(images, *facts), reading=Reading(given=count))
    cache = None if isinstance(items, np.ndarray) else PixelCache(preprocess)
    with quiet_pillow():
        return _Loading(pictures, preprocess, _Pool(threads, track), cache).run()


@dataclass(frozen=True)
class _Pool:
    """Threads that work through a range of pictures in chunks."""

    threads: int
    track: Track

    def each(self, work: Callable[[range], object], count: int, label: str) -> None:
        """Call `work` with every chunk of `range(count)` and show progress by the picture."""
        chunks = [range(i, min(i + CHUNK, count)) for i in range(0, count, CHUNK)]

        def done(chunk: range) -> range:
            work(chunk)
            return chunk

        pool = ThreadPoolExecutor(self.threads)
        try:
            for _ in self.track(chain.from_iterable(pool.map(done, chunks)), count, label):
                pass
        finally:
            pool.shutdown(cancel_futures=True)


class _Memory:
    """Pixels in memory, put as into a `Draft`."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._pixels = np.empty(shape, dtype=np.uint8)

    def put(self, start: int, rows: Pixels) -> None:
        self._pixels[start : start + len(rows)] = rows

    def pixels(self) -> Pixels:
        return self._pixels


class _Loading:
    """One call of `load`: what is known of each picture so far."""

    def __init__(
        self, pictures: Pictures, preprocess: Preprocess, pool: _Pool, cache: PixelCache | None
    ) -> None:
        count = len(pictures)
        self.pictures, self.preprocess, self.pool, self.cache = pictures, preprocess, pool, cache
        self.shape = (count, preprocess.height, preprocess.width, preprocess.channels)
        self.keys = [NO_KEY] * count
        self.digests = [UNREADABLE] * count
        self.faults: dict[int, Skipped] = {}
        self.kept: KeptSet | None = None
        self.rows = np.full(count, -1, dtype=np.int64)  # in `kept`; -1 where it lacks the picture
        self.is_damaged = False

    def run(self) -> Loaded:
        if self.cache is not None and not self.cache.is_empty():
            self._look_up(self.cache)
        if self.kept is not None and self._knows_all(self.kept):
            base, at = torch.from_numpy(self.kept.pixels), torch.from_numpy(self.rows)
            is_whole = torch.equal(at, torch.arange(len(base)))
            good = len(at) - len(self.faults)
            reading = Reading(cached=good, mapped=good)
            return self._loaded(base if is_whole else choose(base, at), reading)
        pixels, is_kept, is_mapped = self._decode_all()
        good, cached = len(pixels) - len(self.faults), int((self.rows >= 0).sum())
        reading = Reading(
            decoded=good - cached,
            cached=cached,
            kept=good if is_kept else 0,
            mapped=good if is_mapped else 0,
        )
        return self._loaded(torch.from_numpy(pixels), reading)

    def _look_up(self, cache: PixelCache) -> None:
        """Find the kept set that has most of the pictures, and compare their pixels."""

        def find(chunk: range) -> None:
            for i in chunk:
                with suppress(BadPictureError):  # named when it is decoded
                    self._content(i)

        count = len(self.keys)
        self.pool.each(find, count, tr("looking up pictures"))
        self.kept = kept = cache.best(self.keys)
        if kept is None:
            return
        self.rows[:] = [kept.row_of.get(key, -1) for key in self.keys]

        def check(chunk: range) -> None:
            at = self.rows[chunk.start : chunk.stop]
            for i, row, found in zip(chunk, at, digests_of(kept.pixels[at]), strict=True):
                expected = kept.digests[row] if row >= 0 else UNREADABLE
                if found == expected:
                    self.digests[i] = found
                else:
                    self.rows[i] = -1
                    if expected != UNREADABLE:
                        self.is_damaged = True

        self.pool.each(check, count, tr("checking kept pictures"))
        if self.is_damaged:
            kept.forget()

    def _knows_all(self, kept: KeptSet) -> bool:
        """Return whether a kept set lacks only pictures that cannot be read, and say why not.

        Reasons are not kept: what could not be read is tried again.
        """
        lacking = [i for i, digest in enumerate(self.digests) if digest == UNREADABLE]
        unknown = (k for i in lacking if (k := self.keys[i]) != NO_KEY and k not in kept.row_of)
        if self.is_damaged or any(unknown):
            return False
        return all(self._decode(i) is None for i in lacking)

    def _decode_all(self) -> tuple[Pixels, bool, bool]:
        """Return all pixels, whether they were kept, and whether they are mapped."""
        cache, size, free = self.cache, math.prod(self.shape), free_memory()
        if cache is not None and size > SHARE_OF_MEMORY * free:
            try:
                return *self._to_disk(cache), True
            except OSError as error:
                if size > free:
                    raise StorageError(
                        "the pictures take {size:.1f} GB, {free:.1f} GB of memory are free, and "
                        "{folder} cannot take them: {strerror}; set NUNBIT_CACHE to a folder on a "
                        "larger disk, or --data.size to fewer pixels",
                        size=size / 1e9,
                        free=free / 1e9,
                        folder=cache.folder,
                        strerror=error.strerror or error,
                    ) from error
        start, memory = time.monotonic(), _Memory(self.shape)
        self._fill(memory)
        is_worth_it = self.is_damaged or time.monotonic() - start >= KEEP_SECONDS
        is_kept = (
            cache is not None
            and is_worth_it
            and keep(cache, memory.pixels(), self.keys, self.digests)
        )
        return memory.pixels(), is_kept, False

    def _to_disk(self, cache: PixelCache) -> tuple[Pixels, bool]:
        """Decode into a file of the cache folder; return its pixels, and whether it stays.

        Raises:
            OSError: the folder cannot be written, or the disk is full.
        """
        draft = Draft(cache, len(self.keys))
        try:
            try:
                self._fill(draft)
            finally:  # also what was decoded before a stop
                keys = [NO_KEY if self._is_open(i) else key for i, key in enumerate(self.keys)]
                is_kept = cache.has_room(len(keys)) and draft.publish(keys, self.digests)
            return draft.pixels(), is_kept
        finally:
            draft.close()

    def _is_open(self, i: int) -> bool:
        """Return whether a picture has neither pixels nor a reason why it cannot be read."""
        return self.digests[i] == UNREADABLE and i not in self.faults

    def _fill(self, target: _Memory | Draft) -> None:
        """Put the pixels of every picture, copied where they are known."""

        def fill(chunk: range) -> None:
            rows = np.zeros((len(chunk), *self.shape[1:]), dtype=np.uint8)
            good = [self._put(rows[i - chunk.start], i) for i in chunk]
            found = digests_of(rows)
            target.put(chunk.start, rows)
            for i, digest, is_good in zip(chunk, found, good, strict=True):
                self.digests[i] = digest if is_good else UNREADABLE

        self.digests = [UNREADABLE] * len(self.keys)  # also of what is kept: it is not there yet
        self.pool.each(fill, len(self.keys), tr("reading pictures"))

    def _put(self, row: Pixels, i: int) -> bool:
        """Write one picture into `row`, and return whether it can be read."""
        if self.kept is not None and self.rows[i] >= 0:
            row[:] = self.kept.pixels[self.rows[i]]
            return True
        pixels = None if i in self.faults else self._decode(i)
        if pixels is not None:
            row[:] = pixels
        return pixels is not None

    def _decode(self, i: int) -> Pixels | None:
        """Return the pixels of one picture; None is explained in `faults`."""
        try:
            return self.preprocess.to_pixels(as_image(self._content(i), self.preprocess))
        except BadPictureError as error:
            self.faults[i] = Skipped(self.pictures.names[i], str(error))
            return None

    def _content(self, i: int) -> Item:
        """Return a picture's file as it is now, as bytes if it is not too large, and note its key.

        What is decoded must be what was hashed: a file may change in between.

        Raises:
            BadPictureError: it is no file that can be opened.
        """
        item = self.pictures.items[i]
        content = read_content(item) if isinstance(item, Path) else item
        if self.cache is not None and isinstance(content, bytes):
            self.keys[i] = key_of(content)
        return item if content is None else content

    def _loaded(self, images: Images, reading: Reading) -> Loaded:
        labels = torch.from_numpy(self.pictures.labels)
        found = ImageSet(images, labels, self.pictures.names, self.digests)
        if self.faults:
            good = [i for i in range(len(found)) if i not in self.faults]
            found = found.select(torch.tensor(good, dtype=torch.long))  # perhaps none
        return Loaded(found, [self.faults[i] for i in sorted(self.faults)], reading)
