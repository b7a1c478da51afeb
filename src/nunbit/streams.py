"""Standard streams whose reader may go away, as `| head` does, and a terminal that is closed."""

import codecs
import io
import os
from contextlib import suppress
from typing import IO, Any, TextIO


class Log:
    """A stream that a log goes to: where it cannot be written, the work goes on in silence."""

    def __init__(self, stream: IO[str] | None) -> None:
        """Take a stream; None is one that whoever started this process closed."""
        self._stream = stream or open(os.devnull, "w")  # noqa: SIM115  # as long as the log

    def write(self, text: str) -> int:
        """Write a text, or lose it."""
        try:
            return self._stream.write(text)
        except OSError:
            silence(self._stream)
            return len(text)

    def flush(self) -> None:
        """Hand on what was written, or lose it."""
        try:
            self._stream.flush()
        except OSError:
            silence(self._stream)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def escape(stream: IO[str]) -> None:
    """Let a stream write as escapes what its encoding lacks, as Hangul in ASCII, and not fail.

    Who asked for another way (`PYTHONIOENCODING=ascii:replace`) keeps it.
    """
    if isinstance(stream, io.TextIOWrapper) and stream.errors in ("strict", "surrogateescape"):
        stream.reconfigure(errors="backslashreplace")


def is_unicode(stream: TextIO) -> bool:
    """Return whether a stream takes any character, so that no program reads an escape for it."""
    return stream.encoding is None or codecs.lookup(stream.encoding).name == "utf-8"


def silence(stream: IO[str]) -> None:
    """Let a stream lead nowhere: what it still holds would fail again when Python ends."""
    with suppress(OSError, ValueError):  # it has no file of its own, or is closed
        nowhere = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, stream.fileno())
        finally:
            os.close(nowhere)
