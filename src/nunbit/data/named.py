"""The sets that are known by name: where they are looked for, and how each layout is read."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from nunbit.data.cifar import TEST_BATCHES, TRAIN_BATCHES, read_batches
from nunbit.data.download import Remote, cache_folder, download, extract
from nunbit.data.idx import read_idx
from nunbit.data.parquet import open_parquet
from nunbit.data.pictures import Pictures, Source, Track, untracked
from nunbit.errors import DataError, MissingInputError, listed

CIFAR10_CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip  # the order is the file format's
FASHION_CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
    "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
DIGIT_CLASSES = tuple("0123456789")

CIFAR10_REMOTE = Remote(
    "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
    "c58f30108f718f92721af3b95e74349a",
    170_498_071,
)
IDX_FILES = {  # part: (images, labels)
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
MNIST_REMOTE = {
    "base": "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "train-images-idx3-ubyte": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "train-labels-idx1-ubyte": "d53e105ee54ea40749a09fcbcd1e9432",
    "t10k-images-idx3-ubyte": "9fb629c4189551a2d022fa330f9573f3",
    "t10k-labels-idx1-ubyte": "ec29112dd5afa0611ce80d1b7f02629c",
}
FASHION_REMOTE = {
    "base": "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    "train-images-idx3-ubyte": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "train-labels-idx1-ubyte": "25c81989df183df01b3e8a0aad5dffbe",
    "t10k-images-idx3-ubyte": "bef4ecab320f06d8554ea6380940ec79",
    "t10k-labels-idx1-ubyte": "bb300cfdad3c16e7a12a480ee83cd310",
}
MAX_IDX_GZ_BYTES = 32 << 20
Arrays = tuple[np.ndarray[Any, np.dtype[Any]], np.ndarray[Any, np.dtype[Any]]]


def data_folders() -> list[Path]:
    """Return the folders in which named sets are looked for: NUNBIT_DATA, then the cache.

    Raises:
        MissingInputError: NUNBIT_DATA names a folder that does not exist.
    """
    asked = [Path(p) for p in os.environ.get("NUNBIT_DATA", "").split(os.pathsep) if p]
    for folder in asked:
        if not folder.is_dir():
            raise MissingInputError(
                "NUNBIT_DATA names {folder}, which is not a folder", folder=folder
            )
    return [*asked, cache_folder()]


def _find(*layouts: str) -> Path | None:
    """Return the first existing path among data folders and layouts."""
    paths = (folder / layout for folder in data_folders() for layout in layouts)
    return next((path for path in paths if path.exists()), None)


def open_digits(_track: Track = untracked) -> Source:
    """Open scikit-learn's 1,797 handwritten digits, 8x8 grey: real scans, part of the library.

    Source: UCI Optical Recognition of Handwritten Digits, test part.
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    # Pixels are counts from 0 to 16 of set dots in a 4x4 block.
    images = np.round(digits.images * (255 / 16)).astype(np.uint8)[..., None]
    return _from_arrays("digits", DIGIT_CLASSES, {"all": (images, digits.target)})


def open_mnist(track: Track = untracked) -> Source:
    """Open MNIST: 60,000 + 10,000 digits, 28x28 grey (LeCun et al., 1998)."""
    return _open_idx("mnist", ("MNIST/raw", "mnist"), MNIST_REMOTE, DIGIT_CLASSES, track)


def open_fashion_mnist(track: Track = untracked) -> Source:
    """Open Fashion-MNIST: 60,000 + 10,000 articles, 28x28 grey (arXiv 1708.07747)."""
    layouts = ("FashionMNIST/raw", "fashion-mnist")
    return _open_idx("fashion-mnist", layouts, FASHION_REMOTE, FASHION_CLASSES, track)


