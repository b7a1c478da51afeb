"""Real pictures: the sets that NUNBIT_DATA names, with numbers that a mistake would miss."""

import hashlib
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

import nunbit
from nunbit.data.sources import open_source
from nunbit.reporting.page import write_report

pytestmark = pytest.mark.real


@pytest.mark.slow
def test_the_default_run_reaches_98_percent_in_20_seconds(tmp_path: Path) -> None:
    finished = nunbit.train(run_dir=tmp_path / "r", quiet=True)
    assert finished.test.accuracy >= 0.98
    assert finished.seconds <= 20
    assert (finished.test.n, finished.dataset.class_names) == (359, tuple("0123456789"))


def test_birds_are_the_airplanes_and_birds_of_cifar10(real_data: Path) -> None:
    birds, cifar10 = open_source("birds"), open_source("cifar10")
    assert birds.class_names == ("airplane", "bird")
    for part, count in (("train", 10_000), ("test", 2_000)):
        assert len(birds.parts[part]) == count
        assert birds.parts[part].labels.sum() == count / 2
        first = birds.parts[part]
        position = cifar10.parts[part].names.index(first.names[0])
        name = cifar10.class_names[cifar10.parts[part].labels[position]]
        assert name == birds.class_names[first.labels[0]]


def test_reading_and_training_cifar10_stay_below_the_promised_memory(
    real_data: Path, tmp_path: Path
) -> None:
    """Twice the size of the uint8 data plus 1 GiB, with torch and all: decoded, then mapped."""
    pixels = 60_000 * 32 * 32 * 3
    # A small process in between: a child begins with the peak of whoever started it.
    peak = """import resource, subprocess, sys
code = subprocess.call(sys.argv[1:], stdout=sys.stderr)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)"""
    # The 10,000 test pictures are not kept where decoding them takes less than a second.
    for run, said in (("a", r"kept [56]0,000 decoded pictures"), ("b", "")):
        command = f"""
            {sys.executable} -m nunbit train --data cifar10 --model net --model.width 4
            --train.epochs 1 --train.batch-size 500 --run-dir {tmp_path / run}
        """.split()
        ended = subprocess.run(
            [sys.executable, "-c", peak, *command], capture_output=True, text=True, check=False
        )
        assert ended.returncode == 0, ended.stderr
        assert re.search(said, ended.stderr)
        assert int(ended.stdout) * 1024 < 2 * pixels + 2**30


def test_the_texts_network_learns_birds(real_data: Path, tmp_path: Path) -> None:
    """Four epochs; 100 of them, over three seeds, are in docs/results.md."""
    finished = nunbit.train("birds/net", epochs=4, run_dir=tmp_path / "r", quiet=True)
    assert finished.parameters == 18_090
    assert (finished.train.n, finished.test.n) == (10_000, 2_000)
    assert finished.dataset.val is None, "a classic recipe selects nothing"
    assert finished.test.accuracy >= 0.78
    # Stored statistics are those of the training split: normalised, it has mean 0 and std 1.
    x = finished.dataset.preprocess.normalize(finished.dataset.train.images[:])
    assert x.mean(dim=(0, 2, 3)).abs().max() < 0.01
    assert (x.std(dim=(0, 2, 3)) - 1).abs().max() < 0.01


def test_mnist_is_the_published_one_and_is_learned(real_data: Path, tmp_path: Path) -> None:
    source = open_source("mnist")
    images = source.parts["train"].items
    header = b"\0\0\x08\x03" + b"".join(n.to_bytes(4, "big") for n in (60_000, 28, 28))
    md5 = hashlib.md5(header + images.tobytes()).hexdigest()  # type: ignore[union-attr]
    assert md5 == "6bbc9ace898e44ae57da46a324031adb"
    finished = nunbit.train("mnist/cnn", epochs=1, run_dir=tmp_path / "r", quiet=True)
    assert finished.test.accuracy >= 0.95


def test_a_folder_of_photographs(real_data: Path, tmp_path: Path) -> None:
    """Three epochs of small pictures; the recipe's own length is in docs/results.md."""
    flowers = real_data / "flowers"
    finished = nunbit.train(data=flowers, epochs=3, size=32, run_dir=tmp_path / "r", quiet=True)
    assert finished.test.n == 864
    assert finished.test.accuracy > 0.45, "chance is 0.24, the share of the largest class"
    split = (tmp_path / "r" / "split.csv").read_text().splitlines()[1:]
    assert len({line.split(",")[0] for line in split}) == 4_317, "each picture in one split"

    photo = sorted((flowers / "rose").iterdir())[0]
    image = Image.open(photo).convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = 8
    turned = image.transpose(Image.Transpose.ROTATE_270)
    turned.save(tmp_path / "exif.jpg", quality=98, subsampling=0, exif=exif)
    image.convert("CMYK").save(tmp_path / "cmyk.jpg", quality=98, subsampling=0)
    alpha = image.convert("RGBA")
    alpha.putalpha(255)
    alpha.save(tmp_path / "alpha.png")
    image.save(tmp_path / "plain.png")
    names = ("plain.png", "exif.jpg", "cmyk.jpg", "alpha.png")
    found = nunbit.predict(tmp_path / "r", [tmp_path / name for name in names])
    for said in found[1:]:
        assert said.label == found[0].label
        assert said.probability == pytest.approx(found[0].probability, abs=0.02)

    grey = image.convert("L")
    sixteen = grey.convert("I").point(lambda value: value * 257).convert("I;16")
    sixteen.save(tmp_path / "sixteen.png")
    grey.save(tmp_path / "grey.png")
    one, other = nunbit.predict(tmp_path / "r", [tmp_path / "sixteen.png", tmp_path / "grey.png"])
    assert one.top == other.top


def test_the_report_of_a_cifar10_run_is_small_and_soon_there(
    real_data: Path, tmp_path: Path
) -> None:
    """10,000 test pictures, whatever the network: one epoch of the smallest is enough."""
    finished = nunbit.train(
        "cifar10/alexnet", model="net", epochs=1, batch_size=500, run_dir=tmp_path / "r", quiet=True
    )
    assert (finished.train.n, finished.test.n) == (50_000, 10_000)
    start = time.perf_counter()
    page = write_report(finished)
    assert time.perf_counter() - start < 10
    assert page.stat().st_size < 5_000_000
    assert page.read_text().count("data:image/jpeg") > 300, "pictures behind the cells"
