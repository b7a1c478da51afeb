"""The doctor: planted faults are found, sound data is left in peace, and nothing is changed."""

import codecs
import csv
import json
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

import nunbit
from conftest import COLOURS, noisy_picture
from nunbit.cli import main
from nunbit.data.overrides import read_overrides
from nunbit.data.pictures import Pictures
from nunbit.data.sources import open_source
from nunbit.diagnosis import shortcuts
from nunbit.diagnosis.doctor import _judged_rows
from nunbit.diagnosis.examination import _Items, file_facts
from nunbit.diagnosis.labels import _suspects
from nunbit.errors import DataError
from nunbit.reporting.diagnosis import report_folder, write_diagnosis
from planting import found_by, plant, with_border

SIDE = 64


def photograph(colour: tuple[int, int, int], seed: int) -> Image.Image:
    """Return large shapes, tinted; no two are alike."""
    noise = np.random.default_rng(seed).integers(0, 256, (8, 8, 3)).astype(np.uint8)
    shapes = Image.fromarray(noise).resize((SIDE, SIDE), Image.Resampling.NEAREST)
    tinted = Image.blend(shapes, Image.new("RGB", shapes.size, colour), 0.4)
    return tinted.rotate(15, Image.Resampling.BICUBIC, fillcolor=colour)


def write_photographs(
    root: Path, count: int = 24, colours: Mapping[str, tuple[int, int, int]] = COLOURS
) -> Path:
    """Write `count` JPEG files for each of three tints."""
    for number, (name, colour) in enumerate(colours.items()):
        (root / name).mkdir(parents=True)
        for i in range(count):
            photograph(colour, 1000 * number + i).save(root / name / f"{i:03}.jpg", quality=90)
    return root


@pytest.fixture(autouse=True)
def _few_trees(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten trees see what these pictures have to show, in a quarter of the time."""
    monkeypatch.setitem(shortcuts.TREES, "n_estimators", 10)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder without faults; tests copy it before they plant one."""
    return write_photographs(tmp_path_factory.mktemp("sound") / "photos")


@pytest.fixture
def photos(sound: Path, tmp_path: Path) -> Path:
    """A copy of the sound folder."""
    return Path(shutil.copytree(sound, tmp_path / "photos"))


def diagnosed(data: Path, **options: Any) -> dict[str, Any]:
    """Return what `nunbit doctor --json` prints."""
    diagnosis = nunbit.doctor(data, features="none", quiet=True, **options)
    return diagnosis.to_dict()


def kinds(report: dict[str, Any]) -> dict[str, str]:
    """Return the severities of what was found."""
    return {issue["kind"]: issue["severity"] for issue in report["issues"]}


def paths(report: dict[str, Any], kind: str) -> list[str]:
    issues = {issue["kind"]: issue for issue in report["issues"]}
    return [row["path"] for row in issues[kind]["pictures"]]


@pytest.mark.slow
def test_planted_faults_are_found(tmp_path: Path) -> None:
    source = write_photographs(tmp_path / "source", 80)
    planted = plant(source, tmp_path / "photos")
    report = nunbit.doctor(tmp_path / "photos", features="basic", quiet=True).to_dict()
    found = found_by(report, planted)
    assert (found.exact, found.damaged) == (20, 10)
    assert found.near >= 16
    assert found.swapped >= 20
    assert report["exit_code"] == 65


def test_a_border_gives_its_class_away(tmp_path: Path) -> None:
    grey = dict.fromkeys(COLOURS, (128, 128, 128))
    photos = write_photographs(tmp_path / "photos", colours=grey)
    assert not [cue for cue in diagnosed(photos)["cues"] if cue["is_shortcut"]]
    for path in sorted((photos / "red").iterdir()):
        with_border(Image.open(path)).save(path, quality=90)
    cues = {cue["cue"]: cue for cue in diagnosed(photos)["cues"]}
    assert cues["border"]["is_shortcut"]
    assert cues["border"]["given_away"] == ["red"]


def test_sound_data_has_no_fault(photos: Path) -> None:
    diagnosis = nunbit.doctor(photos, features="basic", quiet=True)
    said = {finding.kind for finding in diagnosis.findings}
    assert said <= {"shortcut-mean-colour", "shortcut-border"}, "tints are the classes here"
    assert diagnosis.exit_code == 0
    assert diagnosis.fixes_file is None


def test_no_file_is_changed(photos: Path) -> None:
    (photos / "red" / "000.jpg").write_bytes(b"")
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in photos.rglob("*.*")}
    nunbit.doctor(photos, features="basic", quiet=True)
    after = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in photos.rglob("*.*")}
    assert before == after


