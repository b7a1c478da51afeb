"""The preview: the pixels that a training shows, on one sheet, and nothing else left behind."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import nunbit
from conftest import write_classes
from nunbit import previewing
from nunbit.cli import main
from nunbit.config import RunConfig
from nunbit.data.loader import TrainLoader
from nunbit.errors import StoppedError
from nunbit.previewing import by_turns, cells
from nunbit.progress import Display
from nunbit.reading import read_dataset
from nunbit.runtime import choose_runtime
from nunbit.signals import StopRequest


@pytest.mark.parametrize(("seed", "mixed"), [(0, {}), (7, {}), (0, {"data.cutmix": 1.0})])
def test_a_sheet_has_the_pixels_of_the_training(
    seed: int, mixed: dict[str, float], quick: RunConfig
) -> None:
    config = quick.override(
        {
            "data.flip": True, "data.flip_vertical": True, "data.rotate": 20, "data.zoom": 0.3,
            "data.light": 0.2, "data.saturation": 0.4, "data.cutout": 2, "data.channels": 3,
            "train.seed": seed, **mixed,
        }
    )  # fmt: skip  # a line each would say no more
    runtime = choose_runtime(config.train)
    dataset = read_dataset(config, runtime, Display(quiet=True), StopRequest())
    loader = TrainLoader(dataset.train, dataset.preprocess, config, runtime.device)
    chosen = by_turns(dataset.train.labels, 5)
    labels = dataset.train.labels[chosen].tolist()
    sheet, titles = cells(loader, chosen, [dataset.class_names[k] for k in labels], 2)
    assert len(sheet) == len(titles) == 5 * 3
    for row, i in enumerate(chosen.tolist()):
        assert torch.equal(sheet[3 * row], dataset.train.images[i]), "first as it is"
        for epoch in range(2):
            at = loader.order(epoch).tolist().index(i)
            x, y = (torch.cat(part) for part in zip(*loader.batches(epoch), strict=True))
            seen, share = x[at], f": {float(y[at][labels[row]]):.0%}" if mixed else ""
            assert titles[3 * row + 1 + epoch] == f"epoch {epoch + 1}{share}"
            ours = dataset.preprocess.normalize(sheet[3 * row + 1 + epoch][None])[0]
            assert torch.equal(ours, seen)


def test_classes_come_by_turns() -> None:
    labels = torch.tensor([1, 1, 1, 0, 3, 1, 0, 3])  # and none of class 2
    assert by_turns(labels, 5).tolist() == [3, 0, 4, 6, 1]
    assert by_turns(labels, 99).tolist() == [3, 0, 4, 6, 1, 7, 2, 5]
    many = torch.arange(1000).repeat_interleave(3)
    assert many[by_turns(many, 5)].tolist() == [0, 200, 400, 600, 800], "all over the list"


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["preview", "--data.rotate", "15", "--data.flip-vertical"]
    assert main([*words, "--out", "new/a.png", "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    result = json.loads(out)
    assert result["labels"] == ["0", "2", "4", "6", "8"]
    assert len(set(result["pictures"])) == 5
    assert result["epochs"] == 7
    assert result["changes"] == {
        "data.flip_vertical": True, "data.rotate": 15.0, "data.shift_pixels": 1,
    }  # fmt: skip
    assert (result["size"], result["classes"], result["train_n"]) == ([8, 8, 1], 10, 1295)
    with Image.open(tmp_path / result["file"]) as image:
        assert image.width / image.height == pytest.approx(8 * 1.6 / (5 * 1.8), rel=0.01)
    assert main([*words, "--out", "new"]) == 0
    text = capsys.readouterr().out
    assert "digits/cnn: 1,295 training pictures, 10 classes, 8x8x1\n" in text
    assert "changes: data.flip_vertical true, data.rotate 15.0, data.shift_pixels 1\n" in text
    assert "next:    nunbit train --data.rotate 15 --data.flip-vertical true\n" in text
    assert (tmp_path / "new" / "preview-digits-cnn.png").exists()
    assert not (tmp_path / "runs").exists()


def test_without_changes_many_pictures_are_shown(quick: RunConfig, tmp_path: Path) -> None:
    found = nunbit.preview(quick, quiet=True)
    assert (found.epochs, found.changes) == (0, {})
    assert found.labels == tuple("0123456789") * 4
    assert found.file.name == "preview-quick.png"
    again = nunbit.preview(quick, quiet=True)
    assert again.file.name == "preview-quick-2.png", "nothing is overwritten"
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "preview-quick-2.png",
        "preview-quick.png",
    ]


def test_few_pictures_and_few_epochs_make_a_small_sheet(
    quick: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []
    monkeypatch.setattr(previewing, "sheet", lambda *given: drawn.append(given[1:]))
    monkeypatch.setattr(previewing, "to_png", lambda _: b"")
    nunbit.preview(quick, data__shift_pixels=1, quiet=True)
    titles, columns = drawn[0]
    assert columns == 3
    assert titles[:6] == ["0", "epoch 1", "epoch 2", "2", "epoch 1", "epoch 2"]
    found = nunbit.preview(quick, shift_pixels=1, epochs=0, model__head="logistic", quiet=True)
    assert (found.epochs, found.changes) == (0, {}), "a training without epochs changes nothing"
    assert drawn[1][1] == previewing.COLUMNS


def test_three_pictures_are_three_rows(tmp_path: Path, quick: RunConfig) -> None:
    write_classes(tmp_path / "few", 3)
    found = nunbit.preview(quick, data=tmp_path / "few", quiet=True)
    assert (found.epochs, len(found.pictures)) == (0, found.train_n)
    assert found.train_n < previewing.ROWS


def test_another_seed_shows_other_pictures_and_the_same_seed_the_same(quick: RunConfig) -> None:
    shown = [nunbit.preview(quick, seed=seed, quiet=True).pictures for seed in (0, 1, 0)]
    assert shown[0] == shown[2]
    assert len(set(shown[0]) & set(shown[1])) < 20


def test_the_settings_of_a_run_can_be_seen(
    quick: RunConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also those that a budget or finetune chose."""
    config = quick.override({"data.zoom": 0.25})
    (tmp_path / "config.json").write_text(config.to_json())
    assert main(["preview", "--config", "config.json"]) == 0
    text = capsys.readouterr().out
    assert "changes: data.zoom 0.25\n" in text
    assert "next:    nunbit train --config config.json\n" in text
    assert main(["preview", "digits/cnn", "--config", "config.json"]) == 2
    assert "both a recipe ('digits/cnn') and --config were given" in capsys.readouterr().err


