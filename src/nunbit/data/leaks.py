"""Pictures that two parts of a source hold: what is measured on them flatters the network."""

from collections.abc import Sequence

import torch

from nunbit.data.pictures import ImageSet
from nunbit.errors import DataError, listed


def without_held_out(
    train: ImageSet, held_out: Sequence[ImageSet], class_names: Sequence[str]
) -> ImageSet:
    """Return training pictures without those that are held out as well.

    Raises:
        DataError: nothing is left of a class.
    """
    left = _unlike(train, held_out)
    gone = set(train.labels.tolist()) - set(left.labels.tolist())
    if gone:
        raise DataError(
            "no training pictures are left of {classes}: validation or test holds the same",
            classes=listed(repr(class_names[label]) for label in sorted(gone)),
        )
    return left


def without_test(val: ImageSet, test: ImageSet) -> ImageSet:
    """Return validation pictures without those of test.

    Raises:
        DataError: nothing is left.
    """
    left = _unlike(val, [test])
    if not len(left):
        raise DataError("no validation pictures are left: test holds the same ones")
    return left


def _unlike(pictures: ImageSet, others: Sequence[ImageSet]) -> ImageSet:
    """Return the pictures that no other set holds as well; perhaps none."""
    digests = {digest for part in others for digest in part.digests}
    kept = [i for i, digest in enumerate(pictures.digests) if digest not in digests]
    if len(kept) == len(pictures):
        return pictures
    return pictures.select(torch.tensor(kept, dtype=torch.long))
