"""How far a picture is from those that a network was trained on, by what its stages see in it.

At each stage the training pictures are taken for one Gaussian, and a picture's distance is that of
Mahalanobis; the classes are not told apart, which tells no less (arXiv 2003.00402), and the mean
over the stages sees what the last one has learned to ignore (arXiv 1807.03888). A Gaussian has its
largest axes kept and one variance for the rest (probabilistic principal components, Tipping and
Bishop, 1999), which stores 64 numbers a channel. docs/log.md has what else was tried.

What it finds are pictures of another kind: scans, drawings, small pictures, other motifs. A class
that looks like the known ones (another flower) it hardly tells from them.

Shapes: N pictures, C channels of a stage, R axes.
"""

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from nunbit.errors import DataError
from nunbit.language import tr

AXES = 64  # of a stage
# Added to every variance, as a share of their mean: few pictures leave directions without any.
RIDGE = 1e-3
LEAST = 1e-12  # variance and scale, where all pictures look the same to a stage
# Pictures like those of the training that are not called foreign, at least.
ACCEPTANCE = 0.98
MOST_STAGES = 1000
PREFIX = "outliers/"  # of the tensors' names in a model file: no module's name has a slash
FIELDS = ("mean", "axes", "variances", "rest")


@dataclass(frozen=True)
class Gaussian:
    """The training pictures as one stage sees them."""

    mean: Tensor
    """float32 (C,)."""
    axes: Tensor
    """float32 (C, R), orthonormal."""
    variances: Tensor
    """float32 (R,), along the axes."""
    rest: Tensor
    """float32 (), the variance along every other direction."""
    scale: float
    """Mean squared distance of the training pictures."""

    @classmethod
    def fit(cls, x_NC: Tensor) -> "Gaussian":
        """Return the Gaussian of training pictures."""
        mean = x_NC.double().mean(0)
        centred = x_NC.double() - mean
        variances, axes = torch.linalg.eigh(centred.T @ centred / len(x_NC))  # ascending
        ridge = RIDGE * variances.mean() + LEAST
        count = min(AXES, len(variances))
        others = variances[: len(variances) - count].clamp_min(0)
        rest = (others.mean() if len(others) else variances.new_zeros(())) + ridge
        kept = variances[-count:].clamp_min(0) + ridge
        unscaled = cls(
            mean=mean.float(),
            axes=axes[:, -count:].float().contiguous(),
            variances=kept.float(),
            rest=rest.float(),
            scale=1.0,
        )
        return replace(unscaled, scale=max(LEAST, float(unscaled(x_NC).mean())))

    def __call__(self, x_NC: Tensor) -> Tensor:
        """Return squared distances (N,), 1 on average over the training pictures."""
        centred = x_NC.double() - self.mean
        along_NR = centred @ self.axes.double()
        across_N = (centred.square().sum(1) - along_NR.square().sum(1)).clamp_min(0)
        return ((along_NR.square() / self.variances).sum(1) + across_N / self.rest) / self.scale


@dataclass(frozen=True)
class Familiar:
    """What the training pictures look like, and how far from it a picture may be."""

    stages: tuple[Gaussian, ...]
    limit: float
    """Pictures beyond this distance are called foreign."""
    acceptance: float
    """Least share of pictures like the training's that are not, over the draw of validation."""

    def distances(self, stages: Sequence[Tensor]) -> Tensor:
        """Return the mean distance (N,) of pictures over the stages, each (N, C).

        Raises:
            DataError: other stages than those of the training; the model file is forged.
        """
        widths = [len(gaussian.mean) for gaussian in self.stages]
        if widths != [x.shape[1] for x in stages]:
            raise DataError("the distances in the model file are not those of its network")
        pairs = zip(self.stages, stages, strict=True)
        return torch.stack([gaussian(x) for gaussian, x in pairs]).mean(0)

    def tensors(self) -> dict[str, Tensor]:
        """Return what a model file keeps beside the weights."""
        return {
            f"{PREFIX}{i}/{name}": getattr(gaussian, name)
            for i, gaussian in enumerate(self.stages)
            for name in FIELDS
        }

    def to_card(self) -> dict[str, float | list[float]]:
        """Return the numbers that a model file's card keeps."""
        scales = [gaussian.scale for gaussian in self.stages]
        return {"limit": self.limit, "acceptance": self.acceptance, "scales": scales}


def fit_familiar(train: Sequence[Tensor], val: Sequence[Tensor]) -> Familiar:
    """Return what training pictures look like, with a limit from pictures that were held out.

    The limit is the distance of the held-out picture of the rank that conformal prediction asks
    for (Vovk et al., 2005): a new picture of the same kind is beyond it with a probability of at
    most 1 - `ACCEPTANCE`, or 1 / (n + 1) where so few held-out pictures cannot promise as much.

    Args:
        train: the stages' views (N, C) of the training pictures.
        val: those of the held-out ones.
    """
    stages = tuple(Gaussian.fit(x) for x in train)
    distances = Familiar(stages, math.inf, 0.0).distances(val).sort().values
    n = len(distances)
    rank = min(n, math.ceil((n + 1) * ACCEPTANCE))
    return Familiar(stages, max(LEAST, float(distances[rank - 1])), rank / (n + 1))


def read_familiar(card: Mapping[str, object], tensors: Mapping[str, Tensor]) -> Familiar:
    """Rebuild what `Familiar.to_card` and `Familiar.tensors` gave; it comes from anybody's file.

    Raises:
        ValueError: other fields, shapes or values than those.
    """
    scales = card["scales"]
    is_list = isinstance(scales, list) and 0 < len(scales) <= MOST_STAGES
    if not is_list or set(card) != {"limit", "acceptance", "scales"}:
        raise ValueError(tr("the distances are not understood"))
    assert isinstance(scales, list)
    numbers = [card["limit"], card["acceptance"], *scales]
    if not all(type(x) in (int, float) and 0 < x < sys.float_info.max for x in numbers):
        raise ValueError(tr("the distances are no positive numbers"))
    names = {f"{PREFIX}{i}/{name}" for i in range(len(scales)) for name in FIELDS}
    if names != set(tensors):
        raise ValueError(tr("the tensors of the distances are not those of the card"))
    stages = []
    for i, scale in enumerate(scales):
        mean, axes, variances, rest = (tensors[f"{PREFIX}{i}/{name}"] for name in FIELDS)
        stages.append(_checked(Gaussian(mean, axes, variances, rest, float(scale))))
    return Familiar(tuple(stages), float(card["limit"]), float(card["acceptance"]))  # type: ignore[arg-type]  # checked


def _checked(gaussian: Gaussian) -> Gaussian:
    """Return a Gaussian from a file, or refuse it."""
    mean, axes, variances, rest = (getattr(gaussian, name) for name in FIELDS)
    fits = mean.ndim == 1 and axes.shape == (len(mean), len(variances)) and variances.ndim == 1
    parts = (mean, axes, variances, rest)
    are_numbers = all(p.dtype == torch.float32 and bool(p.isfinite().all()) for p in parts)
    if not fits or rest.ndim or not are_numbers or min(variances.min(), rest) <= 0:
        raise ValueError(tr("the tensors of the distances are not understood"))
    return gaussian
