"""Corrections without touching a file, and near duplicates on one side of a split."""

import io
import json
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter

import nunbit
from conftest import write_classes
from nunbit.cli import main
from nunbit.config import DataConfig, RunConfig
from nunbit.data.duplicates import group_near_duplicates
from nunbit.data.overrides import Override, apply_overrides, read_overrides, write_overrides
from nunbit.data.sources import open_source
from nunbit.data.splits import Dataset, open_dataset
from nunbit.errors import DataError

SIDE = 64


def scene(seed: int) -> Image.Image:
    """Return a picture with large shapes and no two alike."""
    noise = np.random.default_rng(seed).integers(0, 256, (6, 6, 3)).astype(np.uint8)
    smooth = Image.fromarray(noise).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    return smooth.filter(ImageFilter.GaussianBlur(1))


def encoded_again(image: Image.Image, quality: int) -> Image.Image:
    stream = io.BytesIO()
    image.save(stream, format="JPEG", quality=quality)
    return Image.open(stream).convert("RGB")


def test_copies_are_grouped_and_others_are_not() -> None:
    scenes = [scene(seed) for seed in range(60)]
    copies = [encoded_again(image, 40) for image in scenes[:10]]
    copies += [image.resize((40, 40)).resize((SIDE, SIDE)) for image in scenes[10:20]]
    groups = group_near_duplicates(
        torch.from_numpy(np.stack([np.asarray(i) for i in [*scenes, *copies]]))
    )
    assert groups[:60].tolist() == list(range(60))
    assert groups[60:].tolist() == list(range(20))


def read(folder: Path, **settings: object) -> Dataset:
    config = DataConfig(source=str(folder), size=SIDE, **settings)  # type: ignore[arg-type]
    return open_dataset(open_source(str(folder)), config, 1, lambda items, _n, _label: iter(items))


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    """Two classes of 30 scenes; each is there twice, once encoded again."""
    for label in (0, 1):
        folder = tmp_path / "scenes" / f"class{label}"
        folder.mkdir(parents=True)
        for i in range(30):
            image = scene(100 * label + i)
            image.save(folder / f"{i:02}.png")
            encoded_again(image, 60).save(folder / f"{i:02}-copy.png")
    return tmp_path / "scenes"


def torn_apart(dataset: Dataset) -> int:
    parts = [dataset.train, dataset.test] + ([dataset.val] if dataset.val else [])
    where = {name.replace("-copy", ""): set() for part in parts for name in part.names}
    for number, part in enumerate(parts):
        for name in part.names:
            where[name.replace("-copy", "")].add(number)
    return sum(len(found) > 1 for found in where.values())


def test_near_duplicates_stay_on_one_side(scenes: Path) -> None:
    assert torn_apart(read(scenes)) > 5
    grouped = read(scenes, group_duplicates=True)
    assert torn_apart(grouped) == 0
    assert 20 <= len(grouped.test) <= 28  # a fifth of 120


def write(table: Path, *rows: str) -> Path:
    table.write_text("\n".join(("path,action,label,reason", *rows)) + "\n")
    return table


