"""Randomness is a function of what it is for: no state to save, none to disturb."""

import traceback
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from nunbit.config import DataConfig, RunConfig, TrainConfig
from nunbit.data.augment import CHANGES, augment, uniform
from nunbit.data.loader import TrainLoader, shrink
from nunbit.data.pictures import ImageSet
from nunbit.data.preprocess import Preprocess
from nunbit.data.stats import digests
from nunbit.runtime import derive_seed, seeded

CPU = torch.device("cpu")
EVERY = DataConfig(
    flip=True, flip_vertical=True, rotate=30, shift_pixels=3, zoom=0.5, light=0.3, saturation=0.5,
    cutout=3,
)  # fmt: skip  # all changes of `CHANGES`


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
    torch.manual_seed(derive_seed(7, "init"))
    assert torch.equal(torch.rand(3), inside)


def test_seeding_an_update_writes_down_no_call_stack(monkeypatch: pytest.MonkeyPatch) -> None:
    """As torch.manual_seed does where torch could use a GPU: 0.25 ms of 8 in a small network."""

    def slow(*_: object, **__: object) -> None:
        pytest.fail("the call stack was written down")

    monkeypatch.setattr(traceback, "format_stack", slow)
    with seeded(7, "step", 3):
        pass


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


@pytest.mark.parametrize(
    ("count", "size", "expected"),
    [
        (16, 8, [8, 8]), (17, 8, [5, 6, 6]), (18, 8, [6, 6, 6]), (3, 8, [3]),
        (5, 2, [2, 3]),  # one picture alone has no batch statistics
        (1, 8, [1]),
    ],
)  # fmt: skip  # a case a line
def test_batches_of_an_epoch_are_as_equal_as_can_be(
    count: int, size: int, expected: list[int]
) -> None:
    load = loader(count, size)
    assert [len(y) for _, y in load.batches(0)] == expected
    named = [name for step in range(len(expected)) for name in load.names(0, step)]
    assert sorted(named) == sorted(load.pictures.names), "every picture once"


def test_augmentation_of_a_picture_does_not_depend_on_its_neighbours() -> None:
    torch.manual_seed(0)
    images, config = pictures(30).images, EVERY
    assert all(getattr(EVERY, name) for name in CHANGES)
    indices = torch.arange(30)
    together = augment(images, config, 1, 2, indices)
    alone = [augment(images[i : i + 1], config, 1, 2, indices[i : i + 1]) for i in range(30)]
    assert torch.equal(together, torch.cat(alone))
    assert together.dtype == torch.uint8


def test_large_pictures_are_changed_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    load, indices = loader(30, 8, rotate=30, light=0.3, mixup=0.4, cutmix=1.0), torch.randperm(30)
    images, y = load.shown(2, indices)
    at_once: list[int] = []

    def counted(images: torch.Tensor, *given: Any) -> torch.Tensor:
        at_once.append(len(images))
        return augment(images, *given)

    monkeypatch.setattr("nunbit.data.loader.SOME_PIXELS", 7 * 64)
    monkeypatch.setattr("nunbit.data.loader.augment", counted)
    again = load.shown(2, indices)
    assert torch.equal(again[0], images)
    assert torch.equal(again[1], y)
    assert at_once == [7] * 8 + [2] * 2, "each with the pictures that they are mixed with"


def test_what_is_done_to_pictures_does_not_depend_on_the_precision_of_networks() -> None:
    """A matrix product for grey was bf16 where norms are measured, and lerp refused the mixture."""
    torch.manual_seed(0)
    images, indices = pictures(50).images, torch.arange(50)
    plain = augment(images, EVERY, 0, 1, indices)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(augment(images, EVERY, 0, 1, indices), plain)


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
    augment(images, EVERY, 0, 0, torch.arange(10))
    assert torch.equal(images, before)


