"""The cache of decoded pictures: the same pixels, whatever happens to it."""

import errno
import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import nunbit
from conftest import COLOURS, noisy_picture, write_classes
from nunbit import cgroups
from nunbit.config import DataConfig, TrainConfig
from nunbit.data import cache, pixels, room
from nunbit.data.cache import pixels_folder
from nunbit.data.decode import DECODE_VERSION
from nunbit.data.pictures import Item, Loaded, Pictures, as_image
from nunbit.data.pixels import load
from nunbit.data.preprocess import Preprocess
from nunbit.data.rows import BATCH_BYTES, Rows, batches, collect_rows
from nunbit.data.sources import open_source
from nunbit.data.splits import Dataset, UnreadableError, open_dataset
from nunbit.data.stats import digests, mean_and_std
from nunbit.errors import StorageError, UsageError
from nunbit.runtime import choose_runtime

PLAIN = Preprocess(height=16, width=16, channels=3, resize="crop", mean=(0.0,) * 3, std=(1.0,) * 3)
ROW_BYTES = 16 * 16 * 3


def shown(items: Iterable[Any], _total: int, _label: str) -> Iterator[Any]:
    return iter(items)


def pictures_of(folder: Path) -> Pictures:
    return open_source(str(folder)).parts["all"]


def read(folder: Path, preprocess: Preprocess = PLAIN, threads: int = 2) -> Loaded:
    return load(pictures_of(folder), preprocess, threads, shown)


def kept_files() -> list[Path]:
    return sorted(pixels_folder().glob("*/*"))


def assert_same(a: Loaded, b: Loaded) -> None:
    """Both hold the same pixels, labels, names, digests and faults."""
    assert torch.equal(a.images.images[:], b.images.images[:])
    assert torch.equal(a.images.labels, b.images.labels)
    assert list(a.images.names) == list(b.images.names)
    assert list(a.images.digests) == list(b.images.digests) == digests(a.images.images)
    assert a.skipped == b.skipped


