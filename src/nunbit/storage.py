"""Files that are whole or not there: an atomic writer, and tensors with metadata under one hash.

`torch.save` on a full disk destroys the file it replaces, and neither its format nor safetensors
sees a flipped byte in the weights; so nunbit serialises to memory, hashes, and writes through here.
"""

import csv
import errno
import hashlib
import io
import json
import os
import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from nunbit.errors import DataError, MissingInputError, StorageError
from nunbit.language import tr

METADATA_KEY = "nunbit"
DIGEST_KEY = "sha256"
LONGEST_HEADER = 100_000_000  # bytes, as safetensors allows
TEMPORARY = re.compile(r"\..+\.[0-9a-f]{8}\.tmp", re.DOTALL)
# What foreign JSON raises: json recurses as deep as its text.
_WRONG = (ValueError, KeyError, TypeError, AttributeError, RecursionError)


def atomic_write(path: Path, data: bytes) -> None:
    """Replace `path` by `data` so that a crash at any instant leaves the old or the new file.

    Raises:
        StorageError: the disk is full or the folder cannot be written; the old file is unharmed.
    """
    temporary = path.with_name(temporary_name(path.name))
    try:
        # O_EXCL: never write through a file that somebody else put there; 0o666 honours the umask.
        handle = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        with suppress(OSError):  # it may not exist, or not be removable where nothing is written
            temporary.unlink()
        raise StorageError(_explain(path, len(data), error)) from error


def temporary_name(name: str) -> str:
    """Return a name for a file that is there for a moment; who dies then leaves it behind."""
    return f".{name}.{secrets.token_hex(4)}.tmp"


def is_temporary(name: str) -> bool:
    """Return whether a name is one of `temporary_name`."""
    return TEMPORARY.fullmatch(name) is not None


def _sync_folder(folder: Path) -> None:
    """Make the rename itself survive a power loss."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _explain(path: Path, size: int, error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        stat = os.statvfs(path.parent)
        free_mb = stat.f_bavail * stat.f_frsize / 1e6
        return tr(
            "disk full: {path} needs {size:.1f} MB, {free_mb:.1f} MB are free",
            path=path,
            size=size / 1000000.0,
            free_mb=free_mb,
        )
    return tr("cannot write {path}: {strerror}", path=path, strerror=error.strerror or error)


def csv_line(row: Sequence[str]) -> str:
    r"""Return a row as CSV. A name may hold \r, which csv quotes only where lines end in it."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\r\n").writerow(row)
    return text.getvalue().removesuffix("\r\n") + "\n"


def digest(tensors: Mapping[str, Tensor], metadata: str) -> str:
    """Return the sha256 over the metadata and over every tensor's name, type, shape and bytes."""
    total = hashlib.sha256(metadata.encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        total.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        total.update(tensor.flatten().view(torch.uint8).numpy().data if tensor.numel() else b"")
    return total.hexdigest()


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
    """Write tensors and JSON metadata as one safetensors file with a hash over both.

    Raises:
        StorageError: the file cannot be written; an older one is unharmed.
    """
    text = json.dumps(metadata, ensure_ascii=False, sort_keys=True, allow_nan=False)
    plain = {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}
    header = {METADATA_KEY: text, DIGEST_KEY: digest(plain, text)}
    atomic_write(path, safetensors.torch.save(plain, metadata=header))


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read and verify a file that `save_tensors` wrote, on the CPU.

    Raises:
        MissingInputError: no such file.
        DataError: not such a file, or damaged: nothing of it was used.
    """
    data = _read_regular(path)
    try:
        tensors = safetensors.torch.load(data)
        size = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + size])["__metadata__"]
        text, expected = header[METADATA_KEY], header[DIGEST_KEY]
        text.encode()
    except (SafetensorError, *_WRONG) as error:
        raise DataError(
            "{path} is not a nunbit file ({kind})", path=path, kind=_kind(data)
        ) from error
    if digest(tensors, text) != expected:
        raise DataError("{path} is damaged: its contents do not match its sha256", path=path)
    return tensors, _object(text, path)


def own_metadata(path: Path) -> dict[str, Any] | None:
    """Return the metadata of a file that says that `save_tensors` wrote it; None of any other.

    Only its head is read, and nothing is verified.
    """
    try:
        if not path.is_file():  # a FIFO would be waited for
            return None
        with path.open("rb") as file:
            size, first = int.from_bytes(file.read(8), "little"), file.read(1)
            if first != b"{" or size > LONGEST_HEADER:
                return None
            header = json.loads(first + file.read(size - 1))
        return _object(header["__metadata__"][METADATA_KEY], path)
    except (OSError, DataError, *_WRONG):
        return None


def _read_regular(path: Path) -> bytes:
    """Return the bytes of a file; a FIFO would be waited for."""
    try:
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise DataError("{path} is not a regular file", path=path)
        return path.read_bytes()
    except FileNotFoundError:
        raise MissingInputError("no file {path}", path=path) from None
    except OSError as error:
        raise StorageError(
            "cannot read {path}: {strerror}", path=path, strerror=error.strerror or error
        ) from error


def _object(text: str, path: Path) -> dict[str, Any]:
    """Read the metadata of a verified file: anybody can compute a hash."""
    try:
        body = json.loads(text)
        if isinstance(body, dict):
            return body
    except _WRONG as error:
        raise DataError("{path} has metadata that cannot be read", path=path) from error
    raise DataError("{path} has metadata that are no JSON object", path=path)


def _kind(data: bytes) -> str:
    """Say what a foreign file seems to be, as a hint."""
    starts: Iterable[tuple[bytes, str]] = (
        (b"PK\x03\x04", tr("a zip archive; is it a torch.save file?")),
        (b"\x80", tr("a pickle, which nunbit never opens")),
        (b"version https://git-lfs", tr("a git-lfs pointer; run git lfs pull")),
        (b"<", tr("a web page")),
    )
    if not data:
        return tr("it is empty")
    return next((hint for start, hint in starts if data.startswith(start)), tr("unreadable"))