def _png_named_jpg(photos: Path) -> None:
    Image.open(photos / "red" / "000.jpg").save(photos / "red" / "000.png")
    (photos / "red" / "000.png").rename(photos / "red" / "000.jpg")


def _cmyk(photos: Path) -> None:
    Image.open(photos / "red" / "000.jpg").convert("CMYK").save(photos / "red" / "000.jpg")


def _blank(photos: Path) -> None:
    Image.new("RGB", (SIDE, SIDE), (90, 90, 90)).save(photos / "red" / "000.jpg")


def _dark(photos: Path) -> None:
    image = Image.open(photos / "red" / "000.jpg").point(lambda value: value * 0.2)
    image.save(photos / "red" / "000.jpg", quality=95)


def _copy(photos: Path) -> None:
    shutil.copy(photos / "red" / "000.jpg", photos / "red" / "copy.jpg")


def _copy_elsewhere(photos: Path) -> None:
    shutil.copy(photos / "red" / "000.jpg", photos / "blue" / "copy.jpg")


def _smaller_elsewhere(photos: Path) -> None:
    image = Image.open(photos / "red" / "000.jpg").resize((48, 48))
    image.save(photos / "blue" / "copy.jpg", quality=60)


def _note(photos: Path) -> None:
    (photos / "red" / "notes.txt").write_text("taken in May")


def _few(photos: Path) -> None:
    for path in sorted((photos / "red").iterdir())[2:]:
        path.unlink()


def _fewer(photos: Path) -> None:
    for path in sorted((photos / "red").iterdir())[10:]:
        path.unlink()


@pytest.mark.parametrize(
    ("fault", "kind", "severity"),
    [
        (_png_named_jpg, "wrong-name", "note"),
        (_cmyk, "odd-mode", "note"),
        (_blank, "blank", "warning"),
        (_dark, "dark", "note"),
        (_copy, "exact-duplicates", "warning"),
        (_copy_elsewhere, "conflicting-labels", "error"),
        (_smaller_elsewhere, "near-conflict", "warning"),
        (_note, "ignored", "note"),
        (_few, "tiny-class", "error"),
        (_fewer, "small-class", "warning"),
    ],
)
def test_each_fault_is_named(
    photos: Path, fault: Callable[[Path], None], kind: str, severity: str
) -> None:
    fault(photos)
    report = diagnosed(photos)
    assert kinds(report)[kind] == severity
    issue = next(issue for issue in report["issues"] if issue["kind"] == kind)
    if issue["pictures"]:
        assert "red/000.jpg" in {row["path"] for row in issue["pictures"]}
    assert report["exit_code"] == (65 if severity == "error" else 0)


def split(photos: Path, target: Path, *, held_out: str) -> None:
    """Copy the first 16 pictures of each class into train, and the other 8 into another part."""
    for path in sorted(photos.glob("*/*.jpg")):
        part = "train" if int(path.stem) < 16 else held_out
        (target / part / path.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target / part / path.parent.name / path.name)


def test_a_copy_in_another_split_is_a_leak(photos: Path, tmp_path: Path) -> None:
    split(photos, tmp_path / "split", held_out="test")
    copied = tmp_path / "split" / "train" / "red" / "leak.jpg"
    shutil.copy(tmp_path / "split" / "test" / "red" / "020.jpg", copied)
    report = diagnosed(tmp_path / "split")
    assert kinds(report)["leak"] == "error"
    assert {Path(path).name for path in paths(report, "leak")} == {"leak.jpg", "020.jpg"}
    fixes = read_fixes(Path(report["fixes_file"]))
    assert [(Path(row["path"]).name, row["action"]) for row in fixes] == [("leak.jpg", "drop")]


def test_a_near_copy_of_a_leak_is_one_as_well(photos: Path, tmp_path: Path) -> None:
    """The equal copy in training stood for the one that is held out, whose near copy was missed."""
    split(photos, tmp_path / "split", held_out="val")
    held_out, red = tmp_path / "split/val/red/020.jpg", tmp_path / "split/train/red"
    shutil.copy(held_out, red / "equal.jpg")
    Image.open(held_out).resize((48, 48)).save(red / "near.jpg", quality=90)
    report = diagnosed(tmp_path / "split")
    assert kinds(report)["leak"] == "error"
    assert kinds(report)["near-leak"] == "warning"
    fixes = {row["path"]: row["action"] for row in read_fixes(Path(report["fixes_file"]))}
    assert fixes == {"train/red/equal.jpg": "drop", "train/red/near.jpg": "drop"}