def open_cifar10(track: Track = untracked) -> Source:
    """Open CIFAR-10: 50,000 + 10,000 photographs, 32x32 RGB (Krizhevsky, 2009).

    Read from the official python batches, or from parquet files in the hub's layout.
    """
    batches = ("cifar-10-batches-py", "cifar10/cifar-10-batches-py")
    found = _find(*batches, "cifar10")
    if found is None:
        archive = download(CIFAR10_REMOTE, cache_folder(), track)
        members = [f"{batches[0]}/{name}" for name in (*TRAIN_BATCHES, *TEST_BATCHES)]
        found = cache_folder() / batches[0]
        extract(archive, members, found)
    if found.name == "cifar10":
        if not any(found.glob("*.parquet")):
            raise DataError(
                "{found} has neither parquet files nor cifar-10-batches-py", found=found
            )
        source = open_parquet(found)
        # A table that was saved again has only the numbers of the classes.
        names = CIFAR10_CLASSES if source.class_names == DIGIT_CLASSES else source.class_names
        if sorted(names) != list(CIFAR10_CLASSES):
            raise DataError(
                "{found} does not hold cifar10; its classes are {names}",
                found=found,
                names=listed(names),
            )
        return replace(source, spec="cifar10", class_names=names, is_published=True)
    parts = {"train": read_batches(found, TRAIN_BATCHES), "test": read_batches(found, TEST_BATCHES)}
    return _from_arrays("cifar10", CIFAR10_CLASSES, parts)


def open_birds(track: Track = untracked) -> Source:
    """Open the two classes of CIFAR-10 that the texts tell apart: airplane 0, bird 1."""
    cifar10, class_names = open_cifar10(track), ("airplane", "bird")
    old = [cifar10.class_names.index(name) for name in class_names]
    parts = {}
    for part, pictures in cifar10.parts.items():
        kept = pictures.select(np.flatnonzero(np.isin(pictures.labels, old)))
        labels = (kept.labels == old[1]).astype(np.int64)
        parts[part] = replace(kept, labels=labels)
    return Source("birds", class_names, parts, is_published=True)


NAMED: dict[str, Callable[[Track], Source]] = {
    "digits": open_digits,
    "mnist": open_mnist,
    "fashion-mnist": open_fashion_mnist,
    "cifar10": open_cifar10,
    "birds": open_birds,
}


def _open_idx(
    name: str,
    layouts: tuple[str, ...],
    remote: dict[str, str],
    class_names: tuple[str, ...],
    track: Track,
) -> Source:
    first = IDX_FILES["train"][0]
    found = _find(*(f"{layout}/{first}{suffix}" for layout in layouts for suffix in ("", ".gz")))
    downloads = cache_folder() / layouts[0]
    folder = found.parent if found else downloads
    if folder == downloads:  # perhaps one that was interrupted
        for file in (file for pair in IDX_FILES.values() for file in pair):
            url = f"{remote['base']}{file}.gz"
            if not (folder / file).exists():
                download(Remote(url, remote[file], MAX_IDX_GZ_BYTES), folder, track)
    parts = {}
    for part, (images, labels) in IDX_FILES.items():
        pixels, numbers = (read_idx(_plain_or_gz(folder / file)) for file in (images, labels))
        if pixels.ndim != 3 or numbers.ndim != 1 or numbers.max(initial=0) >= len(class_names):
            raise DataError(
                "{folder} does not hold {name}: other axes or classes", folder=folder, name=name
            )
        parts[part] = (pixels[..., None], numbers)
    return _from_arrays(name, class_names, parts)


def _plain_or_gz(path: Path) -> Path:
    zipped = path.with_name(path.name + ".gz")
    for candidate in (path, zipped):
        if candidate.exists():
            return candidate
    raise DataError("{path} is missing", path=path)


def _from_arrays(name: str, class_names: tuple[str, ...], parts: dict[str, Arrays]) -> Source:
    pictures = {}
    for part, (images, labels) in parts.items():
        if len(images) != len(labels):
            raise DataError(
                "{name}, {part}: {pictures} pictures but {labels} labels",
                name=name,
                part=part,
                pictures=len(images),
                labels=len(labels),
            )
        names = [f"{name}/{part}/{i}" for i in range(len(images))]
        pictures[part] = Pictures(images, labels.astype(np.int64), names)
    return Source(name, class_names, pictures, channels=images.shape[-1], is_published=True)
