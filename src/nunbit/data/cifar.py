"""CIFAR-10's official python batches, read without running what a pickle may ask for."""

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from nunbit.errors import DataError
from nunbit.language import tr

TRAIN_BATCHES = tuple(f"data_batch_{i}" for i in range(1, 6))
TEST_BATCHES = ("test_batch",)


class _ArraysOnly(pickle.Unpickler):
    """Allows what numpy arrays of bytes are pickled with, and nothing else."""

    ALLOWED = frozenset(
        {
            ("numpy.core.multiarray", "_reconstruct"),
            ("numpy._core.multiarray", "_reconstruct"),
            ("numpy", "ndarray"),
            ("numpy", "dtype"),
            ("_codecs", "encode"),  # how protocol 2 writes bytes
        }
    )

    def find_class(self, module: str, name: str) -> Any:
        """Return one of the allowed names; anything else is an attack or another file."""
        if (module, name) not in self.ALLOWED:
            raise pickle.UnpicklingError(
                tr("{module}.{name} is not allowed in a CIFAR batch", module=module, name=name)
            )
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


def read_batches(
    folder: Path, names: tuple[str, ...]
) -> tuple[np.ndarray[Any, np.dtype[np.uint8]], np.ndarray[Any, np.dtype[np.int64]]]:
    """Return images uint8 (N, 32, 32, 3) and labels int64 (N,) of the named batch files.

    Raises:
        DataError: a missing file, or one that is not a CIFAR-10 batch.
    """
    images, labels = [], []
    for name in names:
        batch = _read_batch(folder / name)
        # The files hold planes (N, 3, 32, 32); everything here is (N, H, W, C).
        planes = batch[0].reshape(-1, 3, 32, 32)
        images.append(np.ascontiguousarray(planes.transpose(0, 2, 3, 1)))
        labels.append(batch[1])
    return np.concatenate(images), np.concatenate(labels)


def _read_batch(path: Path) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    try:
        body = _ArraysOnly(io.BytesIO(path.read_bytes()), encoding="bytes").load()
        data, labels = np.asarray(body[b"data"]), np.asarray(body[b"labels"], dtype=np.int64)
    except FileNotFoundError:
        raise DataError("{path} is missing", path=path) from None
    except Exception as error:  # a damaged pickle raises anything
        raise DataError(
            "{path} is not a CIFAR-10 batch: {error}", path=path, error=error
        ) from error
    if data.dtype != np.uint8 or data.shape != (len(labels), 3072):
        raise DataError(
            "{path} is not a CIFAR-10 batch: data {dtype} {shape}",
            path=path,
            dtype=data.dtype,
            shape=data.shape,
        )
    if len(labels) and not 0 <= labels.min() <= labels.max() < 10:
        raise DataError("{path} is not a CIFAR-10 batch: labels outside 0 to 9", path=path)
    return data, labels