def test_classes_are_counted_where_they_are_trained_on(photos: Path, tmp_path: Path) -> None:
    split(photos, tmp_path / "split", held_out="test")
    for path in sorted((tmp_path / "split/train/red").iterdir())[2:]:
        path.unlink()
    shutil.rmtree(tmp_path / "split/test/green")
    (tmp_path / "split/test/green").mkdir()
    report = diagnosed(tmp_path / "split")
    assert kinds(report)["tiny-class"] == "error", "train refuses it"
    assert kinds(report)["missing-in-test"] == "warning"
    said = {issue["kind"]: issue["message"] for issue in report["issues"]}
    assert "'red' (2)" in said["tiny-class"]
    assert "'green'" in said["missing-in-test"]
    with pytest.raises(DataError, match="'red' has 2"):
        nunbit.train(data=tmp_path / "split", size=16, epochs=1, quiet=True)


def test_the_largest_class_is_set_beside_one_that_has_pictures(photos: Path) -> None:
    for path in sorted((photos / "red").iterdir())[4:]:
        path.unlink()
    for path in (photos / "green").iterdir():
        path.write_bytes(b"")
    said = {issue["kind"]: issue["message"] for issue in diagnosed(photos)["issues"]}
    assert "'blue' has 6 times as many pictures as 'red' (24 and 4)" in said["unbalanced"]


def test_a_name_that_no_file_can_have_is_one_unreadable_picture(photos: Path) -> None:
    lines = [f"{path.relative_to(photos)},{path.parent.name}" for path in photos.rglob("*.jpg")]
    lines.append(f"{'x' * 300}.jpg,red")
    (photos / "table.csv").write_text("path,label\n" + "\n".join(lines))
    report = diagnosed(photos / "table.csv")
    assert kinds(report)["unreadable"] == "error"
    assert report["readable"] == 72


def test_two_reports_at_once_take_two_folders(photos: Path) -> None:
    diagnosis = nunbit.doctor(photos, features="none", quiet=True)
    # Which was free when it began.
    again = write_diagnosis(diagnosis, Path("doctor/photos"), is_asked=False)
    assert diagnosis.report == Path("doctor/photos/report.html")
    assert again.report == Path("doctor/photos-2/report.html")


def read_fixes(table: Path) -> list[dict[str, str]]:
    with table.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def test_a_spreadsheet_knows_the_encoding_of_the_proposals(photos: Path) -> None:
    """Without a byte order mark it shows Hangul as other characters, and saves those."""
    (photos / "red").rename(photos / "빨강")
    (photos / "빨강" / "000.jpg").write_bytes(b"")
    report = diagnosed(photos)
    table = Path(report["fixes_file"])
    assert table.read_bytes().startswith(codecs.BOM_UTF8 + b"path,action,label,reason\n")
    assert [row.path for row in read_overrides(table)] == ["빨강/000.jpg"]


def test_train_honours_the_proposals(photos: Path, tmp_path: Path) -> None:
    (photos / "red" / "000.jpg").write_bytes(b"")
    (photos / "red" / "001.jpg").rename(photos / "blue" / "swapped.jpg")
    shutil.copy(photos / "red" / "002.jpg", photos / "red" / "copy.jpg")
    diagnosis = nunbit.doctor(photos, features="basic", quiet=True)
    assert diagnosis.fixes_file is not None
    fixes = {row["path"]: (row["action"], row["label"]) for row in read_fixes(diagnosis.fixes_file)}
    assert fixes == {
        "red/000.jpg": ("drop", ""),
        "red/copy.jpg": ("drop", ""),
        "blue/swapped.jpg": ("relabel", "red"),
    }
    finished = nunbit.train(
        data=photos, overrides=diagnosis.fixes_file, epochs=1, size=16,
        run_dir=tmp_path / "run", quiet=True,
    )  # fmt: skip  # one line of settings
    dataset = finished.dataset
    parts = [part for part in (dataset.train, dataset.val, dataset.test) if part is not None]
    named = {
        name: dataset.class_names[label]
        for part in parts
        for name, label in zip(part.names, part.labels.tolist(), strict=True)
    }
    assert len(named) == 71
    assert named["blue/swapped.jpg"] == "red"
    assert not {"red/000.jpg", "red/copy.jpg"} & set(named)


