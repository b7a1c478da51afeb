"""Foreign files are refused in one line: no code runs, nothing explodes, nothing is touched."""

import gzip
import hashlib
import json
import os
import resource
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
from PIL import Image

import nunbit
from conftest import noisy_picture
from hostile_files import CANARY, REFUSED_READ, REFUSED_UNREAD
from nunbit.cli import main
from nunbit.config import RunConfig
from nunbit.data.idx import MAX_BYTES, read_idx
from nunbit.data.sources import open_source
from nunbit.errors import DataError, UsageError
from nunbit.legacy import convert
from nunbit.storage import digest, load_tensors

QUICK = ["--train.epochs", "1", "--model", "net", "--train.threads=1", "--train.device=cpu"]
MB = 1 << 20


@pytest.mark.parametrize("name", REFUSED_UNREAD)
def test_hostile_weights_are_refused_before_anything_is_unpickled(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_paths: Path) -> None:
        raise AssertionError("the file was to be unpickled")

    monkeypatch.setattr(convert, "read_in_child", never)
    write, says = REFUSED_UNREAD[name]
    write(tmp_path / "w.pt")
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    with pytest.raises(DataError, match=says) as caught:
        nunbit.import_weights("w.pt", "net")
    assert time.monotonic() - start < 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50 * 1024
    assert "\n" not in str(caught.value)
    assert not (tmp_path / CANARY).exists()
    assert not (tmp_path / "w.safetensors").exists()


WATCHED = """
import resource, sys
from pathlib import Path
from nunbit.legacy.child import RefusedError, read_state_dict

def watch(event, arguments):
    if event.startswith(("os.system", "os.exec", "subprocess.", "socket.")):
        print("ATTACK", event, arguments, flush=True)

sys.addaudithook(watch)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for name in sys.argv[1:]:
    try:
        read_state_dict(Path(name))
        print("ACCEPTED", name)
    except RefusedError as error:
        print(name, error)
grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
print("GREW" if grown > 50 * 1024 else "small")
"""


def test_the_reader_itself_refuses_them_too(tmp_path: Path) -> None:
    corpus = {**REFUSED_READ, **REFUSED_UNREAD}
    harmless = {  # to torch's reader
        "link", "FIFO", "folder", "vast", "endless list", "bomb", "legacy", "twice", "up",
        "absolute", "two pickles", "overlapping", "TorchScript",
    }  # fmt: skip  # a list of words
    names = {name.replace(" ", "_"): name for name in corpus if name not in harmless}
    for file, name in names.items():
        corpus[name][0](tmp_path / file)
    done = subprocess.run(
        [sys.executable, "-c", WATCHED, *names], capture_output=True, text=True, check=True
    )
    for word in ("ATTACK", "ACCEPTED", "GREW"):
        assert word not in done.stdout, done.stdout
    assert not (tmp_path / CANARY).exists()
    reasons = dict(line.split(" ", 1) for line in done.stdout.splitlines()[:-1])
    for name in REFUSED_READ:
        line = reasons[name.replace(" ", "_")]
        assert REFUSED_READ[name][1] in line, line