@pytest.fixture
def keeps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep also what was decoded in no time."""
    monkeypatch.setattr(pixels, "KEEP_SECONDS", 0.0)


@pytest.fixture
def expected(colours: Path, monkeypatch: pytest.MonkeyPatch) -> Loaded:
    """The 60 pictures of `colours` as they are read without any cache."""
    with monkeypatch.context() as without:
        without.setenv("NUNBIT_CACHE_GB", "0")
        found = read(colours)
    assert kept_files() == []
    assert (found.reading.decoded, found.reading.kept) == (60, 0)
    return found


@pytest.mark.usefixtures("keeps")
def test_what_was_decoded_once_is_mapped(colours: Path, expected: Loaded) -> None:
    first = read(colours)
    assert (first.reading.decoded, first.reading.kept, first.reading.mapped) == (60, 60, 0)
    second = read(colours)
    assert (second.reading.cached, second.reading.mapped, second.reading.decoded) == (60, 60, 0)
    assert isinstance(second.images.images, torch.Tensor), "a whole set needs no index"
    assert_same(first, expected)
    assert_same(second, expected)
    assert [f.stat().st_size for f in kept_files()] == [60 * (ROW_BYTES + 40)]


def test_what_is_decoded_in_a_moment_and_arrays_are_not_kept(
    colours: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pixels, "KEEP_SECONDS", 60.0)  # a moment, on a machine that is busy
    assert read(colours).reading.line() == "60 pictures in memory"
    digits = open_source("digits")
    data = open_dataset(digits, DataConfig(source="digits"), 1, shown)
    assert data.reading.line() == "1,797 pictures in memory"
    assert not pixels_folder().exists()


@pytest.mark.usefixtures("keeps")
def test_a_name_and_an_order_do_not_matter_but_the_content_does(
    colours: Path, tmp_path: Path
) -> None:
    read(colours)
    colours.rename(tmp_path / "moved")
    (tmp_path / "moved" / "red").rename(tmp_path / "moved" / "amber")
    moved = read(tmp_path / "moved")
    assert (moved.reading.cached, moved.reading.decoded) == (60, 0)
    assert isinstance(moved.images.images, Rows), "the same rows in another order"
    order = torch.tensor([59, 3, 3, 0])
    some = pictures_of(tmp_path / "moved").select(order.numpy())
    assert_same(load(some, PLAIN, 1, shown), load(some, PLAIN, 1, shown))
    assert torch.equal(load(some, PLAIN, 1, shown).images.images[:], moved.images.images[order])
    file = tmp_path / "moved" / "amber" / "000.png"
    before = file.stat()
    noisy_picture((9, 9, 9), 5, (20, 16)).save(file)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    changed = read(tmp_path / "moved")
    assert (changed.reading.cached, changed.reading.decoded) == (59, 1), "not by time or name"
    assert changed.images.images[0].float().mean() < 60


@pytest.mark.usefixtures("keeps")
def test_ten_added_pictures_are_ten_decoded_pictures(colours: Path) -> None:
    read(colours)
    for i in range(10):
        noisy_picture(COLOURS["red"], 500 + i, (20, 16)).save(colours / "red" / f"new{i}.png")
    added = read(colours)
    assert added.reading.line() == "60 pictures from the cache, 10 decoded"
    assert added.reading.kept == 70
    again = read(colours)
    assert again.reading.line() == "70 pictures from the cache"
    assert_same(again, added)


@pytest.mark.usefixtures("keeps")
def test_all_that_decides_a_pixel_is_part_of_the_key(
    colours: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read(colours)
    assert read(colours, replace(PLAIN, mean=(0.5,) * 3, std=(0.2,) * 3)).reading.cached == 60
    for other in (
        replace(PLAIN, resize="squash"),
        replace(PLAIN, resize="pad"),
        replace(PLAIN, interpolation="bicubic"),
        replace(PLAIN, resize_to=18),
        replace(PLAIN, height=17),
        replace(PLAIN, width=15),
        replace(PLAIN, channels=1, mean=(0.0,), std=(1.0,)),
    ):
        assert read(colours, other).reading.cached == 0, other
        assert read(colours, other).reading.cached == 60, other
    for name, value in (("DECODE_VERSION", DECODE_VERSION + 1), ("LIBRARIES", ())):
        with monkeypatch.context() as newer:
            newer.setattr(cache, name, value)
            assert read(colours).reading.cached == 0, name
    assert read(colours).reading.cached == 60


def test_pixels_are_those_of_this_decode_version() -> None:
    """Whoever changes pixels counts `DECODE_VERSION` up, and writes the new digests here."""
    wide = noisy_picture((90, 120, 30), 1, (61, 40))
    found = [
        digests(torch.tensor(preprocess.to_pixels(image))[None])[0]
        for image in (wide, wide.convert("P"), wide.convert("L"), Image.new("RGBA", (9, 9)))
        for preprocess in (PLAIN, replace(PLAIN, resize="pad"), replace(PLAIN, resize_to=20))
    ]
    total = hashlib.sha256("".join(found).encode()).hexdigest()[:16]
    assert (DECODE_VERSION, total) == (1, "e901a1293499990d")


def cut(file: Path, size: int) -> None:
    file.write_bytes(file.read_bytes()[:size])


def flip(file: Path, position: int) -> None:
    data = bytearray(file.read_bytes())
    data[position] ^= 1
    file.write_bytes(data)


DAMAGES: dict[str, Callable[[Path], None]] = {
    "empty": lambda file: cut(file, 0),
    "cut by a byte": lambda file: cut(file, 60 * (ROW_BYTES + 40) - 1),
    "cut by an entry": lambda file: cut(file, 60 * (ROW_BYTES + 40) - 40),
    "cut by a picture": lambda file: cut(file, 59 * (ROW_BYTES + 40)),
    "half": lambda file: cut(file, 30 * (ROW_BYTES + 40)),
    "first pixel": lambda file: flip(file, 0),
    "last pixel": lambda file: flip(file, 60 * ROW_BYTES - 1),
    "a key": lambda file: flip(file, 60 * ROW_BYTES + 3),
    "a digest": lambda file: flip(file, 60 * (ROW_BYTES + 40) - 1),
    "zeros": lambda file: file.write_bytes(bytes(file.stat().st_size)) and None,
    "text": lambda file: file.write_text("not a cache") and None,
}


@pytest.mark.usefixtures("keeps")
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_set_is_noticed_and_made_anew(
    damage: str, colours: Path, expected: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    read(colours)
    (file,) = kept_files()
    DAMAGES[damage](file)
    with monkeypatch.context() as slow:
        slow.setattr(pixels, "KEEP_SECONDS", 60.0)  # a lost pixel is reason enough to write
        mended = read(colours)
    assert mended.reading.decoded == (1 if "pixel" in damage else 60)
    assert_same(mended, expected)
    if "pixel" in damage:
        assert mended.reading.kept == 60
    else:
        assert kept_files() == [], "what is no set is deleted"
        read(colours)
    again = read(colours)
    assert again.reading.cached == 60
    assert_same(again, expected)


@pytest.mark.usefixtures("keeps")
def test_a_folder_that_cannot_be_written_is_no_error(
    colours: Path, expected: Loaded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way of every folder below it")
    monkeypatch.setenv("NUNBIT_CACHE", str(tmp_path / "file" / "cache"))
    for _ in range(2):
        found = read(colours)
        assert (found.reading.decoded, found.reading.kept) == (60, 0)
        assert_same(found, expected)


@pytest.mark.usefixtures("keeps")
@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_cache_is_still_read(colours: Path, expected: Loaded) -> None:
    read(colours)
    folder = kept_files()[0].parent
    folder.chmod(0o500)
    try:
        assert_same(read(colours), expected)
        assert read(colours, replace(PLAIN, width=15)).reading.kept == 0
    finally:
        folder.chmod(0o700)


@pytest.mark.usefixtures("keeps")
def test_a_full_disk_is_no_error(
    colours: Path, expected: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(handle: int, data: memoryview, offset: int) -> int:
        if offset > 20 * ROW_BYTES:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(handle, data[: 20 * ROW_BYTES + 1], offset)

    write = os.pwrite
    monkeypatch.setattr(os, "pwrite", full)
    found = read(colours)
    assert found.reading.kept == 0
    assert_same(found, expected)
    monkeypatch.setattr(pixels, "free_memory", lambda: 60 * ROW_BYTES)  # it fits, if barely
    found = read(colours)
    assert (found.reading.kept, found.reading.mapped) == (0, 0)
    assert_same(found, expected)
    monkeypatch.setattr(pixels, "free_memory", lambda: 60 * ROW_BYTES - 1)
    with pytest.raises(StorageError, match=r"cannot take them: No space left.*NUNBIT_CACHE"):
        read(colours)
    assert kept_files() == [], "nothing half-written is left"


def test_pictures_that_do_not_fit_into_memory_are_read_from_the_disk(
    colours: Path, expected: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pixels, "free_memory", lambda: 2 * 60 * ROW_BYTES - 1)
    found = read(colours)
    assert (found.reading.decoded, found.reading.mapped, found.reading.kept) == (60, 60, 60)
    assert_same(found, expected)
    assert read(colours).reading.cached == 60
    monkeypatch.setenv("NUNBIT_CACHE_GB", "1e-5")  # 10 kB
    scratch = read(colours, replace(PLAIN, width=20))
    assert (scratch.reading.mapped, scratch.reading.kept) == (60, 0)
    assert scratch.reading.line() == "60 pictures mapped"
    names = {file.name for file in kept_files()}
    assert len(names) == 1, "a set beyond the limit has no name and ends with the process"
    monkeypatch.setattr(pixels, "free_memory", lambda: 10**12)
    assert_same(scratch, read(colours, replace(PLAIN, width=20)))


def test_the_same_dataset_in_memory_from_the_cache_and_from_the_disk(
    colours: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dataset() -> Dataset:
        config = DataConfig(source=str(colours), group_duplicates=True, size=16)
        return open_dataset(open_source(str(colours)), config, 2, shown)

    monkeypatch.setattr(pixels, "KEEP_SECONDS", 60.0)
    found = [dataset()]
    monkeypatch.setattr(pixels, "free_memory", lambda: 1)
    found += [dataset(), dataset()]
    assert [data.reading.mapped for data in found] == [0, 60, 60]
    assert [data.reading.cached for data in found] == [0, 0, 60]
    assert len({data.fingerprint for data in found}) == 1
    assert len({data.preprocess for data in found}) == 1
    for data in found:
        assert isinstance(data.train.images, Rows), "a split copies nothing"
        assert torch.equal(data.train.images[:], found[0].train.images[:])
        assert digests(data.train.images) == list(data.train.digests)


class StopError(Exception):
    """As a signal would raise it from the progress."""


def test_a_stop_keeps_what_was_decoded(
    colours: Path, expected: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopping(items: Iterable[Any], _total: int, _label: str) -> Iterator[Any]:
        for i, item in enumerate(items):
            if i == 40:
                raise StopError
            yield item

    monkeypatch.setattr(pixels, "free_memory", lambda: 1)
    with pytest.raises(StopError):
        load(pictures_of(colours), PLAIN, 1, stopping)
    found = read(colours)
    assert 40 <= found.reading.cached <= 60
    assert found.reading.cached + found.reading.decoded == 60
    assert_same(found, expected)


def test_a_stop_beside_another_kept_set_decodes_the_rest_as_ever(
    colours: Path, expected: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopping(items: Iterable[Any], _total: int, label: str) -> Iterator[Any]:
        for i, item in enumerate(items):
            if label == "reading pictures" and i == 40:
                raise StopError
            yield item

    monkeypatch.setattr(pixels, "free_memory", lambda: 1)
    write_classes(other := colours.parent / "other", 2, first_seed=500)
    read(other)
    monkeypatch.setattr(pixels, "CHUNK", 8)
    with pytest.raises(StopError):
        load(pictures_of(colours), PLAIN, 1, stopping)
    decoded = []

    def noting(item: Item, preprocess: Preprocess) -> Image.Image:
        decoded.append(item)
        return as_image(item, preprocess)

    monkeypatch.setattr(pixels, "as_image", noting)
    found = read(colours)
    assert 40 <= found.reading.cached < 60
    assert found.reading.cached + found.reading.decoded == 60
    assert len(decoded) == found.reading.decoded, "none is decoded aside, in memory, unseen"
    assert_same(found, expected)


def test_a_stop_does_not_hide_what_an_older_set_keeps(
    colours: Path, expected: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new set counted rows that were not copied yet as done, and was then preferred."""

    def stopping(items: Iterable[Any], _total: int, label: str) -> Iterator[Any]:
        for i, item in enumerate(items):
            if label == "reading pictures" and i == 16:
                raise StopError
            yield item

    monkeypatch.setattr(pixels, "free_memory", lambda: 1)
    monkeypatch.setattr(pixels, "CHUNK", 8)
    new = sorted((colours / "red").glob("*.png"))[-10:]
    for path in new:
        path.rename(colours.parent / path.name)
    assert read(colours).reading.decoded == 50
    for path in new:
        (colours.parent / path.name).rename(path)
    with pytest.raises(StopError):
        load(pictures_of(colours), PLAIN, 1, stopping)
    found = read(colours)
    assert found.reading.cached >= 50
    assert_same(found, expected)


