"""Blends of two training pictures: what is in them, and what the network should answer."""

import copy
import math
from pathlib import Path

import pytest
import torch

from conftest import require_same_weights
from nunbit.config import DataConfig, RunConfig
from nunbit.data.loader import TrainLoader
from nunbit.data.mixing import blend_labels, draw_others, mix
from nunbit.data.pictures import ImageSet
from nunbit.data.preprocess import Preprocess
from nunbit.data.stats import digests
from nunbit.errors import StoppedError, UsageError
from nunbit.models.registry import build_model
from nunbit.progress import Display
from nunbit.run import resume_run, train_run
from nunbit.runtime import Runtime
from nunbit.training import loop
from nunbit.training.heart import learn_by_heart
from nunbit.training.state import TrainState
from nunbit.training.step import Plan, train_step

CPU = Runtime(torch.device("cpu"), "fp32", 1)
BOTH = DataConfig(mixup=0.4, cutmix=1.0)
WAYS = pytest.mark.parametrize("ways", [{"mixup": 0.4}, {"cutmix": 1.0}, {"mixup": 1, "cutmix": 1}])


def black_and_white(n: int, side: int = 16) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return n black pictures, n white ones, and positions."""
    black = torch.zeros(n, side, side, 1, dtype=torch.uint8)
    return black, torch.full_like(black, 255), torch.arange(n)


def test_mixup_blends_every_pixel_alike_by_a_share_of_its_distribution() -> None:
    black, white, at = black_and_white(2000, 4)
    for alpha in (0.2, 1.0):
        blends, share = mix(black, white, DataConfig(mixup=alpha), 0, 0, at)
        values = blends.flatten(1).float() / 255
        assert torch.equal(values.amin(1), values.amax(1)), "one share for a whole picture"
        torch.testing.assert_close(values[:, 0], share, atol=0.5 / 255 + 1e-6, rtol=0)
        # Of Beta(alpha, alpha): mean 1/2, variance 1 / (4 (2 alpha + 1)).
        assert share.mean().item() == pytest.approx(0.5, abs=0.03)
        deviation = 0.5 / math.sqrt(2 * alpha + 1)
        assert share.std().item() == pytest.approx(deviation, abs=0.02)


def test_cutmix_pastes_a_rectangle_and_counts_what_is_pasted() -> None:
    black, white, at = black_and_white(1000)
    blends, share = mix(black, white, DataConfig(cutmix=1.0), 0, 0, at)
    assert set(blends.unique().tolist()) == {0, 255}, "each pixel is of one of the two"
    pasted = blends[..., 0] > 0
    torch.testing.assert_close(share, pasted.float().mean((1, 2)))
    rows, cols = pasted.any(2), pasted.any(1)
    assert torch.equal(pasted, rows[:, :, None] & cols[:, None, :])
    for lines in (rows, cols):  # without gaps: it begins once at most
        begins = (lines[:, 1:] & ~lines[:, :-1]).sum(1) + lines[:, 0]
        assert begins.max() == 1
    inside = ~(rows[:, 0] | rows[:, -1] | cols[:, 0] | cols[:, -1])
    sides = rows[inside].sum(1) - cols[inside].sum(1)
    assert inside.sum() > 100
    assert (sides == 0).all(), "a square in a square"


def test_both_ways_come_at_equal_odds() -> None:
    black, white, at = black_and_white(2000)
    blends, _ = mix(black, white, BOTH, 0, 0, at)
    flat = blends.flatten(1)
    is_blend = (flat.amin(1) == flat.amax(1)) & (flat[:, 0] > 0) & (flat[:, 0] < 255)
    assert is_blend.float().mean().item() == pytest.approx(0.5, abs=0.08)


@WAYS
def test_a_blend_is_a_function_of_seed_epoch_and_picture(ways: dict[str, float]) -> None:
    config = DataConfig(**ways)  # type: ignore[arg-type]
    images, others = torch.randint(0, 256, (2, 50, 8, 8, 3), dtype=torch.uint8)
    at, some = torch.arange(50), torch.tensor([31, 7, 12])
    whole, share = mix(images, others, config, 3, 2, at)
    blends, shares = mix(images[some], others[some], config, 3, 2, some)
    assert torch.equal(blends, whole[some])
    assert torch.equal(shares, share[some])
    for seed, epoch in ((4, 2), (3, 1)):
        assert not torch.equal(mix(images, others, config, seed, epoch, at)[1], share)


@pytest.mark.parametrize("alpha", [0.01, 5, 10])
def test_every_strength_gives_shares(alpha: float) -> None:
    black, white, at = black_and_white(5000, 2)
    share = mix(black, white, DataConfig(mixup=alpha), 0, 0, at)[1]
    assert ((share >= 0) & (share <= 1)).all()
    assert share.std().item() == pytest.approx(0.5 / math.sqrt(2 * alpha + 1), abs=0.02)


def test_the_other_picture_is_any_of_all() -> None:
    drawn = draw_others(10, 0, 0, torch.arange(10_000))
    assert drawn.bincount(minlength=10).tolist() == pytest.approx([1000] * 10, abs=120)
    assert torch.equal(drawn[5:8], draw_others(10, 0, 0, torch.arange(5, 8)))
    assert not torch.equal(drawn, draw_others(10, 0, 1, torch.arange(10_000)))


def test_labels_are_blended_by_the_same_share() -> None:
    share = torch.tensor([0.25, 0.6, 0.6])
    y = blend_labels(torch.tensor([0, 2, 1]), torch.tensor([1, 0, 1]), share, 3)
    torch.testing.assert_close(y, torch.tensor([[0.75, 0.25, 0], [0.6, 0, 0.4], [0, 1, 0]]))


def two_tones(quick: RunConfig, n: int = 40, **data: float) -> TrainLoader:
    """Return batches of pictures that are black (class 0) or white (class 1)."""
    labels = torch.arange(n) % 2
    images = (labels * 255).byte().view(-1, 1, 1, 1).expand(n, 8, 8, 1).contiguous()
    pictures = ImageSet(images, labels, [str(i) for i in range(n)], digests(images))
    config = quick.override({f"data.{name}": value for name, value in data.items()})
    plain = Preprocess(height=8, width=8, channels=1, resize="crop", mean=(0.0,), std=(1.0,))
    return TrainLoader(pictures, plain, config, CPU.device)


@WAYS
def test_batches_have_the_label_that_their_pixels_have(
    ways: dict[str, float], quick: RunConfig
) -> None:
    loader = two_tones(quick, **ways)
    mixed = 0
    for epoch in range(2):
        for x, y in loader.batches(epoch):
            assert y.shape == (len(x), 2)
            torch.testing.assert_close(y.sum(1), torch.ones(len(x)))
            torch.testing.assert_close(x.mean((1, 2, 3)), y[:, 1], atol=0.5 / 255 + 1e-6, rtol=0)
            mixed += int(((y > 0.01) & (y < 0.99)).any(1).sum())
    assert mixed > 10
    whole = list(loader.batches(1))
    for (x, y), (again, labels) in zip(whole[1:], loader.batches(1, 1), strict=True):
        assert torch.equal(x, again)
        assert torch.equal(y, labels)


def test_nothing_is_mixed_unless_it_is_asked_for(quick: RunConfig) -> None:
    loader = two_tones(quick, mixup=1.0, cutmix=1.0)
    for plain in (two_tones(quick), loader.unmixed()):
        x, y = next(plain.batches(0))
        assert y.dtype == torch.int64
        assert torch.equal(x.mean((1, 2, 3)), y.float())
    assert loader.config.data.mixup == 1.0, "the loader is as it was"


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("kind", ["none", "balanced"])
def test_an_update_goes_towards_the_blended_labels(
    kind: str, smoothing: float, quick: RunConfig
) -> None:
    words = {"train.class_weight": kind, "train.label_smoothing": smoothing}
    loader = two_tones(quick.override(words), cutmix=1.0)
    some = torch.tensor([*range(0, 40, 2), 1, 3])
    loader = TrainLoader(
        loader.pictures.select(some), loader.preprocess, loader.config, loader.device
    )
    model = build_model("mlp", num_classes=2, in_channels=1, image_size=(8, 8), args={"width": 8})
    state = TrainState(model, torch.optim.SGD(model.parameters(), lr=1e-9))
    same = copy.deepcopy(model)
    x, y = next(loader.batches(0))
    train_step(state, x, y, Plan.of(loader, CPU, 10))
    logits = same(x)
    target = y * (1 - smoothing) + smoothing / 2
    loss_B = -(target * logits.log_softmax(1)).sum(1)
    weight_K = torch.tensor([22 / 40, 22 / 4]) if kind == "balanced" else torch.ones(2)
    ((y * weight_K).sum(1) * loss_B).mean().backward()
    for mine, theirs in zip(model.parameters(), same.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad)
    loss, right, count = state.sums.tolist()
    assert loss / count == pytest.approx(-(y * logits.log_softmax(1)).sum(1).mean().item())
    assert right == (logits.argmax(1) == y.argmax(1)).sum(), "the larger share is right"


def test_norms_are_measured_on_whole_pictures(quick: RunConfig) -> None:
    """What is classified later is no blend."""
    loader = two_tones(quick, mixup=1.0)
    for x, y in loop._shown_anew(loader, 0, lambda: None):
        assert torch.equal(x.mean((1, 2, 3)), y.float())


def test_a_blend_cannot_be_learned_by_heart_and_is_not_tried(quick: RunConfig) -> None:
    loader = two_tones(quick, mixup=1.0)
    model = build_model("mlp", num_classes=2, in_channels=1, image_size=(8, 8), args={"width": 8})
    assert learn_by_heart(model, loader, CPU).learned


@pytest.mark.parametrize(("name", "value"), [("mixup", -0.1), ("cutmix", 0.001), ("mixup", 11)])
def test_other_strengths_are_refused(name: str, value: float) -> None:
    with pytest.raises(UsageError, match=rf"data\.{name} is .*allowed: 0, or 0\.01 to 10"):
        RunConfig().override({f"data.{name}": value})


def test_a_training_with_blends_learns_and_resumes_bit_for_bit(
    quick: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = quick.override(
        {
            "data.mixup": 0.2, "data.cutmix": 1.0, "model.name": "net-batchnorm",
            "train.epochs": 6, "train.precise_bn": True, "train.checkpoint_every": "7steps",
        }
    )  # fmt: skip  # one setting a line would say no more
    whole = train_run(config, tmp_path / "a", Display(quiet=True), lambda _: None)
    assert whole.test.accuracy > 0.85
    last = whole.epochs[-1]
    assert last.running_accuracy < whole.train.accuracy - 0.05, "blends are harder"

    original, steps = loop.train_step, []

    def counted(*given: object) -> None:
        steps.append(True)
        if len(steps) == 40:
            raise StoppedError("stopped", 2)
        original(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(loop, "train_step", counted)
    with pytest.raises(StoppedError):
        train_run(config, tmp_path / "b", Display(quiet=True), lambda _: None)
    monkeypatch.undo()
    resume_run(tmp_path / "b", Display(quiet=True), lambda _: None)
    require_same_weights(tmp_path / "a", tmp_path / "b")