def test_the_reading_process_has_limits(tmp_path: Path) -> None:
    code = (
        "import os, sys, torch\nfrom nunbit.legacy import child\nchild._limit(1000)\n"
        "try:\n    torch.empty(2 << 30, dtype=torch.uint8)\n"
        "except RuntimeError:\n    print('memory', flush=True)\n"
        f"os.system('touch {CANARY}')\nprint('alive')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("memory\n", 1)
    assert not (tmp_path / CANARY).exists()


def forged(path: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """Write a model file whose card was changed and whose hash was made anew."""
    model = nunbit.build_model("net", num_classes=2, in_channels=3, image_size=(8, 8))
    numbers = {"mean": [0.0] * 3, "std": [1.0] * 3}
    card: dict[str, Any] = {
        "format_version": 1,
        "model": {"name": "net", "args": {}},
        "class_names": ["a", "b"],
        "preprocess": {"height": 8, "width": 8, "channels": 3, "resize": "crop", **numbers},
    }
    other = change(card)
    text = other if isinstance(other, str) else json.dumps(card)
    tensors = model.state_dict()
    header = {"nunbit": text, "sha256": digest(tensors, text)}
    path.write_bytes(safetensors.torch.save(tensors, metadata=header))
    return path


FORGERIES: dict[str, Callable[[dict[str, Any]], object]] = {
    "dotted module": lambda c: c["model"].update(name="os.system"),
    "foreign zoo": lambda c: c["model"].update(name="hub:someone/net"),
    "path as name": lambda c: c["model"].update(name="../../net"),
    "timm file": lambda c: c["model"].update(
        name="timm:resnet18", args={"checkpoint_path": "/etc/passwd"}
    ),
    "torchvision weights": lambda c: c["model"].update(
        name="torchvision:alexnet", args={"weights": "DEFAULT"}
    ),
    "_instantiator": lambda c: c["model"].update(_instantiator="os.system"),
    "_instantiator option": lambda c: c["model"]["args"].update(_instantiator="os.system"),
    "options in options": lambda c: c["model"]["args"].update(width={"_target_": "os.system"}),
    "options as a list": lambda c: c["model"].update(args=[1]),
    "name as a number": lambda c: c["model"].update(name=3),
    "model as a list": lambda c: c.update(model=["net"]),
    "vast width": lambda c: c["model"]["args"].update(width=10**12),
    "large width": lambda c: c["model"]["args"].update(width=60_000),
    "many blocks": lambda c: c["model"].update(name="net-resdeep", args={"blocks": 90_000}),
    "large zoo": lambda c: c["model"].update(
        name="timm:vit_tiny_patch16_224", args={"embed_dim": 49_152, "depth": 100}
    ),
    "height": lambda c: c["preprocess"].update(height=10**9),
    "width as text": lambda c: c["preprocess"].update(width="8"),
    "channels": lambda c: c["preprocess"].update(channels=1000),
    "resize": lambda c: c["preprocess"].update(resize="../x"),
    "mean as text": lambda c: c["preprocess"].update(mean="abc"),
    "mean of one": lambda c: c["preprocess"].update(mean=[0.5]),
    "mean nested": lambda c: c["preprocess"].update(mean=[[0.5]] * 3),
    "std zero": lambda c: c["preprocess"].update(std=[0.0] * 3),
    "std not a number": lambda c: c["preprocess"].update(std=[float("nan")] * 3),
    "extra field": lambda c: c["preprocess"].update(_target_="os.system"),
    "preprocess missing": lambda c: c.pop("preprocess"),
    "a million classes": lambda c: c.update(class_names=[str(i) for i in range(10**6)]),
    "many classes": lambda c: c.update(class_names=[str(i) for i in range(90_000)]),
    "classes not unique": lambda c: c.update(class_names=["a", "a"]),
    "classes as text": lambda c: c.update(class_names="ab"),
    "classes as numbers": lambda c: c.update(class_names=[1, 2]),
    "no classes": lambda c: c.update(class_names=[]),
    "another number of classes": lambda c: c.update(class_names=["a", "b", "c"]),
    "config as text": lambda c: c.update(config="os.system"),
    "metrics as a list": lambda c: c.update(metrics=[1]),
    "metrics of numbers": lambda c: c.update(metrics={"test": 1}),
    "metrics without n": lambda c: c.update(metrics={"test": {"accuracy": 1}}),
    "half a character": lambda c: c.update(class_names=["a", "\ud800"]),
    "newer format": lambda c: c.update(format_version=2),
    "deep": lambda _: "[" * 100_000,
    "no object": lambda _: "[1]",
    "no JSON": lambda _: "os.system",
}


@pytest.fixture(scope="module")
def _imported() -> None:
    """Import what the first use of nunbit imports, so that no file is blamed for its memory."""
    import_module("nunbit.api")


@pytest.mark.usefixtures("_imported")
@pytest.mark.parametrize("name", FORGERIES)
def test_a_forged_model_file_is_refused(name: str, tmp_path: Path) -> None:
    path = forged(tmp_path / "m.safetensors", FORGERIES[name])
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    with pytest.raises(DataError) as caught:
        nunbit.load(path)
    # The first use of a zoo imports it.
    assert time.monotonic() - start < (30 if ":" in str(caught.value) else 2)
    assert len(str(caught.value)) < 500
    is_zoo = "timm" in name or "zoo" in name or "torchvision" in name
    assert (
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < (500 if is_zoo else 50) * 1024
    )


def test_the_unforged_file_is_accepted(tmp_path: Path) -> None:
    model = nunbit.load(forged(tmp_path / "m.safetensors", lambda _: None))
    assert model.class_names == ("a", "b")


def test_a_lying_header_and_a_fifo_are_refused(tmp_path: Path) -> None:
    whole = forged(tmp_path / "m.safetensors", lambda _: None).read_bytes()
    for size in (0, 7, 10**6, 2**40, 2**63):
        (tmp_path / "lying").write_bytes(size.to_bytes(8, "little") + whole[8:])
        with pytest.raises(DataError, match="not a nunbit file"):
            load_tensors(tmp_path / "lying")
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(DataError, match="not a regular file"):
        load_tensors(tmp_path / "fifo")


@pytest.mark.parametrize(
    "text",
    [
        '{"_instantiator": {"x": "os.system"}}',
        '{"_target_": "os.system"}',
        '{"data": {"_target_": "os.system"}}',
        '{"model": {"_instantiator": "os.system", "name": "net", "_x": {"a": 1}}}',
        '{"model": {"name": {"_target_": "os.system"}}}',
        '{"model": {"args": {"width": ["os.system"]}}}',
        '{"model": {"args": {"width": 1000000000}}}',
        '{"model": {"args": {"a b": 1}}}',
        '{"recipe": ["x"]}',
        '{"recipe": "../x"}',
        '{"recipe": ""}',
        '{"recipe": "a\\u0000b"}',
        '{"train": {"epochs": 1e300}}',
        '{"train": {"epochs": NaN}}',
        '{"data": {"size": 1000000000}}',
        '{"data": []}',
        "[" * 100_000,
        '{"format_version": {}}',
        '"data"',
        "",
    ],
)
def test_a_hostile_configuration_is_refused(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        RunConfig.from_json(text)
    assert len(str(caught.value)) < 1000


def test_a_network_of_a_zoo_never_opens_files_or_downloads() -> None:
    for option in ("pretrained", "pretrained_cfg", "checkpoint_path", "cache_dir"):
        with pytest.raises(UsageError, match="never name files"):
            nunbit.build_model(
                "timm:resnet18",
                num_classes=2,
                in_channels=3,
                image_size=(32, 32),
                args={option: "x"},
            )


def test_a_gzip_bomb_stops_at_the_size_of_the_largest_set(tmp_path: Path) -> None:
    header = b"\0\0\x08\x03" + b"".join(n.to_bytes(4, "big") for n in (60_000, 28, 28))
    member = gzip.compress(bytes(10 * MB), 1)
    bomb = tmp_path / "train-images-idx3-ubyte.gz"
    bomb.write_bytes(gzip.compress(header) + 100 * member)  # one gigabyte
    tracemalloc.start()
    with pytest.raises(DataError, match="too long for its header"):
        read_idx(bomb)
    assert tracemalloc.get_traced_memory()[1] < 3 * MAX_BYTES
    tracemalloc.stop()
    whole = gzip.compress(header) + gzip.compress(bytes(MAX_BYTES - 16), 1)
    bomb.write_bytes(whole)
    assert read_idx(bomb).shape == (60_000, 28, 28)
    bomb.write_bytes(whole + gzip.compress(b"x"))
    with pytest.raises(DataError, match="too long"):
        read_idx(bomb)
    bomb.write_bytes(b"\x1f\x8b\x08" + bytes(20))
    with pytest.raises(DataError):
        read_idx(bomb)
    (tmp_path / "vast").write_bytes(b"\0\0\x08\x04" + b"\x80\0\0\0" * 4)  # 2^124 pixels
    with pytest.raises(DataError, match="cut off"):
        read_idx(tmp_path / "vast")


def test_a_path_inside_parquet_is_never_opened(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    secret = tmp_path / "secret.png"
    noisy_picture((9, 9, 9), 0, (8, 8)).save(secret)
    images = [{"bytes": None, "path": str(secret)}] * 6
    table = pa.table({"image": images, "label": ["a", "b"] * 3})
    pq.write_table(table, tmp_path / "t.parquet")
    source = open_source(str(tmp_path / "t.parquet"))
    assert set(source.parts["all"].items) == {b""}
    with pytest.raises(DataError, match=r"6 pictures cannot be read: .*the file is empty"):
        nunbit.train(data=tmp_path / "t.parquet", quiet=True)


def write_kinds(folder: Path) -> tuple[dict[str, str], set[str]]:
    """Write the kinds of odd file; return the unreadable ones with reasons, and the good ones."""
    folder.mkdir(parents=True)
    picture = noisy_picture((200, 60, 40), 1, (24, 16))
    picture.save(folder / "whole.png")
    data = (folder / "whole.png").read_bytes()
    (folder / "empty.jpg").touch()
    (folder / "truncated.png").write_bytes(data[: len(data) // 2])
    (folder / "text.jpg").write_text("I am a text")
    os.mkfifo(folder / "fifo.jpg")
    (folder / "loop.jpg").symlink_to("loop.jpg")
    (folder / "dangling.jpg").symlink_to("nowhere.jpg")
    (folder / "folder.jpg").mkdir()
    (folder / "self.jpg").symlink_to(".", target_is_directory=True)
    Image.new("RGB", (30_000, 1)).save(folder / "wide.png")
    Image.new("1", (9_000, 9_000)).save(folder / "bomb.png")
    (folder / "float.bmp").write_bytes(b"BM" + bytes(60))
    bad = {
        "empty.jpg": "empty", "truncated.png": "damaged", "text.jpg": "text",
        "fifo.jpg": "not a regular file", "loop.jpg": "symbolic links", "dangling.jpg": "No such",
        "folder.jpg": "a folder", "self.jpg": "a folder", "wide.png": "at most",
        "bomb.png": "megapixels", "float.bmp": "",
    }  # fmt: skip  # a table
    if os.geteuid() != 0:  # root reads everything
        (folder / "locked.png").write_bytes(data)
        (folder / "locked.png").chmod(0)
        bad["locked.png"] = "Permission denied"
    Image.new("RGB", (1, 1), (200, 60, 40)).save(folder / "dot.png")
    picture.convert("CMYK").save(folder / "cmyk.jpg")
    deep = np.arange(24 * 16, dtype=np.uint16).reshape(16, 24) * 100
    Image.fromarray(deep).save(folder / "deep.png")
    picture.quantize(8).save(folder / "palette.png", transparency=0)
    picture.convert("LA").save(folder / "la.png")
    for turn in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = turn
        picture.save(folder / f"exif{turn}.jpg", exif=exif)
    picture.save(folder / "moving.gif", save_all=True, append_images=[picture.rotate(90)])
    picture.save(folder / "CAPITAL.PNG")
    good = {path.name for path in folder.iterdir()} - set(bad)
    (folder / "Thumbs.db").write_text("x")
    (folder / "._whole.png").write_text("x")
    (folder / ".ipynb_checkpoints").mkdir()
    (folder / ".ipynb_checkpoints" / "copy.png").write_bytes(data)
    return bad, good


def state_of(root: Path) -> dict[str, tuple[int, int, str]]:
    """Return kind, time of change and contents of everything below a folder."""
    found = {}
    for path in sorted(root.rglob("*")):
        info = path.lstat()
        is_file = path.is_file() and not path.is_symlink() and os.access(path, os.R_OK)
        text = hashlib.sha256(path.read_bytes()).hexdigest() if is_file else ""
        found[str(path)] = (info.st_mode, info.st_mtime_ns, text)
    return found


def test_every_kind_of_bad_file_in_one_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad, good = write_kinds(tmp_path / "data" / "odd")
    (tmp_path / "data" / "plain").mkdir()
    for i in range(10):
        noisy_picture((40, 60, 200), i, (24, 16)).save(tmp_path / "data" / "plain" / f"{i}.png")
    before = state_of(tmp_path / "data")
    assert main(["train", "--data", "data", *QUICK, "--run-dir", "r"]) == 65
    out, err = capsys.readouterr()
    *listed, last = err.splitlines()
    assert out == ""
    assert last.startswith(f"nunbit: {len(bad)} pictures cannot be read: ")
    assert f"and {len(bad) - 5} more" in last
    assert len(listed) == len(bad)
    for name, reason in bad.items():
        line = next(line for line in listed if line.startswith(f"cannot read odd/{name}: "))
        assert reason in line
    assert not (tmp_path / "r").exists()
    words = ["train", "--data", "data", "--skip-bad", *QUICK, "--run-dir", "r", "--quiet"]
    assert main(words) == 0
    skipped = (tmp_path / "r" / "skipped.txt").read_text().splitlines()
    assert {line.split("\t")[0] for line in skipped} == {f"odd/{name}" for name in bad}
    table = (tmp_path / "r" / "split.csv").read_text()
    used = {line.split(",")[0] for line in table.splitlines() if line.startswith("odd/")}
    assert used <= {f"odd/{name}" for name in good}
    assert {"odd/cmyk.jpg", "odd/deep.png", "odd/moving.gif", "odd/CAPITAL.PNG"} <= used
    assert state_of(tmp_path / "data") == before


def test_the_tensors_of_a_forged_file_stay_out_of_memory(tmp_path: Path) -> None:
    """A tensor that the header claims and the file lacks is never allocated."""
    claim = {"w": {"dtype": "F32", "shape": [2**38], "data_offsets": [0, 2**40]}}
    header = json.dumps({**claim, "__metadata__": {"nunbit": "{}", "sha256": ""}}).encode()
    (tmp_path / "m").write_bytes(len(header).to_bytes(8, "little") + header + bytes(100))
    with pytest.raises(DataError, match="not a nunbit file"):
        load_tensors(tmp_path / "m")
