"""Facts measured on pictures: per-channel mean and standard deviation, and digests."""

import hashlib
from typing import Any

import numpy as np
import torch

from nunbit.data.rows import Images, batches

DIGEST_BYTES = 8  # of a picture's digest


def mean_and_std(images: Images) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and std per channel, over all pixels, of images scaled to [0, 1].

    Counting the 256 levels makes the result exact and independent of the order of summation. A
    constant channel gets std 1, so that dividing by it does no harm.

    Args:
        images: uint8 (N, H, W, C).
    """
    counts_CL = torch.zeros(images.shape[-1], 256, dtype=torch.float64)
    for batch in batches(images):  # bincount makes eight times as many bytes
        for channel, counts in enumerate(counts_CL):
            counts += torch.bincount(batch[..., channel].flatten(), minlength=256)
    levels = torch.arange(256, dtype=torch.float64) / 255
    means, stds = [], []
    for counts in counts_CL:
        share = counts / counts.sum()
        mean = float((share * levels).sum())
        std = float((share * (levels - mean) ** 2).sum().sqrt())
        means.append(mean)
        stds.append(std if std > 1e-6 else 1.0)
    return tuple(means), tuple(stds)


def digests(images: Images) -> list[str]:
    """Return 16 hexadecimal digits per picture, equal for equal pixels.

    Args:
        images: uint8 (N, H, W, C).
    """
    return [
        digest for batch in batches(images) for digest in digests_of(batch.contiguous().numpy())
    ]


def digests_of(rows: np.ndarray[Any, np.dtype[np.uint8]]) -> list[str]:
    """Return `digests` of an array (N, H, W, C) whose memory is contiguous."""
    start = hashlib.blake2b(digest_size=DIGEST_BYTES, key=str(rows.shape[1:]).encode())
    found = []
    for row in rows:
        hashed = start.copy()  # with the key taken in, which is as much work as 128 bytes
        hashed.update(row.data)
        found.append(hashed.hexdigest())
    return found
