"""Several small trainings side by side, or one after the other with all cores?

    NUNBIT_DATA=path/to/data python benchmarks/side_by_side.py [--epochs 2] [--repeats 3]

The same four trainings (birds/net and birds/width, two seeds) by `nunbit.compare`, with one job
that has all cores and with one job for each core; interleaved. Prints seconds and the ratio.
"""

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

import nunbit


def main() -> None:
    """Time both ways and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    words = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    print(f"| repeat | 1 at once, {cores} threads | {cores} at once, 1 thread | ratio |")
    print("| --- | --- | --- | --- |")
    ratios = []
    with tempfile.TemporaryDirectory() as folder:
        for repeat in range(1, words.repeats + 1):
            alone, beside = (
                seconds(Path(folder) / f"{repeat}-{jobs}", jobs, words.epochs)
                for jobs in (1, cores)
            )
            ratios.append(alone / beside)
            print(f"| {repeat} | {alone:.1f} s | {beside:.1f} s | {ratios[-1]:.2f} |", flush=True)
    print(f"\nmedian ratio {statistics.median(ratios):.2f}")


def seconds(folder: Path, jobs: int, epochs: int) -> float:
    """Return the wall time of a whole comparison: processes, reading, training, pages."""
    start = time.perf_counter()
    recipes = ["birds/net", "birds/width"]
    nunbit.compare(recipes, seeds=2, run_dir=folder, jobs=jobs, epochs=epochs, quiet=True)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
