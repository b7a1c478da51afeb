"""The same picture in another container is the same picture."""

import io
import os
import struct
import warnings
import zlib
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import noisy_picture
from nunbit.data.decode import BadPictureError, decode, quiet_pillow
from nunbit.data.preprocess import Preprocess


def smooth(size: tuple[int, int] = (40, 24)) -> Image.Image:
    """A picture that JPEG keeps almost exactly: slow gradients, another in each channel."""
    x, y = np.meshgrid(np.linspace(20, 230, size[0]), np.linspace(30, 200, size[1]))
    return Image.fromarray(np.stack([x, y, (x + y) / 2], -1).astype(np.uint8))


def difference(one: Image.Image, other: Image.Image) -> int:
    assert one.size == other.size
    return int(np.abs(np.asarray(one).astype(int) - np.asarray(other).astype(int)).max())


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "BMP", "WEBP", "GIF"])
def test_lossless_containers_give_the_same_pixels(kind: str) -> None:
    image = smooth().quantize(64).convert("RGB")  # GIF has 256 colours
    options = {"lossless": True} if kind == "WEBP" else {}
    assert difference(decode(saved(image, kind, **options), "RGB"), image) == 0


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_undone(orientation: int) -> None:
    image = smooth()
    turns = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = image.transpose(turns[orientation]) if orientation > 1 else image
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(stored, "JPEG", quality=98, subsampling=0, exif=exif)
    assert difference(decode(data, "RGB"), image) <= 6


def test_cmyk_and_palette_and_grey_with_alpha() -> None:
    image = smooth()
    cmyk = saved(image.convert("CMYK"), "JPEG", quality=98, subsampling=0)
    assert difference(decode(cmyk, "RGB"), image) <= 6
    palette = image.quantize(256)
    assert difference(decode(saved(palette, "PNG"), "RGB"), palette.convert("RGB")) == 0
    grey = image.convert("L")
    with_alpha = Image.merge("LA", (grey, Image.new("L", grey.size, 255)))
    assert difference(decode(saved(with_alpha, "PNG"), "L"), grey) == 0
    bits = grey.convert("1")
    assert difference(decode(saved(bits, "PNG"), "L"), bits.convert("L")) == 0


def test_16_bit_grey_is_scaled_and_not_clipped() -> None:
    grey = smooth().convert("L")
    sixteen = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    assert difference(decode(saved(sixteen, "PNG"), "L"), grey) == 0
    assert difference(decode(saved(sixteen, "PNG"), "RGB"), grey.convert("RGB")) == 0


def test_transparent_pixels_show_white_and_not_their_hidden_colour() -> None:
    hidden = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    assert decode(saved(hidden, "PNG"), "RGB").getpixel((1, 1)) == (255, 255, 255)
    half = Image.new("RGBA", (4, 4), (0, 0, 0, 128))
    assert abs(decode(saved(half, "PNG"), "L").getpixel((1, 1)) - 127) <= 1


def test_the_first_frame_of_an_animation_is_taken() -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    data = saved(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert decode(data, "RGB").getpixel((0, 0)) == (255, 0, 0)


def test_a_large_jpeg_is_decoded_smaller_but_means_the_same() -> None:
    image = smooth((1200, 800))
    near = decode(saved(image, "JPEG", quality=95), "RGB", near_side=32)
    assert max(near.size) < 400
    shape = Preprocess(height=32, width=32, channels=3, resize="crop", mean=(0,) * 3, std=(1,) * 3)
    whole = shape.to_pixels(image).astype(int)
    assert np.abs(shape.to_pixels(near).astype(int) - whole).max() <= 4


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header promises a huge picture."""
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)

    def chunk(kind: bytes, data: bytes) -> bytes:
        crc = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + crc

    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0"))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"hello, I am a text\n", "not a picture: text"),
        (b"<html><body>404</body></html>", "markup"),
        (b"II*\0" + b"\0" * 40, "TIFF"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "not a picture"),
        (bytes(range(256)), "not a picture"),
        (saved(smooth(), "JPEG")[:500], "damaged"),
        (saved(noisy_picture((9, 9, 9), 0, (40, 40)), "PNG")[:900], "damaged"),
        (bomb(8000, 8000), "megapixels"),
        (bomb(100_000, 100_000), "megapixels"),
        (bomb(20_000, 2), "16384"),
    ],
)
def test_what_is_no_picture_is_refused_with_its_reason(data: bytes, reason: str) -> None:
    with pytest.raises(BadPictureError, match=reason):
        decode(data, "RGB")


def test_a_fifo_is_refused_without_waiting_for_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.png")
    with pytest.raises(BadPictureError, match="not a regular file"):
        decode(tmp_path / "x.png", "RGB")


def test_float_pictures_are_refused_since_their_range_is_unknown() -> None:
    from nunbit.data.decode import to_mode

    with pytest.raises(BadPictureError, match="mode F"):
        to_mode(Image.new("F", (4, 4), 0.5), "L")


@pytest.mark.parametrize("resize", ["crop", "squash", "pad"])
def test_every_way_of_resizing_gives_the_input_size(resize: str) -> None:
    shape = Preprocess(height=16, width=16, channels=3, resize=resize, mean=(0,) * 3, std=(1,) * 3)
    for size in ((16, 16), (40, 24), (7, 90), (1, 1)):
        pixels = shape.to_pixels(noisy_picture((200, 30, 30), 1, size))
        assert pixels.shape == (16, 16, 3)
        assert pixels.dtype == np.uint8
    corner = shape.to_pixels(Image.new("RGB", (40, 20), (0, 0, 0)))[0, 0]
    assert (corner == (255 if resize == "pad" else 0)).all()


@pytest.mark.parametrize("side", [16, 64, 112, 224])
def test_a_picture_of_any_size_is_cut(side: int) -> None:
    shape = Preprocess(height=side, width=side, channels=1, resize="crop", mean=(0.0,), std=(1.0,))
    for width in range(1, 400):  # rounding put the cut outside of 640 x 427 and many others
        assert shape.to_pixels(Image.new("L", (width, 427))).shape == (side, side, 1)


def test_threads_that_read_at_once_leave_the_warnings_as_they_were() -> None:
    before = list(warnings.filters)
    first, second = ExitStack(), ExitStack()
    first.enter_context(quiet_pillow())
    second.enter_context(quiet_pillow())
    first.close()
    assert warnings.filters != before, "the second still reads"
    second.close()
    assert warnings.filters == before
