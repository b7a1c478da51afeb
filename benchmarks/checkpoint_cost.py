"""What checkpoints cost: the same training with and without, side by side.

    python benchmarks/checkpoint_cost.py [--pairs 3]

Interleaved, in one process, on the embedded digits; the interval asked for is far shorter than the
default, and the checkpointer stretches it to its share of the time.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import nunbit
from nunbit.runtime import versions

EPOCHS = 40


def seconds(every: str, folder: Path) -> float:
    """Train once and return the wall time from start to model file and report."""
    start = time.perf_counter()
    nunbit.train(epochs=EPOCHS, checkpoint_every=every, run_dir=folder, quiet=True)
    return time.perf_counter() - start


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=3)
    words = parser.parse_args()
    ratios = []
    with tempfile.TemporaryDirectory() as name:
        seconds("off", Path(name, "warm-up"))
        print("| pair | without | with (1s asked) | ratio |\n| --- | --- | --- | --- |")
        for pair in range(words.pairs):
            without = seconds("off", Path(name, f"off{pair}"))
            with_them = seconds("1s", Path(name, f"on{pair}"))
            ratios.append(with_them / without)
            print(f"| {pair + 1} | {without:.2f} s | {with_them:.2f} s | {ratios[-1]:.3f} |")
    print(f"\nmedian ratio {statistics.median(ratios):.3f}; {versions()}")


if __name__ == "__main__":
    main()
