"""Blends of two training pictures, as pure functions of (seed, epoch, picture).

MixUp (arXiv 1710.09412) blends all pixels of two pictures, CutMix (arXiv 1905.04899) pastes a
rectangle of one into the other; what the network should answer is blended alike. The papers pair
the pictures of a batch. Here the other one is any training picture, so that a blend does not
depend on the batch, like every other change, and can be shown on its own.
"""

import numpy as np
import torch
from torch import Tensor

from nunbit.config import DataConfig
from nunbit.data.augment import rectangles, uniform

MIXES = ("mixup", "cutmix")  # settings of `DataConfig`


def is_mixed(config: DataConfig) -> bool:
    """Return whether training pictures are blended."""
    return any(getattr(config, name) for name in MIXES)


def draw_others(count: int, seed: int, epoch: int, indices: Tensor) -> Tensor:
    """Return int64 (B,): the position of the picture, of `count`, that each one is mixed with."""
    drawn = uniform(seed, "mix other", epoch, indices) * count
    return torch.from_numpy(drawn.astype(np.int64))


def mix(
    images: Tensor, others: Tensor, config: DataConfig, seed: int, epoch: int, indices: Tensor
) -> tuple[Tensor, Tensor]:
    """Return blends uint8 (B, H, W, C), and the share float32 (B,) that the others have in them.

    Where both ways are asked for, a picture is blended in either at equal odds.

    Args:
        images: uint8 (B, H, W, C); not changed.
        others: of the same shape; not changed.
        config: `MIXES`.
        seed: the run's seed.
        epoch: counts from 0.
        indices: int64 (B,), positions of `images` in the training split.
    """
    from scipy.special import betaincinv  # takes 0.2 s, and most trainings mix nothing

    height, width = images.shape[1:3]
    odds = 0.5 if config.mixup and config.cutmix else float(bool(config.cutmix))
    is_cut = uniform(seed, "mix way", epoch, indices) < odds
    alpha = np.where(is_cut, config.cutmix, config.mixup)
    share = np.asarray(betaincinv(alpha, alpha, uniform(seed, "mix share", epoch, indices)))
    # With the picture's aspect ratio, and this share of its area (arXiv 1905.04899, 3.1).
    sides = np.rint(np.sqrt(share) * height), np.rint(np.sqrt(share) * width)
    pasted = rectangles((height, width), sides, "mix", seed, epoch, indices)
    weight = np.where(is_cut[:, None, None], pasted, share[:, None, None])  # (B, H, W)
    share = np.where(is_cut, pasted.mean((1, 2)), share)  # of what the edges left of a rectangle
    blend = torch.lerp(
        images.float(), others.float(), torch.from_numpy(weight).float().unsqueeze(-1)
    )
    return blend.round_().byte(), torch.from_numpy(share).float()


def blend_labels(labels: Tensor, others: Tensor, share: Tensor, num_classes: int) -> Tensor:
    """Return float32 (B, K): what a network should answer to blends.

    Args:
        labels: int64 (B,), of the pictures.
        others: int64 (B,), of those that they are mixed with.
        share: float32 (B,), of the others.
        num_classes: K.
    """
    y = torch.zeros(len(labels), num_classes)
    for part, weight in ((labels, 1 - share), (others, share)):
        y.scatter_add_(1, part[:, None], weight[:, None])
    return y
