"""The IDX files of MNIST and its relatives: http://yann.lecun.com/exdb/mnist."""

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from nunbit.errors import DataError
from nunbit.language import tr

MOST_AXES = 4
MAX_BYTES = 16 + 60_000 * 28 * 28  # the largest file of the family; a gzip bomb stops here


def read_idx(path: Path) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Read one IDX file of unsigned bytes, plain or gzipped.

    Raises:
        DataError: not IDX, another element type, or not as long as its header says.
    """
    try:
        if not path.is_file():  # opening a FIFO would wait for ever
            raise OSError(tr("not a regular file"))
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError("{path} cannot be read: {error}", path=path, error=error) from error
    if len(data) < 4 or data[:3] != b"\0\0\x08":
        raise DataError("{path} is not an IDX file of unsigned bytes", path=path)
    if not 1 <= data[3] <= MOST_AXES:
        raise DataError(
            "{path} has {axes} axes; allowed: 1 to {most}", path=path, axes=data[3], most=MOST_AXES
        )
    header = 4 + 4 * data[3]
    shape = struct.unpack(f">{data[3]}I", data[4:header].ljust(4 * data[3], b"\0"))
    if len(data) < header or len(data) != header + math.prod(shape):
        raise DataError(
            "{path} is cut off or too long for its header {shape}", path=path, shape=shape
        )
    return np.frombuffer(data, dtype=np.uint8, offset=header).reshape(shape)