@pytest.mark.usefixtures("keeps")
def test_unreadable_pictures_are_named_the_same_with_and_without_a_cache(
    colours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (colours / "red" / "000.png").write_text("text")
    (colours / "red" / "003.png").unlink()
    (colours / "red" / "003.png").symlink_to(tmp_path / "nowhere")
    cut(colours / "blue" / "001.png", 200)
    (colours / "green" / "z.png").mkdir()
    os.mkfifo(colours / "green" / "y.png")
    with monkeypatch.context() as without:
        without.setenv("NUNBIT_CACHE_GB", "0")
        expected = read(colours)
    assert [fault.name for fault in expected.skipped] == [
        "blue/001.png", "green/y.png", "green/z.png", "red/000.png", "red/003.png",
    ]  # fmt: skip
    found = [read(colours) for _ in range(3)]
    assert [f.reading.cached for f in found] == [0, 57, 57]
    assert [f.reading.decoded for f in found] == [57, 0, 0]
    for one in found:
        assert_same(one, expected)
    with pytest.raises(UnreadableError, match=r"5 pictures cannot be read: blue/001.png \(damaged"):
        open_dataset(open_source(str(colours)), DataConfig(source=str(colours)), 1, shown)
    noisy_picture(COLOURS["red"], 77, (20, 16)).save(colours / "red" / "000.png")
    mended = read(colours)
    assert (mended.reading.cached, mended.reading.decoded, len(mended.skipped)) == (57, 1, 4)


@pytest.mark.usefixtures("keeps")
def test_a_file_that_changes_while_it_is_read_is_kept_as_what_was_decoded(
    colours: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pixels of the second content must not be found under the key of the first."""
    read(
        write_classes(colours.with_name("others"), 1, first_seed=5000)
    )  # so that files are looked up at first
    path = colours / "red" / "000.png"
    old, calls = path.read_bytes(), 0
    noisy_picture((0, 0, 0), 1, (20, 16)).save(colours / "new.png")

    def changing(file: Path) -> bytes:
        nonlocal calls
        if file == path:
            calls += 1
            if calls == 2:
                path.write_bytes((colours / "new.png").read_bytes())
        return file.read_bytes()

    with monkeypatch.context() as patched:
        patched.setattr(pixels, "read_content", changing)
        read(colours)
    assert calls == 2
    path.write_bytes(old)
    assert read(colours).images.images[40].float().mean() > 80, "red, and not the black one"


@pytest.mark.usefixtures("keeps")
def test_files_too_large_to_be_hashed_are_decoded_each_time(
    colours: Path, expected: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nunbit.data.decode.MAX_CONTENT_BYTES", 100)
    for _ in range(2):
        found = read(colours)
        assert found.reading.decoded == 60
        assert_same(found, expected)


@pytest.mark.usefixtures("keeps")
def test_the_limit_evicts_what_was_not_used_for_longest(
    colours: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = 60 * (ROW_BYTES + 40)
    monkeypatch.setenv("NUNBIT_CACHE_GB", str(2.5 * size / 1e9))
    kinds = ("crop", "squash", "pad")
    for age, resize in enumerate(kinds[:2]):
        read(colours, replace(PLAIN, resize=resize))
        for file in kept_files():
            os.utime(file, (time.time() - 1000 + age,) * 2)
    assert read(colours, replace(PLAIN, resize="crop")).reading.cached == 60  # now the newest
    read(colours, replace(PLAIN, resize="pad"))
    assert sum(file.stat().st_size for file in kept_files()) <= 2.5 * size
    assert not any(list(folder.iterdir()) == [] for folder in pixels_folder().iterdir())
    cached = [read(colours, replace(PLAIN, resize=r)).reading.cached for r in ("crop", "pad")]
    assert cached == [60, 60]
    assert read(colours, replace(PLAIN, resize="squash")).reading.cached == 0


@pytest.mark.usefixtures("keeps")
def test_a_set_beyond_the_limit_is_not_kept(colours: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUNBIT_CACHE_GB", str(59 * ROW_BYTES / 1e9))
    assert read(colours).reading.kept == 0
    assert kept_files() == []
    for wrong in ("-1", "much", "inf", "nan"):
        monkeypatch.setenv("NUNBIT_CACHE_GB", wrong)
        with pytest.raises(UsageError, match=f"NUNBIT_CACHE_GB is {wrong}; allowed: 0 or more"):
            read(colours)
    monkeypatch.delenv("NUNBIT_CACHE_GB")
    usage = type("Usage", (), {"free": 5 * 59 * ROW_BYTES})
    monkeypatch.setattr("shutil.disk_usage", lambda _folder: usage)
    assert read(colours).reading.kept == 0, "a fifth of the free disk"


@pytest.mark.usefixtures("keeps")
def test_the_litter_of_a_killed_writer_goes_and_a_living_ones_stays(colours: Path) -> None:
    read(colours)
    folder = kept_files()[0].parent
    dead, living = folder / ".a.pixels.tmp", folder / ".b.pixels.tmp"
    for file, age in ((dead, 7200), (living, 60)):
        file.write_bytes(b"x")
        os.utime(file, (time.time() - age,) * 2)
    read(colours, replace(PLAIN, width=15))
    assert (dead.exists(), living.exists()) == (False, True)


@pytest.mark.usefixtures("keeps")
def test_many_at_once(colours: Path, expected: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    """Writers, readers, a limit that evicts all the time, and a hand that damages files."""
    size = 60 * (ROW_BYTES + 40)
    monkeypatch.setenv("NUNBIT_CACHE_GB", str(1.7 * size / 1e9))
    everything, is_over = pictures_of(colours), threading.Event()

    def work(seed: int) -> None:
        for step in range(8):
            rng = np.random.default_rng([seed, step])
            at = rng.permutation(60)[: rng.integers(20, 61)]
            found = load(everything.select(at), PLAIN, 2, shown)
            assert torch.equal(found.images.images[:], expected.images.images[torch.from_numpy(at)])

    def spoil() -> None:
        while not is_over.wait(0.01):
            # Replaced, as a mapped file that shrinks kills readers; not a file that is being
            # written, which would come back after its writer removed it.
            for file in [f for f in kept_files() if f.suffix == ".pixels"][:1]:
                other = file.with_suffix(".spoilt")
                try:
                    data = bytearray(file.read_bytes())
                    data[len(data) // 3] ^= 8
                    other.write_bytes(data)
                    other.replace(file)
                except OSError:
                    continue

    with ThreadPoolExecutor(7) as pool:
        spoiler = pool.submit(spoil)
        try:
            list(pool.map(work, range(6)))
        finally:
            is_over.set()
        spoiler.result()
    assert not [file for file in kept_files() if file.name.endswith(".tmp")]
    assert_same(read(colours), expected)


@pytest.mark.usefixtures("keeps")
def test_a_run_says_what_it_kept_and_where(
    colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for run, is_said in (("a", True), ("b", False)):
        finished = nunbit.train(data=colours, epochs=1, size=16, run_dir=tmp_path / run)
        said = f"kept 60 decoded pictures for the next time, in {pixels_folder()}"
        assert (said in capsys.readouterr().err.replace("\n", " ")) == is_said
        assert finished.dataset.reading.cached == (0 if is_said else 60)
    logs = [(tmp_path / run / "metrics.jsonl").read_bytes() for run in "ab"]
    assert logs[0] == logs[1], "mapped pixels train to the same bits"


def test_a_container_may_have_less_memory_than_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cgroups, "ROOT", tmp_path)
    monkeypatch.setattr(cgroups, "OWN", tmp_path / "own")
    (tmp_path / "own").write_text("0::/\n")
    machine = room.free_memory()
    assert 2**27 < machine < 2**44
    (tmp_path / "memory.max").write_text("max\n")
    assert room.free_memory() == pytest.approx(machine, rel=0.5)
    (tmp_path / "memory.max").write_text("9000000\n")
    assert room.free_memory() == 9_000_000
    (tmp_path / "memory.current").write_text("5000000\n")
    (tmp_path / "memory.stat").write_text("anon 1000000\ninactive_file 3000000\nfile_mapped 7\n")
    assert room.free_memory() == 7_000_000


@pytest.mark.parametrize(
    ("lines", "limit", "used", "stat"),
    [
        ("0::/job/step\n", "job/memory.max", "job/memory.current", "inactive_file"),
        (
            "5:cpu:/\n4:memory:/job/step\n0::/\n", "memory/job/step/memory.limit_in_bytes",
            "memory/job/step/memory.usage_in_bytes", "total_inactive_file",
        ),
    ],
)  # fmt: skip  # files
def test_a_job_may_have_less_memory_than_its_container(
    lines: str, limit: str, used: str, stat: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both versions of control groups, where a group or one above it has the limit."""
    monkeypatch.setattr(cgroups, "ROOT", tmp_path)
    monkeypatch.setattr(cgroups, "OWN", tmp_path / "own")
    (tmp_path / "own").write_text(lines)
    (tmp_path / limit).parent.mkdir(parents=True)
    (tmp_path / limit).write_text("9000000\n")
    (tmp_path / used).write_text("5000000\n")
    (tmp_path / limit).with_name("memory.stat").write_text(f"anon 1\n{stat} 3000000\n")
    assert room.free_memory() == 7_000_000


@pytest.mark.parametrize(
    ("lines", "files", "cores"),
    [
        ("0::/job/step\n", {"job/step/cpu.max": "max 100000", "job/cpu.max": "250000 100000"}, 3),
        ("0::/\n", {"cpu.max": "50000 100000"}, 1),
        ("0::/\n", {"cpu.max": "max 100000"}, None),
        ("0::/\n", {}, None),
        ("no line\n", {}, None),
        (
            "5:cpu,cpuacct:/job\n4:memory:/\n0::/\n",
            {"cpu/job/cpu.cfs_quota_us": "200000", "cpu/job/cpu.cfs_period_us": "100000"}, 2,
        ),
        (
            "5:cpu:/job\n",
            {"cpu/job/cpu.cfs_quota_us": "-1", "cpu/job/cpu.cfs_period_us": "100000"}, None,
        ),
    ],
)  # fmt: skip  # files
def test_a_container_may_keep_fewer_cores_busy_than_it_sees(
    lines: str, files: dict[str, str], cores: int | None, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip  # one fixture a line would say no more
    """On a machine with 64 cores two cores' time was shared by 64 threads."""
    monkeypatch.setattr(cgroups, "ROOT", tmp_path)
    monkeypatch.setattr(cgroups, "OWN", tmp_path / "own")
    monkeypatch.setattr("os.sched_getaffinity", lambda _pid: set(range(64)), raising=False)
    (tmp_path / "own").write_text(lines)
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text + "\n")
    assert cgroups.cpu_quota() == cores
    assert choose_runtime(TrainConfig()).threads == (cores or 64)
    assert choose_runtime(TrainConfig(threads=7)).threads == 7


def test_rows_are_indexed_as_a_tensor_is() -> None:
    base = torch.arange(40, dtype=torch.uint8).reshape(10, 2, 2, 1)
    at = torch.tensor([7, 1, 1, 9, 0])
    rows, tensor = Rows(base, at), base[at]
    assert (len(rows), rows.shape) == (5, tensor.shape)
    for key in (0, -1, slice(1, 4), slice(None, None, 2), slice(None), torch.tensor([4, 0, 0])):
        assert torch.equal(rows[key], tensor[key])  # type: ignore[index]
    assert torch.equal(torch.stack(list(rows)), tensor)  # type: ignore[call-overload]
    for size in (1, 2, 5, 9):
        for images in (rows, tensor):
            found = list(batches(images, size))
            assert all(torch.equal(a, b) for a, b in zip(found, tensor.split(size), strict=True))
    colour = torch.randint(0, 256, (30, 5, 4, 3), dtype=torch.uint8)
    some = torch.randperm(30)[:20]
    assert mean_and_std(Rows(colour, some)) == mean_and_std(colour[some])
    pixels_N3 = colour[some].reshape(-1, 3).double() / 255
    mean, std = mean_and_std(colour[some])
    torch.testing.assert_close(torch.tensor(mean, dtype=torch.float64), pixels_N3.mean(0))
    torch.testing.assert_close(
        torch.tensor(std, dtype=torch.float64), pixels_N3.std(0, correction=0)
    )


def test_what_is_found_batch_after_batch_becomes_one_tensor_of_each_kind() -> None:
    """Of its own type, and to compute gradients with, also if the batches were only looked at."""
    found = torch.randint(0, 9, (11,)), torch.rand(11, 3, requires_grad=True)
    with torch.inference_mode():
        kinds = collect_rows(11, ([x[i : i + 4] for x in found] for i in range(0, 11, 4)))
    assert [x.dtype for x in kinds] == [torch.int64, torch.float32]
    assert all(map(torch.equal, kinds, found))
    scale = torch.ones(3, requires_grad=True)
    (kinds[1] * scale).sum().backward()
    torch.testing.assert_close(scale.grad, kinds[1].sum(0))


def test_rows_that_do_not_add_up_are_refused() -> None:
    """One row would be written over all of a batch, and what nobody wrote is whatever was there."""
    two, one = torch.ones(2, 3), torch.ones(1, 3)
    for count, found in ((4, [[two], [one]]), (3, [[two], [two]]), (2, [[two, one]])):
        with pytest.raises(ValueError, match="rows"):
            collect_rows(count, found)


def test_batches_are_of_some_megabytes_where_nobody_says_how_many() -> None:
    images = torch.zeros(3, 2048, 2048, 3, dtype=torch.uint8)
    assert [len(batch) for batch in batches(images)] == [1, 1, 1]
    small = torch.zeros(BATCH_BYTES // (64 * 64) + 1, 64, 64, 1, dtype=torch.uint8)
    assert [len(batch) for batch in batches(small)] == [BATCH_BYTES // (64 * 64), 1]
