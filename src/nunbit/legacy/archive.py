"""What a file must be before any of it is unpickled: a plain zip with the pickle of a state dict.

A pickle is a program. torch's restricted reader has been broken before (CVE-2025-32434 ran code,
CVE-2026-24747 corrupted memory), so what a state dict does not need is refused here, by reading
names and instructions without following them.
"""

import errno
import hashlib
import io
import os
import pickletools
import stat
import zipfile
from pathlib import Path
from typing import IO

from nunbit.errors import DataError, ExplainedError, MissingInputError, StorageError
from nunbit.language import mark, tr

MAX_BYTES = 4 << 30
MAX_PICKLE_BYTES = 8 << 20  # of the pickle, and of the zip's list; ten thousand tensors need one
CHUNK_BYTES = 1 << 20
SAVE_AGAIN = mark("where it is trusted, save it again: torch.save(model.state_dict(), FILE)")
KINDS = ("Float", "Double", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool")
ALLOWED_NAMES = frozenset(
    {
        "collections OrderedDict",
        "torch._utils _rebuild_tensor_v2",
        "torch._utils _rebuild_parameter",
        "torch Size",
        *(f"torch {kind}Storage" for kind in KINDS),
    }
)
# Other ways to name or to make an object; torch.save writes GLOBAL and REDUCE only.
FOREIGN_OPCODES = frozenset(
    {"STACK_GLOBAL", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4", "PERSID"}
)


class RefusedError(ExplainedError, ValueError):
    """A file that is no plain state dict; the text is the reason, without the file's name."""


def snapshot(path: Path, copy: Path) -> str:
    """Copy a regular file and return its sha256: what is checked is then what is read.

    Raises:
        MissingInputError: no such file.
        DataError: a link, FIFO, folder or device, or too large.
        StorageError: it cannot be read or copied.
    """
    try:
        # O_NONBLOCK: opening a FIFO would wait for ever.
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        raise MissingInputError("no file {path}", path=path) from None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise DataError("{path} is a link; name the file that it leads to", path=path) from None
        raise StorageError(
            "cannot read {path}: {strerror}", path=path, strerror=error.strerror
        ) from error
    info = os.fstat(handle)
    if not stat.S_ISREG(info.st_mode):
        os.close(handle)
        raise DataError("{path} is not a regular file", path=path)
    with os.fdopen(handle, "rb") as file:
        return _copy(file, path, copy, info.st_size)


def _copy(file: IO[bytes], path: Path, copy: Path, size: int) -> str:
    """Copy a file of `size` bytes and return the sha256 of the copy."""
    if size > MAX_BYTES:
        raise DataError(
            "{path} has {size:.1f} GB; allowed: {max_bytes:.1f} GB",
            path=path,
            size=size / 1000000000.0,
            max_bytes=MAX_BYTES / 1000000000.0,
        )
    total = hashlib.sha256()
    try:
        with copy.open("xb") as target:
            while size > 0 and (chunk := file.read(min(size, CHUNK_BYTES))):
                size -= len(chunk)
                total.update(chunk)
                target.write(chunk)
    except OSError as error:
        raise StorageError(
            "cannot copy {path}: {strerror}", path=path, strerror=error.strerror or error
        ) from error
    return total.hexdigest()


def check_archive(path: Path) -> None:
    """Refuse a file that is not what `torch.save(model.state_dict(), path)` writes since torch 1.6.

    Raises:
        RefusedError: with the reason.
    """
    with _BoundedFile(path) as file:
        try:
            archive = zipfile.ZipFile(file)
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
            raise RefusedError(_what_it_is(path)) from error
        entries = archive.infolist()
        pickled = _check_entries(entries, path.stat().st_size)
        try:
            program = archive.read(pickled)
        except (zipfile.BadZipFile, OSError, ValueError, RuntimeError, EOFError) as error:
            raise RefusedError("{filename!r} is damaged", filename=pickled.filename) from error
    _check_pickle(program)


class _BoundedFile(io.FileIO):
    """A file whose single reads are small: zipfile reads lists as long as the file claims."""

    def read(self, size: int | None = -1, /) -> bytes:
        """Read as a file does, or refuse."""
        wanted = os.fstat(self.fileno()).st_size - self.tell() if size is None or size < 0 else size
        if wanted > MAX_PICKLE_BYTES:
            raise zipfile.BadZipFile(tr("a list of entries that is too long"))
        return super().read(wanted) or b""


def _check_entries(entries: list[zipfile.ZipInfo], size: int) -> zipfile.ZipInfo:
    """Return the entry with the pickle, after looking at the names and sizes of all."""
    names = [entry.filename for entry in entries]
    if len(set(names)) != len(names):
        raise RefusedError("two entries have one name")
    if any(name.split("/")[1:2] in (["code"], ["constants.pkl"]) for name in names):
        raise RefusedError("it is a TorchScript program; {advice}", advice=tr(SAVE_AGAIN))
    for entry in entries:
        parts = entry.filename.split("/")
        if parts[0] == "" or ".." in parts or "\\" in entry.filename or ":" in parts[0]:
            raise RefusedError(
                "the entry {filename!r} leads out of the archive", filename=entry.filename[:80]
            )
        if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
            raise RefusedError(
                "the entry {filename!r} is compressed; {advice}",
                filename=entry.filename[:80],
                advice=tr(SAVE_AGAIN),
            )
        if entry.flag_bits & 1:
            raise RefusedError("the entry {filename!r} is encrypted", filename=entry.filename[:80])
    if sum(entry.file_size for entry in entries) > size:
        raise RefusedError("its entries claim more bytes than the file has")
    pickles = [entry for entry in entries if entry.filename.split("/")[-1] == "data.pkl"]
    if len(pickles) != 1 or len({name.split("/")[0] for name in names}) != 1:
        raise RefusedError(
            "it is a zip archive that torch.save did not write; {advice}", advice=tr(SAVE_AGAIN)
        )
    if pickles[0].file_size > MAX_PICKLE_BYTES:
        raise RefusedError(
            "its pickle is larger than {max_pickle_bytes} MB",
            max_pickle_bytes=MAX_PICKLE_BYTES >> 20,
        )
    return pickles[0]


def _check_pickle(program: bytes) -> None:
    """Read the instructions of a pickle without following them."""
    try:
        for opcode, argument, _ in pickletools.genops(program):
            if opcode.name in FOREIGN_OPCODES:
                raise RefusedError(
                    "its pickle uses {name}; {advice}", name=opcode.name, advice=tr(SAVE_AGAIN)
                )
            if opcode.name == "GLOBAL" and argument not in ALLOWED_NAMES:
                name = str(argument).replace(" ", ".")[:80]
                raise RefusedError(
                    "its pickle names {name!r}, not just tensors; {advice}",
                    name=name,
                    advice=tr(SAVE_AGAIN),
                )
    except RefusedError:
        raise
    except (ValueError, IndexError, OverflowError) as error:  # UnicodeDecodeError is a ValueError
        raise RefusedError("its pickle is damaged") from error


def _what_it_is(path: Path) -> str:
    """Say what a file that is no zip archive seems to be."""
    with path.open("rb") as file:
        start = file.read(512)
    if not start:
        return tr("it is empty")
    if start.startswith(b"PK\x03\x04"):
        return tr("it is cut off or damaged")
    if start.startswith(b"\x80") or start[257:262] == b"ustar":
        return tr(
            "it is a pickle or an archive of torch before 1.6; {advice}", advice=tr(SAVE_AGAIN)
        )
    if start.startswith(b"version https://git-lfs"):
        return tr("it is a git-lfs pointer; run git lfs pull")
    return tr("it is no file of torch.save")
