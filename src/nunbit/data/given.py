"""Pictures that a user hands over, one by one: files, folders of them, bytes, arrays, Pillow's."""

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from nunbit.data.decode import PILLOW_ERRORS, BadPictureError, Mode, decode, to_mode, upright
from nunbit.data.folder import picture_files
from nunbit.data.pictures import array_to_image, printable
from nunbit.errors import MissingInputError
from nunbit.values import path_of

Picture = str | Path | bytes | Image.Image | np.ndarray


def name_of(picture: Picture, number: int) -> str:
    """Return the path of a picture's file as text, or #number for what is no file."""
    return printable(str(picture)) if isinstance(picture, str | Path) else f"#{number}"


def open_picture(picture: Picture, mode: Mode, near_side: int = 0) -> Image.Image:
    """Return a picture as 8-bit `mode`, upright, as training reads its files.

    Args:
        picture: a file, the bytes of one, a picture of Pillow's, or a uint8 array (H, W) or
            (H, W, 1|3|4).
        mode: "L" for grey, "RGB" for colour.
        near_side: as in `decode`.

    Raises:
        BadPictureError: it cannot be read, is not there, or is something else.
    """
    if isinstance(picture, bytes):
        return decode(picture, mode, near_side)
    if isinstance(picture, str | Path):
        return decode(Path(picture), mode, near_side)
    if isinstance(picture, np.ndarray):
        return to_mode(array_to_image(picture), mode)
    if not isinstance(picture, Image.Image):
        raise BadPictureError(
            "a {type}; allowed: a path, bytes, a picture of Pillow's, a uint8 array",
            type=type(picture).__name__,
        )
    try:
        picture.load()  # Pillow reads a file only when its pixels are asked for
        return to_mode(upright(picture), mode)
    except BadPictureError:
        raise
    except (*PILLOW_ERRORS, AssertionError) as error:  # of a file that was closed, say
        raise BadPictureError("damaged: {error}", error=error) from error


def find_pictures(given: Iterable[Picture]) -> list[Picture]:
    """Return what is given with the picture files of each folder in its place.

    Raises:
        MissingInputError: a path that is not there, or a folder without pictures.
        DataError: a folder that cannot be looked into.
    """
    found: list[Picture] = []
    for picture in given:
        if not isinstance(picture, str | Path):
            found.append(picture)
            continue
        path = existing(picture)
        inside = list(picture_files(path)) if path.is_dir() else [path]
        if not inside:
            raise MissingInputError("no pictures in {path}", path=path)
        found += inside
    return found


def existing(picture: str | Path) -> Path:
    """Return a path, if something is there.

    Raises:
        UsageError: its name is empty.
        MissingInputError: nothing is.
    """
    path = path_of(picture, "picture")
    if not os.path.exists(path):  # unlike path.exists(), False where a folder is locked
        raise MissingInputError(
            "no picture {path}, or no permission to see it", path=printable(str(path))
        )
    return path
