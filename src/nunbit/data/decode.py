"""From a picture file of any kind to 8-bit grey or RGB, upright: the one path that all use.

Training, evaluation and prediction decode here, so that a picture means the same to each of them.
Measured mistakes of other tools that this avoids: EXIF rotation ignored, 16-bit grey clipped to
white, hidden colours of transparent pixels shown, text files passed on as noise.
"""

import io
import os
import stat
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Literal

from PIL import Image, UnidentifiedImageError

from nunbit.errors import ExplainedError
from nunbit.language import tr

# Counted up whenever the same file gives other pixels, here or in `Preprocess.to_pixels`: pictures
# that an older nunbit decoded and kept are then decoded again.
DECODE_VERSION = 1
# What is not listed is not tried: Pillow opens 43 formats, EPS by starting Ghostscript.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp"})
# Pictures too, but of formats that are not read: named as unreadable rather than passed over.
FOREIGN_SUFFIXES = frozenset({".tif", ".tiff", ".heic", ".heif", ".avif"})
MAX_PIXELS = 50_000_000  # a 48-megapixel telephone picture passes
MAX_SIDE = 16_384
MAX_CONTENT_BYTES = 64 << 20  # of a file that is read whole before it is decoded
BACKGROUND = (255, 255, 255)  # what shows through transparent pixels

Mode = Literal["L", "RGB"]
ORIENTATION = 0x0112
SAY_ORIENTATION = ("exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp")
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
PILLOW_ERRORS = (  # what its plugins raise on damaged files
    OSError, ValueError, SyntaxError, IndexError, EOFError, struct.error, TypeError, KeyError,
    AttributeError, OverflowError, zlib.error, MemoryError,
)  # fmt: skip


class BadPictureError(ExplainedError, ValueError):
    """A picture that cannot be read; the text is the reason, without the file's name."""


def decode(source: Path | bytes, mode: Mode, near_side: int = 0) -> Image.Image:
    """Read a picture as 8-bit `mode`, turned upright, transparent parts on white.

    Args:
        source: a file, or the bytes of one; the content decides the format, not the name.
        mode: "L" for grey, "RGB" for colour.
        near_side: the side in pixels that the caller will resize to; a JPEG more than twice as
            large is decoded at half, a quarter or an eighth, which is several times faster.

    Raises:
        BadPictureError: not a picture, damaged, too large, or a format that is not allowed.
    """
    stream = io.BytesIO(source) if isinstance(source, bytes) else _open_regular(source)
    with stream:
        try:
            image = Image.open(stream, formats=FORMATS)
            _check_size(image.size)
            if near_side:
                image.draft(None, (2 * near_side, 2 * near_side))
            image.load()
            # Looking into an EXIF that is not there takes a tenth of a small picture's decoding.
            is_upright = image.info.keys().isdisjoint(SAY_ORIENTATION)
            return to_mode(image if is_upright else upright(image), mode)
        except BadPictureError:
            raise
        except UnidentifiedImageError:
            raise BadPictureError(_what_it_is(stream)) from None
        except Image.DecompressionBombError:
            raise BadPictureError(
                "more than {max_pixels} megapixels", max_pixels=MAX_PIXELS // 10**6
            ) from None
        except PILLOW_ERRORS as error:
            raise BadPictureError("damaged: {error}", error=error) from error


def read_content(path: Path) -> bytes | None:
    """Return a picture's file as bytes; None where it is too large for that, or breaks off.

    Raises:
        BadPictureError: as `decode` would, for what is no file that can be opened.
    """
    with _open_regular(path) as stream:
        try:
            is_large = os.fstat(stream.fileno()).st_size > MAX_CONTENT_BYTES
            return None if is_large else stream.read()
        except OSError:  # `decode` meets it again and names it
            return None


class _QuietPillow:
    """The warning filters of the process: of many blocks, the first sets and the last restores."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open = 0
        self._filters = warnings.catch_warnings()

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Silence Pillow's warnings: what matters in them is an error here, with the file's name.

        Warning filters belong to the process, so this stands around a loop over pictures and never
        inside a decoding thread. Threads of a server may each be in such a loop: had every one its
        own filters to restore, the last to leave could restore those of another.
        """
        with self._lock:
            self._open += 1
            if self._open == 1:
                self._filters = warnings.catch_warnings()
                self._filters.__enter__()
                warnings.simplefilter("ignore", UserWarning)  # palettes with byte transparency
                warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        try:
            yield
        finally:
            with self._lock:
                self._open -= 1
                if self._open == 0:
                    self._filters.__exit__(None, None, None)


quiet_pillow = _QuietPillow()


def upright(image: Image.Image) -> Image.Image:
    """Return a picture turned as its EXIF orientation asks; damaged EXIF asks for nothing."""
    try:
        turn = TURNS.get(image.getexif().get(ORIENTATION, 1))
    except PILLOW_ERRORS:
        turn = None
    return image if turn is None else image.transpose(turn)


def to_mode(image: Image.Image, mode: Mode) -> Image.Image:
    """Convert a picture of any Pillow mode to 8-bit `mode` without clipping.

    Raises:
        BadPictureError: float or 32-bit pixels, whose range is not known.
    """
    if image.mode.startswith("I;16"):
        return image.point(lambda value: value / 256, "L").convert(mode)
    if image.mode in ("I", "F"):
        raise BadPictureError(
            "pixels of mode {mode} have no known range; save as 8 bit", mode=image.mode
        )
    if image.has_transparency_data:
        image = image.convert("RGBA")
        canvas = Image.new("RGBA", image.size, (*BACKGROUND, 255))
        image = Image.alpha_composite(canvas, image)
    if image.mode not in ("L", "RGB") and mode == "L":
        image = image.convert("RGB")  # CMYK and others know the way to grey only through RGB
    return image if image.mode == mode else image.convert(mode)


def _open_regular(path: Path) -> IO[bytes]:
    """Open a regular file; opening a FIFO would wait for ever."""
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            raise BadPictureError(
                tr("a folder") if stat.S_ISDIR(mode) else tr("not a regular file")
            )
        return path.open("rb")
    except (OSError, ValueError) as error:  # a path with a NUL is a ValueError
        raise BadPictureError(getattr(error, "strerror", None) or str(error)) from error


def _check_size(size: tuple[int, int]) -> None:
    width, height = size
    if width * height > MAX_PIXELS or max(size) > MAX_SIDE:
        limit = tr(
            "{max_pixels} megapixels, {max_side} a side",
            max_pixels=MAX_PIXELS // 10**6,
            max_side=MAX_SIDE,
        )
        raise BadPictureError(
            "{width}x{height} pixels; at most {limit}", width=width, height=height, limit=limit
        )


def _what_it_is(stream: IO[bytes]) -> str:
    """Say what a file that is no picture seems to be."""
    stream.seek(0)
    start = stream.read(512)
    if not start:
        return tr("the file is empty")
    if start.startswith((b"II*\0", b"MM\0*")):
        return tr("TIFF is not read; save as PNG")
    if b"\0" not in start and start.lstrip()[:1] == b"<":
        return tr("not a picture: markup")
    text = all(32 <= byte < 127 or byte in b"\t\r\n" for byte in start)
    return (
        tr("not a picture: text")
        if text
        else tr("not a picture ({formats})", formats=", ".join(FORMATS))
    )
