"""Files that attack: state dicts that are programs, bombs, and things that only look like files."""

import builtins
import io
import os
import pickle
import struct
import tarfile
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

CANARY = "canary"
COMMAND = f"touch {CANARY}"
Weights = Callable[[Path], object]


class Calls:
    """Pickled as a call of `function` with `arguments`."""

    def __init__(self, function: Callable[..., Any], *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[object, ...]]:
        return self.call


class Storage:
    """Pickled as torch writes a storage: by reference, with a claimed number of elements."""

    def __init__(self, claimed: int) -> None:
        self.claimed = claimed


class StatePickler(pickle.Pickler):
    def persistent_id(self, item: object) -> object:
        if isinstance(item, Storage):
            return ("storage", torch.FloatStorage, "0", "cpu", item.claimed)
        return None


def tensor(claimed: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> Calls:
    """Return what unpickles to a tensor over the 16 bytes of storage 0."""
    rebuild = torch._utils._rebuild_tensor_v2
    return Calls(rebuild, Storage(claimed), 0, shape, strides, False, OrderedDict())


def pickled(body: object) -> bytes:
    file = io.BytesIO()
    StatePickler(file, protocol=2).dump(body)
    return file.getvalue()


def write_zip(path: Path, entries: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)


def write_state(path: Path, body: object, **more: bytes) -> None:
    """Write a body as torch.save would, with one storage of four floats."""
    version = {"w/version": b"3\n", "w/byteorder": b"little"}
    data = {"w/data.pkl": pickled(body), "w/data/0": bytes(16)}
    write_zip(path, {**version, **data, **more})


def good(path: Path) -> None:
    torch.save({"weight": torch.ones(2, 2)}, path)


def by_hand(path: Path, program: bytes) -> None:
    write_zip(path, {"w/version": b"3\n", "w/data.pkl": program})


def nested(path: Path) -> None:
    inner = path.with_name("inner.zip")
    good(inner)
    write_zip(path, {"w/inner.zip": inner.read_bytes()})
    inner.unlink()


def two_pickles(path: Path) -> None:
    write_state(path, {"w": tensor(4, (4,), (1,))}, **{"w/more/data.pkl": pickled({})})


def twice_the_name(path: Path) -> None:
    good(path)
    with zipfile.ZipFile(path, "a") as archive, warnings.catch_warnings(action="ignore"):
        archive.writestr(archive.namelist()[0], b"other")


def overlapping(path: Path) -> None:
    """Let ten entries claim the same bytes."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("w/data.pkl", pickled({}))
        archive.writestr("w/data/0", bytes(100_000))
        first = archive.infolist()[1]
        for i in range(1, 10):
            entry = zipfile.ZipInfo(f"w/data/{i}")
            for field in ("header_offset", "CRC", "file_size", "compress_size"):
                setattr(entry, field, getattr(first, field))
            archive.filelist.append(entry)
        archive._didModify = True


def endless_list(path: Path) -> None:
    """Claim a list of entries of 64 MB, in a file that has as many bytes (of holes)."""
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 9, 9, 64 << 20, 0, 0)
    with path.open("wb") as file:
        file.truncate(64 << 20)
        file.seek(0, os.SEEK_END)
        file.write(end)


def tar(path: Path) -> None:
    with tarfile.open(path, "w") as archive:
        for name in ("sys_info", "pickle", "tensors", "storages"):
            data = pickle.dumps(Calls(os.system, COMMAND))
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


def link(path: Path) -> None:
    good(path.with_name("linked"))
    path.symlink_to("linked")


def cut(path: Path) -> None:
    good(path)
    path.write_bytes(path.read_bytes()[:-100])


GETATTR = (
    b"\x80\x02cbuiltins\ngetattr\nccollections\nOrderedDict\nX\x0b\x00\x00\x00__globals__\x86R."
)
RAW = pickle.dumps(Calls(os.system, COMMAND))
OLD = {"_use_new_zipfile_serialization": False}
# What is refused by looking: no instruction of these is followed.
REFUSED_UNREAD: dict[str, tuple[Weights, str]] = {
    "os.system": (lambda p: torch.save({"w": Calls(os.system, COMMAND)}, p), "system"),
    "exec": (lambda p: torch.save(Calls(builtins.exec, f"open('{CANARY}','w')"), p), "exec"),
    "getattr chain": (lambda p: by_hand(p, GETATTR), "builtins.getattr"),
    "object array": (lambda p: torch.save({"w": np.array([{}])}, p), "numpy"),
    "protocol 4": (lambda p: torch.save({"w": os.system}, p, pickle_protocol=4), "STACK_GLOBAL"),
    "extension": (lambda p: by_hand(p, b"\x80\x02\x82\x01."), "EXT1"),
    "instance": (lambda p: by_hand(p, b"(S'x'\nios\nsystem\n."), "INST"),
    "damaged pickle": (lambda p: by_hand(p, b"\x80\x02X\xff\xff\xff\x7f"), "pickle is damaged"),
    "whole module": (lambda p: torch.save(torch.nn.Linear(2, 2), p), "torch.nn.modules"),
    "sparse": (lambda p: torch.save({"w": torch.eye(3).to_sparse()}, p), "_rebuild_sparse_tensor"),
    "TorchScript": (lambda p: write_state(p, {}, **{"w/code/x.py": b""}), "TorchScript"),
    "nested zip": (nested, "torch.save did not write"),
    "two pickles": (two_pickles, "torch.save did not write"),
    "bomb": (
        lambda p: write_zip(p, {"w/data/0": bytes(50_000_000)}, zipfile.ZIP_DEFLATED),
        "is compressed",
    ),
    "overlapping": (overlapping, "more bytes than the file has"),
    "endless list": (endless_list, "no file of torch.save"),
    "up": (lambda p: write_state(p, {}, **{"w/../../x": b"x"}), "leads out"),
    "absolute": (lambda p: write_state(p, {}, **{"/tmp/x": b"x"}), "leads out"),
    "twice": (twice_the_name, "two entries"),
    "joblib": (lambda p: p.write_bytes(b"\x80\x04\x95joblib.numpy_pickle"), "before 1.6"),
    "raw pickle": (lambda p: p.write_bytes(RAW), "before 1.6"),
    "legacy": (lambda p: torch.save({"w": torch.ones(2)}, p, **OLD), "before 1.6"),
    "tar": (tar, "before 1.6"),
    "git-lfs": (lambda p: p.write_text("version https://git-lfs.github.com\n"), "git lfs pull"),
    "cut off": (cut, "cut off or damaged"),
    "text": (lambda p: p.write_text("weights"), "no file of torch.save"),
    "vast": (lambda p: os.truncate(os.open(p, os.O_CREAT | os.O_WRONLY), 1 << 40), "1099.5 GB"),
    "empty": (lambda p: p.touch(), "it is empty"),
    "link": (link, "is a link"),
    "FIFO": (lambda p: os.mkfifo(p), "not a regular file"),
    "folder": (lambda p: p.mkdir(), "not a regular file"),
}  # fmt: skip  # one line each
# What only torch's reader sees.
REFUSED_READ: dict[str, tuple[Weights, str]] = {
    "claims": (lambda p: write_state(p, {"w": tensor(10**12, (10**12,), (1,))}), "cannot read it"),
    "repeats": (lambda p: write_state(p, {"w": tensor(4, (10**12,), (0,))}), "claims 1,000,000"),
    "outside": (lambda p: write_state(p, {"w": tensor(4, (2**40, 4), (4, 1))}), "cannot read it"),
    "no tensor": (lambda p: torch.save({"w": "text"}, p), "type str, not a tensor"),
    "nested dict": (lambda p: torch.save({"w": {"v": torch.ones(1)}}, p), "type dict"),
    "no names": (lambda p: torch.save({1: torch.ones(1)}, p), "no dictionary"),
    "nothing": (lambda p: torch.save({}, p), "no dictionary"),
    "a tensor": (lambda p: torch.save(torch.ones(2), p), "no dictionary"),
    "complex": (lambda p: torch.save({"w": torch.zeros(2) * 1j}, p), "dense numbers"),
}