def test_the_page_needs_nothing_else(photos: Path) -> None:
    _copy_elsewhere(photos)
    diagnosis = nunbit.doctor(photos, features="basic", quiet=True)
    assert diagnosis.report is not None
    page = diagnosis.report.read_text(encoding="utf-8")
    assert re.findall(r'(?:src|href)="(?!data:|#)[^"]*"', page) == []
    data = re.search(r'id="nunbit-data">(.*?)</script>', page, re.DOTALL)
    assert data is not None
    assert json.loads(data[1])["counts"] == diagnosis.to_dict()["counts"]
    section = page.split('id="conflicting-labels"')[1].split("</section>")[0]
    assert section.count("<img ") == 2
    assert "red/000.jpg" in section
    assert "blue/copy.jpg" in section


def test_names_cannot_become_html(photos: Path) -> None:
    (photos / "red").rename(photos / "<b>red&")
    shutil.copy(photos / "<b>red&" / "000.jpg", photos / "<b>red&" / "<img src=x>.jpg")
    diagnosis = nunbit.doctor(photos, features="none", quiet=True)
    assert diagnosis.report is not None
    page = diagnosis.report.read_text(encoding="utf-8")
    assert "<img src=x>" not in page
    assert "<b>red&" not in page


@pytest.mark.slow
def test_known_sets_are_looked_at_too(tmp_path: Path) -> None:
    report = nunbit.doctor("digits", features="basic", quiet=True).to_dict()
    assert (report["images"], report["classes"], report["exit_code"]) == (1797, 10, 0)
    assert "near-duplicates" not in kinds(report), "digits look alike without being copies"
    assert not [cue for cue in report["cues"] if cue["is_shortcut"]]


def test_a_folder_without_one_picture_is_diagnosed(photos: Path) -> None:
    for path in photos.rglob("*.jpg"):
        path.write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    report = diagnosed(photos)
    assert report["exit_code"] == 65
    assert kinds(report)["unreadable"] == "error"
    assert (report["images"], report["readable"]) == (72, 0)


@pytest.mark.parametrize(
    ("lines", "kind", "fixes"),
    [
        (["red/000.jpg,red", "red/000.jpg,red"], "exact-duplicates", []),
        (["red/000.jpg,red,train", "red/000.jpg,red,test"], "leak", []),
        (["red/000.jpg,red", "red/000.jpg,blue"], "conflicting-labels", ["red/000.jpg"]),
    ],
)
def test_a_file_in_two_lines_of_a_table_is_proposed_once_or_kept(
    photos: Path, lines: list[str], kind: str, fixes: list[str]
) -> None:
    is_split = lines[0].endswith("train")
    rows = ["path,label,split" if is_split else "path,label", *lines]
    for path in sorted(photos.rglob("*.jpg")):
        if (name := str(path.relative_to(photos))) != "red/000.jpg":
            parts = ("train", "test") if is_split and path.stem in ("001", "002") else ("train",)
            place = f",{parts[int(path.stem == '002') % len(parts)]}" if is_split else ""
            rows.append(f"{name},{path.parent.name}{place}")
    (photos / "table.csv").write_text("\n".join(rows))
    diagnosis = nunbit.doctor(photos / "table.csv", features="none", quiet=True)
    assert kind in kinds(diagnosis.to_dict())
    assert [fix.path for fix in diagnosis.fixes] == fixes


def test_a_class_of_one_burst_is_not_judged(photos: Path) -> None:
    (photos / "burst").mkdir()
    for i in range(8):
        photograph((200, 200, 60), 5000).save(photos / "burst" / f"{i}.jpg", quality=95 - 3 * i)
    diagnosis = nunbit.doctor(photos, features="basic", quiet=True)
    assert diagnosis.judgement is not None
    assert diagnosis.judgement.count == 72
    assert "labels of 72 of 80 pictures were judged" in diagnosis.labels_note
    names = diagnosis.pictures.names
    assert not [s for s in diagnosis.judgement.suspects if names[s.position].startswith("burst")]


def test_rare_classes_that_a_sample_nearly_misses_are_not_judged() -> None:
    labels = np.repeat([0, 1, 2], [6000, 6000, 6])
    pictures = SimpleNamespace(labels=labels, readable=np.arange(len(labels)))
    rows = _judged_rows(pictures, 1200)
    assert np.bincount(labels[rows], minlength=3)[2] == 0
    assert len(rows) >= 1195
    assert np.bincount(labels[_judged_rows(pictures, 0)])[2] == 6


