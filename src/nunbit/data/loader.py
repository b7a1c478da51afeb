"""Batches for training: shuffled anew each epoch, augmented, normalised, from memory."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from nunbit.config import RunConfig
from nunbit.data.augment import augment
from nunbit.data.mixing import MIXES, blend_labels, draw_others, is_mixed, mix
from nunbit.data.pictures import ImageSet
from nunbit.data.preprocess import Preprocess
from nunbit.runtime import derive_seed
from nunbit.values import Setting

SOME_PIXELS = 2**20  # changed at once: a rotation needs some 50 bytes for each


@dataclass(frozen=True)
class TrainLoader:
    """Gives the batches of any epoch, from any step: a function of (seed, epoch, step)."""

    pictures: ImageSet
    preprocess: Preprocess
    config: RunConfig
    device: torch.device

    @property
    def steps_per_epoch(self) -> int:
        """Number of batches: as few as `train.batch_size` allows.

        One picture alone has no batch statistics: of an odd number in pairs, three go together.
        """
        count = len(self.pictures)
        return min(math.ceil(count / self.config.train.batch_size), max(1, count // 2))

    @property
    def num_classes(self) -> int:
        """Number of classes: each has training pictures."""
        return int(self.pictures.labels.max()) + 1

    @property
    def total_steps(self) -> int:
        """Number of updates in the whole run; `train.max_steps` may end it inside an epoch."""
        steps, most = self.config.train.epochs * self.steps_per_epoch, self.config.train.max_steps
        return min(steps, most) if most else steps

    @property
    def epochs(self) -> int:
        """Number of epochs in the whole run; the last may be a part of one."""
        return -(-self.total_steps // self.steps_per_epoch)

    @property
    def small_steps(self) -> int:
        """Number of updates at the start of a run whose pictures are shown smaller."""
        data = self.config.data
        return round(data.small_fraction * self.total_steps) if data.small_size else 0

    def order(self, epoch: int) -> Tensor:
        """Return the permutation (N,) in which pictures are shown in an epoch."""
        seed = derive_seed(self.config.train.seed, "order", epoch)
        return torch.randperm(len(self.pictures), generator=torch.Generator().manual_seed(seed))

    def names(self, epoch: int, step: int) -> list[str]:
        """Return the names of the pictures in one batch, for messages."""
        return [self.pictures.names[i] for i in self.order(epoch)[self._batch(step)].tolist()]

    def batches(self, epoch: int, first_step: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (x, y), on the device: float x (B, C, H, W), and y as `shown` returns it.

        Args:
            epoch: counts from 0.
            first_step: batches to leave out at the start, when a run goes on inside an epoch.
        """
        order, steps = self.order(epoch), self.steps_per_epoch
        small_steps = self.small_steps - epoch * steps
        for step in range(first_step, steps):
            indices = order[self._batch(step)]
            images, y = self.shown(epoch, indices)
            x = self.preprocess.normalize(images.to(self.device, non_blocking=True))
            if step < small_steps:
                x = shrink(x, self.config.data.small_size)
            yield x, y.to(self.device, non_blocking=True)

    def shown(self, epoch: int, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Return pictures as an epoch shows them, and what the network should answer.

        Args:
            epoch: counts from 0.
            indices: int64 (B,), positions in the training split.

        Returns:
            uint8 (B, H, W, C), and the labels int64 (B,), or, where pictures are mixed, the shares
            of the classes, float32 (B, K).
        """
        height, width = self.pictures.images.shape[1:3]
        some = max(1, SOME_PIXELS // (height * width))
        parts = [self._few_shown(epoch, at) for at in indices.split(some)]
        images, y = (torch.cat(part) for part in zip(*parts, strict=True))
        return images, y

    def _few_shown(self, epoch: int, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Return what `shown` returns, of few pictures."""
        data, seed = self.config.data, self.config.train.seed
        images, labels = self._changed(epoch, indices)
        if not is_mixed(data):
            return images, labels
        at = draw_others(len(self.pictures), seed, epoch, indices)
        others, other_labels = self._changed(epoch, at)
        blends, share = mix(images, others, data, seed, epoch, indices)
        return blends, blend_labels(labels, other_labels, share, self.num_classes)

    def _changed(self, epoch: int, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Return pictures uint8 (B, H, W, C), each changed on its own, and labels int64 (B,)."""
        images, data, seed = self.pictures.images[indices], self.config.data, self.config.train.seed
        return augment(images, data, seed, epoch, indices), self.pictures.labels[indices]

    def override(self, values: Mapping[str, Setting]) -> "TrainLoader":
        """Return a loader of the same pictures with single settings changed, by dotted name."""
        return replace(self, config=self.config.override(values))

    def unmixed(self) -> "TrainLoader":
        """Return a loader that shows each picture on its own."""
        return self.override({f"data.{name}": 0.0 for name in MIXES})

    def _batch(self, step: int) -> slice:
        """Return which part of an epoch's order a batch shows.

        Sizes differ by one at most. A small last batch would weigh as much as any other where an
        update has its own length (Muon, Adam), and batch norm would remember its few pictures best
        when the epoch is measured.
        """
        count, steps = len(self.pictures), self.steps_per_epoch
        return slice(count * step // steps, count * (step + 1) // steps)


def shrink(x: Tensor, side: int) -> Tensor:
    """Return pictures x (B, C, H, W) with a shorter side of `side` pixels, in the same shape.

    Training on small pictures first is an idea of fast.ai's (J. Howard, 2018); the network must
    pool over whatever is left at its end.

    Args:
        x: float; pictures whose shorter side is no longer than that stay as they are.
        side: in pixels.
    """
    height, width = x.shape[2:]
    short = min(height, width)
    if short <= side:
        return x
    size = (round(height * side / short), round(width * side / short))
    return F.interpolate(x, size=size, mode="bilinear", antialias=True)
