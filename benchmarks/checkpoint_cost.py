"""What checkpoints cost: the same training with and without, side by side.

    python benchmarks/checkpoint_cost.py [--pairs 3]

Interleaved, in one process, on the embedded digits; the interval asked for is far shorter than the
default, and the checkpointer stretches it to its share of the time. On a noisy machine the ratio of
whole runs swings by more than checkpoints cost, so the time inside `save` is counted as well.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import nunbit
from nunbit.checkpoint import Checkpointer
from nunbit.runtime import versions

EPOCHS = 40


def seconds(every: str, folder: Path) -> float:
    """Train once and return the wall time from start to model file and report."""
    start = time.perf_counter()
    nunbit.train(epochs=EPOCHS, checkpoint_every=every, run_dir=folder, quiet=True)
    return time.perf_counter() - start


def share_of_saving(folder: Path) -> float:
    """Train once and return the time inside `Checkpointer.save` over the time of training."""
    save, spent = Checkpointer.save, [0.0]

    def timed(*words: Any) -> None:
        start = time.perf_counter()
        save(*words)
        spent[0] += time.perf_counter() - start

    Checkpointer.save = timed  # type: ignore[method-assign]
    try:
        finished = nunbit.train(epochs=EPOCHS, checkpoint_every="1s", run_dir=folder, quiet=True)
    finally:
        Checkpointer.save = save  # type: ignore[method-assign]
    return spent[0] / finished.seconds


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
        share = share_of_saving(Path(name, "share"))
    print(f"\nsaving took {share:.1%} of the training")
    print(f"median ratio {statistics.median(ratios):.3f}; {versions()}")


if __name__ == "__main__":
    main()
