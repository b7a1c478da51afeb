"""Near duplicates: copies of one picture that were resized, re-encoded, mirrored or recoloured.

Two steps, since either alone is wrong. A difference hash (N. Krawetz, "Kind of Like That", 2013:
one bit per pair of neighbouring cells, set where the right or the lower one is brighter) finds
candidates without comparing every pair: only pictures that agree in one whole band of bits are
compared (multi-index hashing, arXiv 1307.2982). The correlation of small colour pictures then
throws out those that share a layout only, such as two meadows under a bright sky.

The limits were chosen by looking at pairs of photographs and of CIFAR-10.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from nunbit.data.preprocess import LUMA
from nunbit.data.rows import Images
from nunbit.data.stats import digests

Floats = np.ndarray[Any, np.dtype[np.float32]]
Ints = np.ndarray[Any, np.dtype[np.int64]]
Bits = np.ndarray[Any, np.dtype[np.bool_]]

CELLS = 8  # a side: 8 x 8 differences to the right and as many downwards are 128 bits
MIN_STEP = 4.0  # levels of 255; on a plain ground smaller differences are noise of the coding
NEIGHBOURS = 32  # compared within a band, so that 10,000 frames of one camera do not take hours
GREY = np.array(LUMA, dtype=np.float32)
THUMBNAIL = 16  # side in pixels of what is correlated
MIN_CONTRAST = 4.0  # standard deviation in levels; below it a picture is noise around one colour
# Digits, X-rays or drawings look alike without being copies: there 1 % of all pairs correlate above
# this (MNIST 0.78, digits 0.89; photographs 0.57, CIFAR-10 0.60), and only true copies count.
ALIKE = 0.70
NEARLY_EQUAL = 0.98  # such pairs are duplicates and say nothing about how alike the others are
SAMPLE = 1000  # pictures whose pairs decide it
BATCH = 1024  # pairs at once, to bound the memory
SHRUNK_AT_ONCE = 32  # pictures: of 128 pixels they stay in the cache
POPCOUNT = np.array([value.bit_count() for value in range(256)], dtype=np.uint8)


@dataclass(frozen=True)
class _Limits:
    """What two pictures must share to be one."""

    correlation: float
    """Least correlation of the small pictures."""
    bits: int
    """Most different bits of 128; copies of photographs have 0 to 10, unrelated ones 62 +- 8."""
    band: int
    """Bits that must agree in a row: bands of 16 find any pair that differs in 7 bits or fewer."""


PHOTOGRAPHS = _Limits(correlation=0.90, bits=16, band=16)
LOOK_ALIKES = _Limits(correlation=0.995, bits=8, band=32)


def group_near_duplicates(images: Images) -> Ints:
    """Return a group number per picture, int64 (N,); near duplicates and equals share one.

    A group's number is the position of its first picture. Pictures of one colour are grouped with
    their equals only.

    Args:
        images: uint8 (N, H, W, C), C 1 or 3, all decoded to one size.
    """
    roots = np.arange(len(images))
    for i, j in [*_equal_pairs(images), *near_pairs(images).tolist()]:
        a, b = _root(roots, i), _root(roots, j)
        roots[max(a, b)] = min(a, b)
    return np.array([_root(roots, i) for i in range(len(images))], dtype=np.int64)


def near_pairs(images: Images) -> Ints:
    """Return sorted pairs of positions i < j that look alike, int64 (P, 2).

    Where more than `NEIGHBOURS` pictures look alike, a chain of pairs joins them, not each pair.

    Args:
        images: uint8 (N, H, W, C), C 1 or 3.
    """
    if len(images) < 2:
        return np.empty((0, 2), dtype=np.int64)
    small_NTTC, cells_NGG = _shrink(images)
    centred = small_NTTC - small_NTTC.mean(axis=(1, 2), keepdims=True)
    norms = np.linalg.norm(centred.reshape(len(images), -1), axis=1)
    kept = np.flatnonzero(norms >= MIN_CONTRAST * np.sqrt(centred[:1].size))
    if len(kept) < 2:
        return np.empty((0, 2), dtype=np.int64)
    unit = centred[kept] / norms[kept, None, None, None]
    cells = cells_NGG[kept]
    limits = _limits(unit)
    bits_RB = np.concatenate([_difference_bits(cells), _difference_bits(cells[:, :, ::-1])])
    i, j, is_mirrored = _candidates(bits_RB, limits)
    alike = np.zeros(len(i), dtype=bool)
    for start in range(0, len(i), BATCH):
        at = slice(start, start + BATCH)
        other = unit[j[at]]
        other = np.where(is_mirrored[at, None, None, None], other[:, :, ::-1], other)
        alike[at] = np.einsum("nhwc,nhwc->n", unit[i[at]], other) >= limits.correlation
    pairs: Ints = np.unique(kept[np.stack([i, j], axis=1)[alike]], axis=0)
    return pairs


def _shrink(images: Images) -> tuple[Floats, Floats]:
    """Return area means: colour (N, T, T, C) for the correlation, grey (N, G, G) for the bits."""
    count, height, width, channels = images.shape
    small = np.empty((count, THUMBNAIL, THUMBNAIL, channels), dtype=np.float32)
    cells = np.empty((count, CELLS + 1, CELLS + 1), dtype=np.float32)
    to_grey = GREY if channels == 3 else np.ones(1, dtype=np.float32)
    shares = np.concatenate([_shares(height, THUMBNAIL), _shares(height, CELLS + 1)])
    for start in range(0, count, SHRUNK_AT_ONCE):
        at = slice(start, start + SHRUNK_AT_ONCE)
        part = images[at].numpy().astype(np.float32).reshape(-1, height, width * channels)
        rows = (shares @ part).reshape(len(part), len(shares), width, channels)
        small[at] = _shares(width, THUMBNAIL) @ rows[:, :THUMBNAIL]
        cells[at] = (_shares(width, CELLS + 1) @ rows[:, THUMBNAIL:]) @ to_grey
    return small, cells


def _shares(length: int, cells: int) -> Floats:
    """Return (cells, length): which share of each cell lies in each pixel; rows sum to 1."""
    edges = np.arange(cells + 1) * (length / cells)
    pixels = np.arange(length)
    ends = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    shares: Floats = (np.clip(ends, 0, None) * (cells / length)).astype(np.float32)
    return shares


def _difference_bits(cells_NGG: Floats) -> Bits:
    """Return the difference hash, bool (N, 128)."""
    here = cells_NGG[:, :CELLS, :CELLS] + MIN_STEP
    right, down = cells_NGG[:, :CELLS, 1:] > here, cells_NGG[:, 1:, :CELLS] > here
    return np.stack([right, down], axis=1).reshape(len(cells_NGG), -1)


def _limits(unit_NTTC: Floats) -> _Limits:
    """Return what makes two of these pictures one, by how alike all of them are."""
    sample = unit_NTTC[:: -(-len(unit_NTTC) // SAMPLE)].reshape(-1, unit_NTTC[0].size)
    pairs = (sample @ sample.T)[np.triu_indices(len(sample), 1)]
    others = pairs[pairs < NEARLY_EQUAL]
    look_alike = len(others) > 0 and float(np.quantile(others, 0.99)) > ALIKE
    return LOOK_ALIKES if look_alike else PHOTOGRAPHS


def _candidates(bits_RB: Bits, limits: _Limits) -> tuple[Ints, Ints, Bits]:
    """Return positions i < j whose hashes agree, and whether j agrees mirrored only.

    Args:
        bits_RB: 2 N rows: the hashes of N pictures, then of the same pictures mirrored.
        limits: how far they must agree.
    """
    count = len(bits_RB) // 2
    packed = np.packbits(bits_RB, axis=1)
    found = [np.empty(0, dtype=np.int64)]
    for first_bit in range(0, bits_RB.shape[1], limits.band):
        turned = np.ascontiguousarray(np.roll(packed, -first_bit // 8, axis=1)).view(">u8")
        order = np.lexsort(turned.T[::-1])  # this band first; the rest orders its bucket
        keys = turned[order, 0] >> np.uint64(64 - limits.band)
        for step in range(1, NEIGHBOURS + 1):
            same = np.flatnonzero(keys[step:] == keys[:-step])
            if not len(same):
                break
            a, b = order[same], order[same + step]
            near = POPCOUNT[packed[a] ^ packed[b]].sum(axis=1, dtype=np.int64) <= limits.bits
            a, b = a[near], b[near]
            is_mirrored = (a < count) != (b < count)
            i, j = np.minimum(a % count, b % count), np.maximum(a % count, b % count)
            found.append(((i * count + j) * 2 + is_mirrored)[i != j])
    pairs = np.unique(np.concatenate(found))
    return pairs // 2 // count, pairs // 2 % count, pairs % 2 == 1


def _equal_pairs(images: Images) -> list[tuple[int, int]]:
    """Return (first, copy) for every picture that occurred before."""
    first: dict[str, int] = {}
    found = digests(images)
    return [(at, i) for i, digest in enumerate(found) if (at := first.setdefault(digest, i)) < i]


def _root(roots: Ints, i: int) -> int:
    """Return the first of a group, halving the path to it (union-find)."""
    while roots[i] != i:
        roots[i] = roots[roots[i]]
        i = int(roots[i])
    return i