def test_the_next_command_can_be_pasted(
    photos: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shutil.copy(photos / "red" / "000.jpg", photos / "red" / "copy.jpg")
    photos.rename(tmp_path / "my photos")
    assert main(["doctor", "my photos", "--features", "none"]) == 0
    command = "nunbit train --data 'my photos' --overrides 'doctor/my photos/fixes.csv'"
    assert command in capsys.readouterr().out
    page = (tmp_path / "doctor" / "my photos" / "report.html").read_text()
    assert command.replace("'", "&#39;") in page
    (tmp_path / "my photos").rename(tmp_path / "digits")
    assert main(["doctor", "./digits", "--features", "none"]) == 0
    assert "--data ./digits --overrides" in capsys.readouterr().out
    (tmp_path / "digits").rename(tmp_path / "my photos")
    published = replace(open_source("my photos"), is_published=True)
    monkeypatch.setattr("nunbit.api.open_source", lambda *_: published)
    assert nunbit.doctor("my photos", features="none", out="o", quiet=True).fixes == ()


def test_the_report_is_named_after_the_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "v1.2").mkdir()
    (tmp_path / "table.csv").touch()
    for spec, name in (("~/v1.2", "v1.2"), ("./v1.2", "v1.2"), ("table.csv", "table"),
                       ("fashion-mnist", "fashion-mnist")):  # fmt: skip  # two lines
        assert report_folder(spec, None) == Path("doctor") / name


def test_telephones_and_cut_animations_are_no_fault(tmp_path: Path) -> None:
    first, second = photograph((9, 9, 9), 1), photograph((9, 9, 9), 2)
    first.save(tmp_path / "p.jpg", "MPO", save_all=True, append_images=[second])
    facts = file_facts(tmp_path / "p.jpg")
    assert facts is not None
    assert (facts.kind, facts.num_frames) == ("JPEG", 1)
    first.save(tmp_path / "a.gif", save_all=True, append_images=[second])
    whole = (tmp_path / "a.gif").read_bytes()
    (tmp_path / "a.gif").write_bytes(whole[: len(whole) * 3 // 4])
    facts = file_facts(tmp_path / "a.gif")
    assert facts is not None
    assert facts.kind == "GIF"


def test_odds_make_a_suspect() -> None:
    probabilities = np.array([[0.95, 0.05], [0.5, 0.5], [0.08, 0.92], [0.01, 0.99]], np.float32)
    labels = np.array([0, 0, 0, 0])
    assert [row[:2] for row in _suspects(probabilities, labels)] == [(3, 1), (2, 1)]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["nowhere"], 66, "nowhere"),
        (["photos", "--features", "pretraned"], 2, "did you mean 'pretrained'?"),
        (["photos", "--features", "none", "--out", "photos/red"], 73, "not empty"),
        (["photos", "--out", "photos/report"], 2, "inside the data"),
        (["photos", "--sample", "-1"], 2, "sample"),
    ],
)
def test_wrong_input_is_one_line(
    photos: Path, arguments: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", *arguments]) == code
    error = capsys.readouterr().err.strip()
    assert said in error
    assert "\n" not in error
    assert not (photos / "report").exists()


def test_the_command_says_what_it_found(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _copy_elsewhere(photos)
    assert main(["doctor", "photos", "--features", "none"]) == 65
    out = capsys.readouterr().out
    assert "error   2 pictures are the same in groups of two labels or more" in out
    assert "doctor/photos/fixes.csv" in out
    assert main(["doctor", "photos", "--features", "none", "--json"]) == 65
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert report["report"] == "doctor/photos-2/report.html", "an earlier report is kept"


def test_noise_has_no_labels_to_judge(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / "noise" / name).mkdir(parents=True)
        for i in range(30):
            picture = noisy_picture((128, 128, 128), 1000 * ord(name) + i, (32, 32))
            picture.save(tmp_path / "noise" / name / f"{i}.png")
    report = nunbit.doctor(tmp_path / "noise", features="basic", quiet=True).to_dict()
    assert "do not tell the classes apart" in report["labels"]
    assert "label-suspect" not in kinds(report)


def test_the_items_of_several_parts_are_one_row() -> None:
    def joined(*parts: list[Path | bytes]) -> _Items:
        pictures = (Pictures(part, np.zeros(len(part), np.int64), []) for part in parts)
        return _Items(SimpleNamespace(parts=dict(enumerate(pictures))))  # type: ignore[arg-type]  # a source, as far as it is looked at

    row = joined([b"a", b"b"], [], [b"c"])
    assert list(row) == [b"a", b"b", b"c"]
    assert (len(row), row[-1], row[1:]) == (3, b"c", [b"b", b"c"])
    with pytest.raises(IndexError):
        row[3]
    assert list(joined()) == []
