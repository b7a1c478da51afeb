"""A few pictures a class: `nunbit finetune` beside a network trained from random weights.

    python benchmarks/few_shot.py flowers/ [--per-class 20] [--draws 5] [--epochs 100]

Every draw trains both on the same pictures and measures both on the same test pictures, which no
draw trains on. From random weights it is the recipe for photographs with more epochs, as so few
pictures make few updates. Prints a table, with the mean difference and its 95 % interval.
"""

import argparse
import shutil
import tempfile
from pathlib import Path
from statistics import mean, stdev

import numpy as np

import nunbit

TESTED = 100  # pictures a class
T_95 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 8: 2.365, 10: 2.262}  # Student's


def draw(data: Path, folder: Path, per_class: int, seed: int) -> Path:
    """Copy `per_class` pictures of each class into train/, and the same ones always into test/."""
    for class_folder in sorted(path for path in data.iterdir() if path.is_dir()):
        files = np.array(sorted(class_folder.glob("*.jpg")))
        files = files[np.random.default_rng(0).permutation(len(files))]
        rest = files[TESTED:]
        chosen = rest[np.random.default_rng(seed + 1).permutation(len(rest))[:per_class]]
        for part, pictures in (("train", chosen), ("test", files[:TESTED])):
            to = folder / part / class_folder.name
            to.mkdir(parents=True)
            for picture in pictures:
                shutil.copy(picture, to)
    return folder


def main() -> None:
    """Train both for each draw and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="a folder with one folder per class")
    parser.add_argument("--per-class", type=int, default=20)
    parser.add_argument("--draws", type=int, choices=T_95, default=5)
    parser.add_argument("--epochs", type=int, default=100, help="from random weights")
    given = parser.parse_args()
    print("| draw | finetune | from scratch | difference |\n| --- | --- | --- | --- |")
    rows = []
    for seed in range(given.draws):
        with tempfile.TemporaryDirectory() as folder:
            data = draw(given.data, Path(folder) / "data", given.per_class, seed)
            tuned = nunbit.finetune(
                data, strategy="head", run_dir=Path(folder) / "tuned", data__size=128, quiet=True
            )
            scratch = nunbit.train(
                "photos/cnn", data=data, run_dir=Path(folder) / "scratch", quiet=True,
                epochs=given.epochs,
            )  # fmt: skip
            rows.append((tuned.test.accuracy, scratch.test.accuracy))
        one, other = rows[-1]
        print(f"| {seed} | {one:.1%} | {other:.1%} | {100 * (one - other):+.1f} |", flush=True)
    differences = [100 * (one - other) for one, other in rows]
    half = T_95[len(rows)] * stdev(differences) / len(rows) ** 0.5
    one, other = (mean(column) for column in zip(*rows, strict=True))
    print(f"| mean | {one:.1%} | {other:.1%} | {mean(differences):+.1f} +- {half:.1f} |")


if __name__ == "__main__":
    main()