def test_a_table_drops_and_relabels_and_the_files_stay(
    colours: Path, tmp_path: Path, quick: RunConfig
) -> None:
    before = {path: path.read_bytes() for path in colours.rglob("*.png")}
    table = write(
        tmp_path / "fixes.csv", "red/000.png,drop,,blurred", "red/001.png,relabel,blue,wrong"
    )
    plain, fixed = read(colours), read(colours, overrides=str(table))
    labels = {
        name: fixed.class_names[label]
        for part in (fixed.train, fixed.val, fixed.test)
        if part
        for name, label in zip(part.names, part.labels.tolist(), strict=True)
    }
    assert len(labels) == 59
    assert "red/000.png" not in labels
    assert labels["red/001.png"] == "blue"
    assert fixed.fingerprint != plain.fingerprint
    assert {path: path.read_bytes() for path in colours.rglob("*.png")} == before

    config = quick.override({"train.epochs": 1, "data.size": 16, "data.overrides": str(table)})
    run = nunbit.train(config, data=colours, run_dir=tmp_path / "run", quiet=True)
    assert nunbit.load(run.run_dir).evaluate().n == run.test.n
    (tmp_path / "run" / "result.json").unlink()
    write(table, "red/002.png,drop,,")
    with pytest.raises(nunbit.NunbitError, match=r"changed|another data\.overrides"):
        nunbit.resume(tmp_path / "run", quiet=True)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("red/999.png,drop,,", "line 2: .* has no picture 'red/999.png'"),
        ("red/000.png,delete,,", "line 2: action 'delete'"),
        ("red/000.png,relabel,reed,", "line 2: no class 'reed'; did you mean 'red'"),
        ("red/000.png,drop,,\nred/000.png,drop,,", "line 3: .* named a second time"),
    ],
)
def test_a_wrong_line_is_named(colours: Path, tmp_path: Path, row: str, said: str) -> None:
    table = write(tmp_path / "fixes.csv", row)
    with pytest.raises(nunbit.NunbitError, match=said):
        read(colours, overrides=str(table))


def test_the_command_takes_a_table(
    colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = write(tmp_path / "fixes.csv", "red/000.png,drop,,")
    words = ["train", "--data", str(colours), "--model", "net", "--quiet"]
    settings = ["--data.size", "16", "--train.epochs", "1", "--train.threads", "1", "--json"]
    assert main([*words, "--overrides", str(table), *settings]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["train"]["n"] + result["test"]["n"] < 60
    assert main([*words, "--overrides", "none.csv", *settings]) == 66
    assert "no table" in capsys.readouterr().err


def test_a_table_reads_back_whatever_names_pictures_have(tmp_path: Path) -> None:
    rows = [
        Override("red/a\rb.png", "drop", "", "two lines\nand a comma, too"),
        Override('red/"c".png', "relabel", "green, blue", ""),
    ]
    (tmp_path / "fixes.csv").write_bytes(write_overrides(rows).encode())
    assert read_overrides(tmp_path / "fixes.csv") == rows


def test_a_table_may_spell_names_in_the_other_way(colours: Path, tmp_path: Path) -> None:
    nfc, nfd = (unicodedata.normalize(form, "빨강") for form in ("NFC", "NFD"))
    (colours / "red").rename(colours / nfd)
    rows = (f"{nfc}/000.png,drop,,", f"{nfd}/001.png,drop,,", f"blue/000.png,relabel,{nfd},")
    fixed = read(colours, overrides=str(write(tmp_path / "fixes.csv", *rows)))
    parts = [part for part in (fixed.train, fixed.val, fixed.test) if part]
    assert sum(part.labels.tolist().count(2) for part in parts) == 20 - 2 + 1


def test_lines_are_counted_as_an_editor_counts_them(colours: Path, tmp_path: Path) -> None:
    table = tmp_path / "fixes.csv"
    table.write_text('path,action,label,reason\n\nred/000.png,drop,,"two\nlines"\nx.png,drop,,\n')
    with pytest.raises(nunbit.NunbitError, match=r"line 5: .* has no picture 'x\.png'"):
        read(colours, overrides=str(table))


def test_two_spellings_of_one_name_are_one_line_too_many(tmp_path: Path) -> None:
    """Of two lines for one picture the last won without a word."""
    write_classes(tmp_path / "d", 5)
    name = unicodedata.normalize("NFC", "빨강.png")
    (tmp_path / "d/red/000.png").rename(tmp_path / "d/red" / name)
    lines = [f"red/{unicodedata.normalize(form, name)}" for form in ("NFC", "NFD")]
    table = tmp_path / "fixes.csv"
    table.write_text(f"path,action,label\n{lines[0]},drop,\n{lines[1]},relabel,blue\n")
    with pytest.raises(DataError, match="is named a second time; keep one line for it"):
        apply_overrides(open_source(str(tmp_path / "d")), table)
