"""Files are whole or not there, and damage is always seen."""

import os
import stat
from pathlib import Path

import pytest
import torch

from nunbit.errors import DataError, MissingInputError, StorageError
from nunbit.storage import atomic_write, load_tensors, save_tensors

TENSORS = {
    "weight": torch.arange(6.0).view(2, 3),
    "half": torch.ones(3, dtype=torch.bfloat16),
    "count": torch.tensor(7),
    "none": torch.zeros(0),
}


def test_tensors_and_metadata_come_back(tmp_path: Path) -> None:
    save_tensors(tmp_path / "m", TENSORS, {"a": [1, "눈빛"]})
    tensors, metadata = load_tensors(tmp_path / "m")
    assert metadata == {"a": [1, "눈빛"]}
    assert set(tensors) == set(TENSORS)
    for name, tensor in TENSORS.items():
        assert tensors[name].dtype == tensor.dtype
        assert torch.equal(tensors[name], tensor)


def test_every_truncation_and_every_flipped_byte_is_refused(tmp_path: Path) -> None:
    save_tensors(tmp_path / "m", {"w": torch.arange(8.0)}, {"epoch": 3})
    whole = (tmp_path / "m").read_bytes()
    damaged = [whole[:n] for n in range(len(whole))] + [whole + b"\0"]
    damaged += [whole[:i] + bytes([whole[i] ^ 0x55]) + whole[i + 1 :] for i in range(len(whole))]
    path = tmp_path / "damaged"
    accepted = []
    for i, data in enumerate(damaged):
        path.write_bytes(data)
        try:
            tensors, metadata = load_tensors(path)
        except DataError:
            continue
        # White space in the header is the only place where a byte can change without meaning.
        if metadata != {"epoch": 3} or not torch.equal(tensors["w"], torch.arange(8.0)):
            accepted.append(i)
    assert accepted == []


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "it is empty"),
        (b"PK\x03\x04rest", "torch.save"),
        (b"\x80\x04rest of a pickle", "pickle"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"<html>", "web page"),
    ],
)
def test_foreign_files_are_named(tmp_path: Path, data: bytes, says: str) -> None:
    (tmp_path / "m").write_bytes(data)
    with pytest.raises(DataError, match=says):
        load_tensors(tmp_path / "m")


def test_a_missing_file_is_missing_and_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError):
        load_tensors(tmp_path / "m")
    with pytest.raises(StorageError):
        load_tensors(tmp_path)


def test_metadata_with_nan_is_never_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        save_tensors(tmp_path / "m", {}, {"loss": float("nan")})
    assert not list(tmp_path.glob("m*"))


def test_a_failed_write_leaves_the_old_file_and_no_litter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    atomic_write(tmp_path / "f", b"old")

    def full(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match=r"disk full: .* needs 0.0 MB, [0-9.]+ MB are free"):
        atomic_write(tmp_path / "f", b"new")
    assert (tmp_path / "f").read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["f"]


def test_where_nothing_can_be_written_that_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "file" / "m", tmp_path / ("n" * 250)):
        with pytest.raises(StorageError, match=r"cannot write .*: (Not a directory|File name too)"):
            atomic_write(path, b"x")


def test_the_umask_decides_the_mode(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        atomic_write(tmp_path / "f", b"x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "f").stat().st_mode) == 0o640