def test_a_signal_while_pictures_are_read_is_heard(
    quick: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the last picture nothing asked for it, and the sheet was written all the same."""
    build = previewing.build_start

    def interrupted(*given: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        return build(*given)

    monkeypatch.setattr(previewing, "build_start", interrupted)
    with pytest.raises(StoppedError):
        nunbit.preview(quick, quiet=True)
    assert not list(tmp_path.glob("*.png"))


@pytest.mark.parametrize(
    ("words", "code", "hint"),
    [
        (["--data.saturation", "0.3"], 2, "data.saturation needs colours; the pictures are grey"),
        (["--data.rotate", "181"], 2, "data.rotate is 181.0; allowed: 0 to 180 degrees"),
        (["--data.cutout", "8"], 2, "data.cutout is 8; the pictures are 8x8: set it below"),
        (["--model", "nett"], 2, "did you mean 'net'"),
        (["--model.widht", "5"], 2, "widht"),
        (["--out", "taken.png"], 73, "taken.png exists; choose another --out"),
        (["--data", "nowhere", "--out", "new/a.png"], 66, "no such path"),
        (["--config", "nowhere.json"], 66, "cannot read nowhere.json"),
    ],
)
def test_wrong_input_is_one_line(
    words: list[str], code: int, hint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "taken.png").write_text("mine")
    assert main(["preview", *words]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert hint in err
    assert [p.name for p in tmp_path.iterdir()] == ["taken.png"]


@pytest.mark.parametrize("command", ["preview", "lr-find"])
def test_nothing_is_written_into_the_data(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The sheet became a picture of a class."""
    folder = write_classes(tmp_path / "photos", 5)
    assert main([command, "--data", str(folder), "--out", str(folder / "red")]) == 2
    assert "would lie inside the data; choose another place with --out" in capsys.readouterr().err
    assert len(list(folder.rglob("*.png"))) == 15


def test_a_training_refuses_colours_of_grey_pictures(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--data.saturation", "0.3", "--quiet"]) == 2
    assert "data.saturation needs colours" in capsys.readouterr().err
