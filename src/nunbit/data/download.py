"""Fetching the official files of a named set, checked before they are used."""

import hashlib
import os
import secrets
import shutil
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import IO

from nunbit.data.pictures import Track, untracked
from nunbit.errors import DataError, MissingInputError, StorageError
from nunbit.language import tr

CHUNK_BYTES = 1 << 20
TIMEOUT_SECONDS = 30
ABANDONED_SECONDS = 600  # a download gives up after `TIMEOUT_SECONDS` without a byte


@dataclass(frozen=True)
class Remote:
    """A file that a set's authors publish."""

    url: str
    md5: str  # the authors publish md5; it guards against accidents, not against attacks
    max_bytes: int

    @property
    def name(self) -> str:
        """File name, the last part of the address."""
        return self.url.rsplit("/", 1)[-1]


def is_offline() -> bool:
    """Return whether NUNBIT_OFFLINE forbids downloads."""
    return os.environ.get("NUNBIT_OFFLINE", "") not in ("", "0")


def cache_folder() -> Path:
    """Return where downloads are kept: NUNBIT_CACHE, or nunbit in the user's cache folder.

    Raises:
        MissingInputError: no variable names one, and the user has no home folder.
    """
    if folder := os.environ.get("NUNBIT_CACHE"):
        return Path(folder)
    if folder := os.environ.get("XDG_CACHE_HOME"):
        return Path(folder, "nunbit")
    try:
        return Path.home() / ".cache" / "nunbit"
    except RuntimeError:  # a user whom the system does not know, as in containers
        raise MissingInputError(
            "this user has no home folder to keep downloads and decoded pictures in; name a folder "
            "in NUNBIT_CACHE"
        ) from None


def download(remote: Remote, folder: Path, track: Track = untracked) -> Path:
    """Fetch a file into `folder` unless it is there; it appears whole and checked or not at all.

    Args:
        remote: what to fetch.
        folder: where to keep it; made if need be.
        track: shows progress, by the MiB.

    Raises:
        MissingInputError: downloads are forbidden, or the address cannot be reached.
        DataError: what came is not the published file.
        StorageError: it cannot be written.
    """
    target = folder / remote.name
    if target.exists():
        return target
    if is_offline():
        raise MissingInputError(
            "{name} is not here and NUNBIT_OFFLINE forbids downloads", name=remote.name
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(folder, remote.name)
        partial = folder / f".{remote.name}.{secrets.token_hex(4)}.tmp"
        try:
            with partial.open("xb") as file:  # with the permissions of any other file
                found = _copy(remote, file, track)
            if found != remote.md5:
                raise DataError(
                    "{url}: md5 {found}, published {md5}",
                    url=remote.url,
                    found=found,
                    md5=remote.md5,
                )
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)
    except (urllib.error.URLError, TimeoutError, ConnectionError, HTTPException) as error:
        # The first three are OSErrors too, so they stand before it.
        raise MissingInputError(
            "cannot download {url}: {error}; try again", url=remote.url, error=error
        ) from error
    except OSError as error:
        if isinstance(error, StorageError | MissingInputError):
            raise
        raise StorageError(
            "cannot write {target}: {strerror}", target=target, strerror=error.strerror or error
        ) from error
    return target


def _remove_abandoned(folder: Path, name: str) -> None:
    """Remove what downloads and unpackings that were killed have left of a file or folder."""
    for path in folder.glob(f".{name}.*.tmp"):
        with suppress(OSError):  # another process was faster
            if time.time() - path.stat().st_mtime > ABANDONED_SECONDS:
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def _copy(remote: Remote, file: IO[bytes], track: Track) -> str:
    """Copy the remote file in chunks and return its md5."""
    total = hashlib.md5(usedforsecurity=False)
    with urllib.request.urlopen(remote.url, timeout=TIMEOUT_SECONDS) as response:
        said = response.headers.get("Content-Length", "")
        size = int(said) if said.isdecimal() else remote.max_bytes
        label = tr("downloading {url} (MiB)", url=remote.url)
        for chunk in track(_chunks(remote, response), -(-size // CHUNK_BYTES), label):
            total.update(chunk)
            file.write(chunk)
    return total.hexdigest()


def _chunks(remote: Remote, response: IO[bytes]) -> Iterator[bytes]:
    size = 0
    while chunk := response.read(CHUNK_BYTES):
        size += len(chunk)
        if size > remote.max_bytes:
            raise DataError(
                "{url} is larger than {max_bytes} bytes",
                url=remote.url,
                max_bytes=remote.max_bytes,
            )
        yield chunk


def extract(archive: Path, members: Sequence[str], folder: Path) -> None:
    """Copy the named regular files of a tar archive into a new `folder`, and nothing else.

    No path inside the archive decides where anything is written, and the folder appears whole.

    Raises:
        DataError: a member is missing or is no regular file.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(folder.parent, folder.name)
    with tempfile.TemporaryDirectory(".tmp", f".{folder.name}.", folder.parent) as temporary:
        inside = Path(temporary, folder.name)
        inside.mkdir()
        try:
            with tarfile.open(archive) as tar:
                for member in members:
                    stream = tar.extractfile(member)
                    if stream is None:
                        raise KeyError(member)
                    (inside / Path(member).name).write_bytes(stream.read())
        except KeyError as error:
            raise DataError("{archive} has no file {error}", archive=archive, error=error) from None
        except (tarfile.TarError, EOFError, OSError) as error:
            raise DataError(
                "{archive} cannot be unpacked: {error}; delete it", archive=archive, error=error
            ) from error
        try:
            inside.rename(folder)
        except OSError:
            if not folder.is_dir():  # else another process was faster, with the same archive
                raise
