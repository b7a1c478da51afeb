"""Randomness is a function of what it is for: no state to save, none to disturb."""

import numpy as np
import torch

from nunbit.config import DataConfig, RunConfig, TrainConfig
from nunbit.data.augment import augment, uniform
from nunbit.data.loader import TrainLoader
from nunbit.data.pictures import ImageSet
from nunbit.data.preprocess import Preprocess
from nunbit.data.stats import digests
from nunbit.runtime import derive_seed, seeded

CPU = torch.device("cpu")


def pictures(n: int, side: int = 8) -> ImageSet:
    images = torch.randint(0, 256, (n, side, side, 3), dtype=torch.uint8)
    return ImageSet(images, torch.arange(n) % 2, [str(i) for i in range(n)], digests(images))


def loader(n: int, batch_size: int, **data: object) -> TrainLoader:
    config = RunConfig(
        data=DataConfig(**data),  # type: ignore[arg-type]
        train=TrainConfig(batch_size=batch_size, seed=5),
    )
    plain = Preprocess(
        height=8, width=8, channels=3, resize="crop", mean=(0.0,) * 3, std=(1.0,) * 3
    )
    return TrainLoader(pictures(n), plain, config, CPU)


def test_seeds_differ_by_every_part_and_have_63_bits() -> None:
    seeds = {derive_seed(s, p, e) for s in range(20) for p in ("order", "flip") for e in range(20)}
    assert len(seeds) == 800
    assert max(seeds) < 2**63
    assert derive_seed("ab", "c") != derive_seed("a", "bc")


def test_seeded_leaves_the_callers_random_numbers_alone() -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    with seeded(7, "init"):
        inside = torch.rand(3)
    assert torch.equal(torch.rand(3), expected)
    with seeded(7, "init"):
        assert torch.equal(torch.rand(3), inside)


def test_uniform_depends_on_the_picture_and_not_on_its_batch() -> None:
    whole = uniform(3, "flip", 2, torch.arange(1000))
    parts = np.concatenate([uniform(3, "flip", 2, i) for i in torch.arange(1000).split(7)])
    assert np.array_equal(whole, parts)
    assert not np.array_equal(whole, uniform(3, "flip", 3, torch.arange(1000)))
    assert not np.array_equal(whole, uniform(3, "zoom", 2, torch.arange(1000)))


def test_uniform_is_uniform_and_uncorrelated() -> None:
    draws = uniform(0, "row", 0, torch.arange(200_000))
    counts = np.histogram(draws, bins=20, range=(0, 1))[0]
    chi2 = ((counts - 10_000) ** 2 / 10_000).sum()
    assert chi2 < 43.8  # 99.9 % quantile for 19 degrees of freedom
    assert abs(np.corrcoef(draws[:-1], draws[1:])[0, 1]) < 0.01
    assert abs(np.corrcoef(draws, uniform(0, "row", 1, torch.arange(200_000)))[0, 1]) < 0.01


def test_each_epoch_shows_every_picture_once_in_another_order() -> None:
    first, second = loader(101, 10).order(0), loader(101, 10).order(1)
    assert torch.equal(first.sort().values, torch.arange(101))
    assert not torch.equal(first, second)
    assert torch.equal(first, loader(101, 7).order(0))


def test_batches_from_the_middle_are_the_ones_of_the_whole_epoch() -> None:
    torch.manual_seed(0)
    load = loader(50, 8, flip=True, shift_pixels=2, zoom=0.2, light=0.2)
    whole = list(load.batches(3))
    rest = list(load.batches(3, first_step=4))
    assert len(whole) == load.steps_per_epoch == 7
    for (x, y), (x2, y2) in zip(whole[4:], rest, strict=True):
        assert torch.equal(x, x2)
        assert torch.equal(y, y2)


def test_a_last_batch_of_one_picture_is_left_out() -> None:
    sizes = [len(y) for _, y in loader(17, 8).batches(0)]
    assert sizes == [8, 8]
    assert [len(y) for _, y in loader(18, 8).batches(0)] == [8, 8, 2]
    assert [len(y) for _, y in loader(1, 8).batches(0)] == [1]


def test_augmentation_of_a_picture_does_not_depend_on_its_neighbours() -> None:
    torch.manual_seed(0)
    images, config = pictures(30).images, DataConfig(flip=True, shift_pixels=3, zoom=0.5, light=0.3)
    indices = torch.arange(30)
    together = augment(images, config, 1, 2, indices)
    alone = [augment(images[i : i + 1], config, 1, 2, indices[i : i + 1]) for i in range(30)]
    assert torch.equal(together, torch.cat(alone))
    assert together.dtype == torch.uint8


def test_flip_mirrors_about_half_and_shift_moves_with_reflection() -> None:
    torch.manual_seed(0)
    images = pictures(400).images
    flipped = augment(images, DataConfig(flip=True), 0, 0, torch.arange(400))
    mirrored = (flipped == images.flip(2)).all(dim=(1, 2, 3))
    same = (flipped == images).all(dim=(1, 2, 3))
    assert (mirrored | same).all()
    assert 150 < int(mirrored.sum()) < 250
    shifted = augment(images, DataConfig(shift_pixels=1), 0, 0, torch.arange(400))
    padded = torch.nn.functional.pad(images.permute(0, 3, 1, 2).float(), (1,) * 4, mode="reflect")
    windows = [padded[:, :, dy : dy + 8, dx : dx + 8] for dy in range(3) for dx in range(3)]
    hits = torch.stack([(w.permute(0, 2, 3, 1) == shifted).all(dim=(1, 2, 3)) for w in windows])
    assert hits.any(0).all()
    assert hits.any(1).all(), "every one of the nine shifts occurs among 400 pictures"


def test_augmentation_never_changes_the_stored_pictures() -> None:
    images = pictures(10).images
    before = images.clone()
    augment(images, DataConfig(flip=True, shift_pixels=2, light=0.5), 0, 0, torch.arange(10))
    assert torch.equal(images, before)
