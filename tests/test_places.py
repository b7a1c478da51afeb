"""Where results go: found before the work, made after it, and nothing is written over."""

from pathlib import Path

import pytest

from nunbit import places
from nunbit.errors import CannotCreateError, StorageError
from nunbit.places import claim_folder, free_folder, free_picture, make_folder, write_picture


def test_a_free_folder_is_found_without_being_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    assert free_folder(None, tmp_path / "empty") == tmp_path / "empty-2"
    assert free_folder(tmp_path / "empty", tmp_path) == tmp_path / "empty"
    assert free_folder(tmp_path / "a" / "b", tmp_path) == tmp_path / "a" / "b"
    for taken in (tmp_path, tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(CannotCreateError):
            free_folder(taken, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "file"]


def test_a_folder_that_cannot_be_made_is_an_error_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(CannotCreateError, match="cannot write into"):
        make_folder(tmp_path / "file" / "run")
    make_folder(tmp_path / "새 폴더 🌼" / "run")
    assert list((tmp_path / "새 폴더 🌼" / "run").iterdir()) == []


def test_a_folder_is_claimed_by_one_only(tmp_path: Path) -> None:
    default = tmp_path / "doctor" / "photos"
    first = claim_folder(default, is_asked=False)
    second = claim_folder(default, is_asked=False)  # though the first has written nothing yet
    assert (first, second) == (default, default.with_name("photos-2"))
    (tmp_path / "empty").mkdir()
    assert claim_folder(tmp_path / "empty", is_asked=True) == tmp_path / "empty"
    (tmp_path / "empty" / "report.html").touch()
    with pytest.raises(CannotCreateError, match="is not empty; choose another --out"):
        claim_folder(tmp_path / "empty", is_asked=True)
    for is_asked in (True, False):
        with pytest.raises(CannotCreateError, match="cannot write into"):
            claim_folder(tmp_path / "empty" / "report.html" / "below", is_asked=is_asked)


def test_a_picture_is_found_without_making_anything(tmp_path: Path) -> None:
    (tmp_path / "a.png").symlink_to(tmp_path / "gone")
    assert free_picture(tmp_path, "a") == tmp_path / "a-2.png"
    assert free_picture(tmp_path / "new" / "b.PNG", "a") == tmp_path / "new" / "b.PNG"
    for out, words in (
        (tmp_path / "a.png", "a.png exists; choose another --out"),
        (tmp_path / "b.jpg", "b.jpg is no folder and no name of a .png file"),
        (tmp_path / "a.png" / "b.png", "cannot write into"),
    ):
        with pytest.raises(CannotCreateError, match=words):
            free_picture(out, "a")
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_a_picture_is_never_written_over_what_came_meanwhile(tmp_path: Path) -> None:
    found = [free_picture(tmp_path, "a") for _ in range(2)]
    assert found == [tmp_path / "a.png"] * 2, "two that start at once"
    assert write_picture(tmp_path, "a", b"first") == tmp_path / "a.png"
    assert write_picture(tmp_path, "a", b"second") == tmp_path / "a-2.png"
    asked = tmp_path / "new" / "b.png"
    assert write_picture(asked, "a", b"third") == asked
    with pytest.raises(CannotCreateError, match="exists; choose another --out"):
        write_picture(asked, "a", b"fourth")
    kept = sorted(path.read_bytes() for path in tmp_path.rglob("*.png"))
    assert kept == [b"first", b"second", b"third"]


def test_a_picture_that_does_not_fit_leaves_no_name_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise StorageError("disk full")

    monkeypatch.setattr(places, "atomic_write", full)
    with pytest.raises(StorageError):
        write_picture(tmp_path, "a", b"x")
    assert list(tmp_path.iterdir()) == []