def test_a_picture_is_mirrored_in_exactly_every_other_epoch() -> None:
    torch.manual_seed(0)
    images, indices, config = pictures(300).images, torch.arange(300), DataConfig(flip=True)

    def mirrored(epoch: int, seed: int = 0) -> torch.Tensor:
        shown = augment(images, config, seed, epoch, indices)
        is_mirrored = (shown == images.flip(2)).all(dim=(1, 2, 3))
        assert (is_mirrored != (shown == images).all(dim=(1, 2, 3))).all()
        return is_mirrored

    first = mirrored(0)
    assert 110 < int(first.sum()) < 190
    for epoch in range(1, 5):
        assert torch.equal(mirrored(epoch), first ^ bool(epoch % 2))
    assert 110 < int((mirrored(0, seed=1) ^ first).sum()) < 190, "another seed, other pictures"


def test_mirrors_in_both_directions_come_by_turns_and_together_in_all_four_ways() -> None:
    torch.manual_seed(0)
    images = torch.randint(0, 256, (200, 6, 9, 3), dtype=torch.uint8)
    indices = torch.arange(200)

    def ways(config: DataConfig) -> list[list[int]]:
        """Return for each epoch which of the four ways each picture is shown."""
        four = [images, images.flip(2), images.flip(1), images.flip((1, 2))]
        found = []
        for epoch in range(8):
            shown = augment(images, config, 0, epoch, indices)
            hits = torch.stack([(shown == way).all(dim=(1, 2, 3)) for way in four])
            assert (hits.sum(0) == 1).all()
            found.append(hits.int().argmax(0).tolist())
        return found

    only = ways(DataConfig(flip_vertical=True))
    assert {0, 2} == {way for epoch in only for way in epoch}, "never mirrored left to right"
    assert 70 < sum(way == 2 for way in only[0]) < 130
    assert all(now != then for now, then in zip(only[0], only[1], strict=True))
    for of_picture in zip(*ways(DataConfig(flip=True, flip_vertical=True)), strict=True):
        assert sorted(of_picture[:4]) == [0, 1, 2, 3]
        assert of_picture[4:] == of_picture[:4]


def test_a_turn_is_what_pillow_makes_of_the_same_angle() -> None:
    torch.manual_seed(0)
    images = pictures(40, side=24).images
    draw = uniform(0, "rotate", 3, torch.arange(40))
    shown = augment(images, DataConfig(rotate=45), 0, 3, torch.arange(40))
    middle = slice(6, 18)  # where no corner was filled
    agree = []
    for before, after, where in zip(images, shown, draw, strict=True):
        turned = Image.fromarray(before.numpy()).rotate(45 * (2 * where - 1))
        expected = torch.from_numpy(np.array(turned))
        agree.append(float((expected == after).all(2)[middle, middle].float().mean()))
    assert np.mean(agree) > 0.97, "but for pixels between two neighbours"
    assert (45 * (2 * draw - 1)).min() < -35
    assert (45 * (2 * draw - 1)).max() > 35


