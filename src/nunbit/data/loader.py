"""Batches for training: shuffled anew each epoch, augmented, normalised, from memory."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from nunbit.config import RunConfig
from nunbit.data.augment import augment
from nunbit.data.pictures import ImageSet
from nunbit.data.preprocess import Preprocess
from nunbit.runtime import derive_seed


@dataclass(frozen=True)
class TrainLoader:
    """Gives the batches of any epoch, from any step: a function of (seed, epoch, step)."""

    pictures: ImageSet
    preprocess: Preprocess
    config: RunConfig
    device: torch.device

    @property
    def steps_per_epoch(self) -> int:
        """Number of batches; a last batch of one picture is left out (see `_starts`)."""
        return len(self._starts())

    def order(self, epoch: int) -> Tensor:
        """Return the permutation (N,) in which pictures are shown in an epoch."""
        seed = derive_seed(self.config.train.seed, "order", epoch)
        return torch.randperm(len(self.pictures), generator=torch.Generator().manual_seed(seed))

    def names(self, epoch: int, step: int) -> list[str]:
        """Return the names of the pictures in one batch, for messages."""
        start = step * self.config.train.batch_size
        indices = self.order(epoch)[start : start + self.config.train.batch_size]
        return [self.pictures.names[i] for i in indices.tolist()]

    def batches(self, epoch: int, first_step: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (x, y): float x (B, C, H, W) and int64 y (B,), on the device.

        Args:
            epoch: counts from 0.
            first_step: batches to leave out at the start, when a run goes on inside an epoch.
        """
        order, size = self.order(epoch), self.config.train.batch_size
        for start in self._starts()[first_step:]:
            indices = order[start : start + size]
            images = self.pictures.images[indices]
            images = augment(images, self.config.data, self.config.train.seed, epoch, indices)
            x = self.preprocess.normalize(images.to(self.device, non_blocking=True))
            yield x, self.pictures.labels[indices].to(self.device, non_blocking=True)

    def _starts(self) -> list[int]:
        """Return where batches start.

        A single picture has no batch statistics: batch norm would fail or learn from it alone, so
        a last batch of one is dropped (another picture each epoch, as the order changes).
        """
        count, size = len(self.pictures), self.config.train.batch_size
        starts = list(range(0, count, size))
        return starts[:-1] if len(starts) > 1 and count - starts[-1] == 1 else starts
