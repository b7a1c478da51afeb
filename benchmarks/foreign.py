"""Which pictures of other sets a fine-tuned classifier calls foreign, and which of its own.

    python benchmarks/foreign.py flowers/                     digits, MNIST and CIFAR-10
    python benchmarks/foreign.py flowers/ --left-out tulip    a class that it was not shown

The classifier is that of `nunbit finetune`. The first figures are those of the model as it is
shipped, with a limit from validation; the others set it so that 95 % of the test pictures pass.
"""

import argparse
import csv
import tempfile
from pathlib import Path

import numpy as np
from torch import Tensor

import nunbit
from nunbit.bundle import Classifier
from nunbit.data.pictures import Pictures
from nunbit.data.pixels import load
from nunbit.data.rows import Images
from nunbit.data.sources import open_source

PASSED = 0.95
OTHERS = ("digits", "mnist", "cifar10")


def spread(pictures: Pictures, count: int) -> Pictures:
    """Return `count` pictures from all over a set."""
    at = np.linspace(0, len(pictures) - 1, min(count, len(pictures))).round().astype(int)
    return pictures.select(at)


def distances(classifier: Classifier, images: Images) -> Tensor:
    """Return how far pictures, uint8 (N, H, W, C), are from those of the training, (N,)."""
    assert classifier.decision is not None
    outputs, _ = classifier.outputs(images, batch_size=32)
    return classifier.decision.familiar.distances(outputs.stages)


def pictures_of(classifier: Classifier, source: str, count: int, only: str = "") -> Images:
    """Return pictures of a set as the classifier takes them, uint8 (N, H, W, C)."""
    opened = open_source(source)
    part = next(opened.parts[name] for name in ("test", "all", "train") if name in opened.parts)
    if only:
        part = part.select(np.flatnonzero(part.labels == opened.class_names.index(only)))
    chosen = spread(part, count)
    return load(chosen, classifier.preprocess, 1, lambda items, *_: iter(items)).images.images


def without(source: str, left_out: str, file: Path) -> Path:
    """Write a table of all pictures but those of one class."""
    with file.open("w", newline="", encoding="utf-8") as table:
        writer = csv.writer(table)
        writer.writerow(("path", "label"))
        opened = open_source(source)
        for part in opened.parts.values():
            for item, label in zip(part.items, part.labels.tolist(), strict=True):
                if opened.class_names[label] != left_out:
                    writer.writerow((Path(str(item)).resolve(), opened.class_names[label]))
    return file


def main() -> None:
    """Fine-tune, measure, print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", help="a folder with one folder per class")
    parser.add_argument("--left-out", default="", help="a class to train without, and to measure")
    parser.add_argument("--count", type=int, default=500, help="pictures of each other set")
    parser.add_argument("--size", type=int, default=128, help="pixels")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = given.data
        if given.left_out:
            data = str(without(given.data, given.left_out, Path(folder) / "rest.csv"))
        run = nunbit.finetune(
            data, run_dir=Path(folder) / "run", strategy="head", budget="1h", data__size=given.size
        )
        classifier, decision = run.classifier, run.classifier.decision
        assert decision is not None
        test = distances(classifier, run.dataset.test.images)
        loose = float(test.quantile(PASSED))
        limit = decision.familiar.limit
        print(f"{'pictures':>20}      n   foreign   foreign where {PASSED:.0%} of the test pass")
        sets = {"test": test}
        wanted = [(name, "") for name in OTHERS]
        if given.left_out:
            wanted.append((given.data, given.left_out))
        for source, only in wanted:
            images = pictures_of(classifier, source, given.count, only)
            sets[only or source] = distances(classifier, images)
        for name, found in sets.items():
            shares = [float((found > at).float().mean()) for at in (limit, loose)]
            print(f"{name:>20} {len(found):6,}   {shares[0]:7.1%}   {shares[1]:7.1%}", flush=True)


if __name__ == "__main__":
    main()