def test_half_a_turn_is_both_mirrors(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    images = torch.randint(0, 256, (20, 5, 9, 3), dtype=torch.uint8)  # not square
    ends = lambda seed, purpose, epoch, indices: np.ones(len(indices))  # noqa: E731  # one line
    monkeypatch.setattr("nunbit.data.augment.uniform", ends)
    shown = augment(images, DataConfig(rotate=180), 0, 0, torch.arange(20))
    assert torch.equal(shown, images.flip((1, 2)))
    line = images[:, :1]
    assert torch.equal(augment(line, DataConfig(rotate=180), 0, 0, torch.arange(20)), line.flip(2))


def test_saturation_moves_colours_away_from_grey_or_towards_it() -> None:
    torch.manual_seed(0)
    images = pictures(200).images
    images[:100] = images[:100, :, :, :1]  # grey ones in colour
    config = DataConfig(saturation=0.5)
    shown = augment(images, config, 0, 0, torch.arange(200))
    assert torch.equal(shown[:100], images[:100])
    strength = torch.from_numpy(1 + 0.5 * (2 * uniform(0, "saturation", 0, torch.arange(200)) - 1))
    x = images[100:].double()
    grey = 0.299 * x[..., 0] + 0.587 * x[..., 1] + 0.114 * x[..., 2]
    exact = grey[..., None] + strength[100:, None, None, None] * (x - grey[..., None])
    assert (shown[100:].double() - exact.clamp(0, 255)).abs().max() <= 0.5001


def test_cutout_covers_a_square_with_grey_and_nothing_else() -> None:
    torch.manual_seed(0)
    images = pictures(500).images.clamp(max=100)
    shown = augment(images, DataConfig(cutout=3), 0, 0, torch.arange(500))
    changed = (shown != images).all(3)
    assert (shown[changed] == 127).all()
    assert torch.equal(shown[~changed], images[~changed])
    rows, cols = changed.any(2), changed.any(1)
    assert torch.equal(changed, rows[:, :, None] & cols[:, None, :]), "one rectangle"
    height, width = rows.sum(1), cols.sum(1)
    assert (int(height.min()), int(height.max())) == (int(width.min()), int(width.max())) == (2, 3)
    # The middle is anywhere, also on the border: 6 of 8 places show 3 rows, 2 of 8 show 2.
    assert float((height * width).float().mean()) == pytest.approx(2.75**2, rel=0.05)
    assert changed.any(0).all(), "every pixel is covered at times"


def test_cutout_is_a_function_of_seed_epoch_and_picture() -> None:
    torch.manual_seed(0)
    images, config = pictures(40).images, DataConfig(cutout=4)
    indices = torch.arange(40)
    whole = augment(images, config, 1, 2, indices)
    apart = [augment(images[i], config, 1, 2, i) for i in indices.split(7)]
    assert torch.equal(whole, torch.cat(apart))
    for seed, epoch in ((1, 3), (2, 2)):
        assert not torch.equal(whole, augment(images, config, seed, epoch, indices))


def test_small_pictures_come_first_and_full_ones_from_a_certain_update_on() -> None:
    load = loader(40, 8, small_size=4, small_fraction=0.3)
    load = replace(load, config=load.config.override({"train.epochs": 3}))
    assert (load.total_steps, load.small_steps) == (15, 4)
    sides = [x.shape[2:] for epoch in range(3) for x, _ in load.batches(epoch)]
    assert sides == [(4, 4)] * 4 + [(8, 8)] * 11
    whole = list(load.batches(0))
    for first in (3, 4):  # a run goes on just before and just behind the change
        for (x, y), (again, labels) in zip(whole[first:], load.batches(0, first), strict=True):
            assert torch.equal(x, again)
            assert torch.equal(y, labels)


def test_shrinking_is_a_mean_that_keeps_the_shape() -> None:
    x = torch.rand(2, 3, 8, 12).to(memory_format=torch.channels_last)
    assert shrink(x, 4).shape == (2, 3, 4, 6)
    assert torch.equal(shrink(x, 8), x)
    assert torch.equal(shrink(x, 99), x)
    flat = torch.full((1, 1, 8, 8), 0.7)
    torch.testing.assert_close(shrink(flat, 3), torch.full((1, 1, 3, 3), 0.7))
    assert shrink(x, 4).mean() == pytest.approx(float(x.mean()), abs=0.02)
    assert shrink(x, 4).is_contiguous(memory_format=torch.channels_last)


def test_the_number_of_updates_may_end_a_run_inside_an_epoch() -> None:
    load = loader(40, 8)
    for most, steps, epochs in ((0, 15, 3), (7, 7, 2), (10, 10, 2), (15, 15, 3), (99, 15, 3)):
        settings = {"train.epochs": 3, "train.max_steps": most}
        ended = replace(load, config=load.config.override(settings))
        assert (ended.total_steps, ended.epochs) == (steps, epochs)
