"""The learning rate test: a curve, a rule, a picture, and nothing else left behind."""

import json
import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import nunbit
from nunbit import lrfind
from nunbit.cli import main
from nunbit.config import RunConfig
from nunbit.errors import CannotCreateError, DataError, DivergedStepError, UsageError
from nunbit.lrfind import Point, read_off, smooth
from nunbit.training.heart import ByHeart

HEART = ByHeart(learned=True, pictures=16, updates=9, first_loss=2.3, last_loss=0.2)


def points(losses: list[float]) -> list[Point]:
    rates = [10.0 ** (i / 10 - 7) for i in range(len(losses))]
    return list(map(Point, rates, losses, smooth(losses, 5)))


def test_a_search_is_a_curve_a_picture_and_nothing_else(quick: RunConfig, tmp_path: Path) -> None:
    config = quick.override({"model.name": "mlp"})
    found = nunbit.lr_find(config, steps=60, quiet=True)
    assert 1e-4 <= found.suggestion <= 0.1
    assert found.suggestion == lrfind.round_rate(found.least / 10)
    assert found.steepest < found.least
    assert found.by_heart.learned
    rates = [point.lr for point in found.curve]
    assert rates[0] == lrfind.LOWEST
    steps = [math.log(b / a) for a, b in pairwise(rates)]
    assert steps == pytest.approx([math.log(1e8) / 59] * len(steps))
    assert [p.name for p in tmp_path.iterdir()] == ["lr-find-quick.png"], "no run folder"
    again = nunbit.lr_find(config, steps=60, quiet=True)
    assert again.curve == found.curve, "a function of the settings"
    assert again.file.name == "lr-find-quick-2.png", "nothing is overwritten"


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["lr-find", "--model", "mlp", "--train.threads", "1", "--steps", "50"]
    assert main([*words, "--out", "new/a.png", "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    result = json.loads(out)
    assert set(result) == {"suggestion", "least", "steepest", "curve", "by_heart", "file"}
    assert set(result["curve"][0]) == {"lr", "loss", "smoothed"}
    assert result["file"] == "new/a.png"
    assert (tmp_path / "new" / "a.png").read_bytes().startswith(b"\x89PNG")
    assert main([*words, "--out", "new"]) == 0
    text = capsys.readouterr().out
    assert f"suggested learning rate {result['suggestion']:g}: a tenth of" in text
    assert "one batch of 16 pictures can be learned by heart" in text
    next_words = "nunbit train --model mlp --train.threads 1 --optim.lr"
    assert f"next:    {next_words} {result['suggestion']:g}\n" in text
    assert (tmp_path / "new" / "lr-find-digits-cnn.png").exists()
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("words", "code", "hint"),
    [
        (["--optim.lr", "0.1"], 2, "'optim.lr' has no effect on lr-find"),
        (["--train.epochs", "3"], 2, "'train.epochs' has no effect"),
        (["--steps", "5"], 2, "steps is 5; allowed: 20 to 10000"),
        (["--out", "taken.png"], 73, "taken.png exists; choose another --out"),
        (["--out", "a.jpg"], 73, "a.jpg is no folder and no name of a .png file"),
        (["--data", "nowhere"], 66, "no such path"),
    ],
)
def test_wrong_input_is_one_line(
    words: list[str], code: int, hint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "taken.png").write_text("mine")
    assert main(["lr-find", *words]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert hint in err
    assert [p.name for p in tmp_path.iterdir()] == ["taken.png"]
    assert (tmp_path / "taken.png").read_text() == "mine"


def test_smoothing_is_symmetric_and_bounds_an_explosion() -> None:
    assert smooth([2.0] * 30, 5) == pytest.approx([2.0] * 30)
    bump = smooth([0.0] * 10 + [6.0] + [0.0] * 10, 5)[5:16]  # capped at 4 times the first loss
    assert bump == [0.0] * 11
    bump = smooth([2.0] * 10 + [8.0] + [2.0] * 10, 5)[5:16]
    assert bump == pytest.approx(bump[::-1])
    assert bump[5] == pytest.approx(3.0), "the middle has the weight 6 of 36"
    exploded = smooth([2.0] * 20 + [1e30], 5)
    assert max(exploded) <= 8.0


def test_the_rules() -> None:
    falling = [2.0] * 20 + [2.0 - 0.02 * i for i in range(20)] + [1.6 - 0.2 * i for i in range(6)]
    curve = points([*falling, *([0.6] * 10), 0.9, 2.0, 9.0])
    rates = [point.lr for point in curve]
    least, steepest = read_off(curve, HEART)
    assert least in rates[47:55]
    assert steepest in rates[40:46]


def test_a_loss_that_never_falls_gives_no_suggestion() -> None:
    noise = (2.3 + 0.01 * np.random.default_rng(0).standard_normal(60)).tolist()
    with pytest.raises(DataError, match="no learning rate from 1e-07 to 10 lowers the loss; one b"):
        read_off(points(noise), HEART)
    with pytest.raises(DataError):
        read_off(points([2.3 + 0.1 * i for i in range(60)]), HEART)


def test_a_network_without_a_finite_loss_is_named(
    quick: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = lrfind.build_start

    def broken(*args: object) -> object:
        start = build(*args)  # type: ignore[arg-type]
        start.model.get_submodule("fc2").bias.data.fill_(math.inf)  # type: ignore[union-attr,operator]
        return start

    monkeypatch.setattr(lrfind, "build_start", broken)
    with pytest.raises(DivergedStepError, match="the loss became nan at step 0"):
        nunbit.lr_find(quick, quiet=True)


def test_python_names_are_those_of_train(quick: RunConfig, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"'optim\.lr' has no effect"):
        nunbit.lr_find(quick, lr=0.1)
    with pytest.raises(CannotCreateError):
        nunbit.lr_find(quick, out=tmp_path / "x.txt")
