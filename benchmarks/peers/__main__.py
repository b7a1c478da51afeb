"""The same network, data, batch size and epochs in nunbit and in five other libraries.

    make peers                       # once: the peers' environment, benchmarks/peers/.venv
    NUNBIT_DATA=path/to/data python benchmarks/peers [--workloads mnist-cnn] [--repeats 3]

Run it with nunbit's own interpreter, alone on the machine. First every variant of every peer is
tried on a part of the pictures; the fastest is the peer's. Then all sides train in turn, A B C
A B C, each in a process of its own, and one table with medians and ratios is printed. A peer that
is more than `SLOW` times slower than the fastest is measured once only. What is timed is said in
`task.py`.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

from prepare import WORKLOADS, Prepared, prepare
from runs import HERE, PEERS, Result, run_nunbit, run_peer
from table import header, rows, summary

from nunbit.errors import NunbitError

TRIAL_EPOCHS = 2  # the first one compiles
SLOW = 3.0


def main() -> None:
    """Measure and print the table."""
    words = _words()
    if not words.python.exists():
        sys.exit(f"{words.python} does not exist; make the peers' environment: make peers")
    repeats = 1 if words.quick else words.repeats
    results: list[Result] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for workload in words.workloads:
            try:
                work = prepare(workload, folder, quick=words.quick)
            except NunbitError as error:  # no data, most likely
                sys.exit(str(error))
            epochs = words.epochs or (2 if words.quick else WORKLOADS[workload].epochs)
            chosen = choose_variants(work, epochs, words)
            for repeat in range(repeats):
                run = folder / f"run-{workload}-{repeat}"
                note(results, run_nunbit(work, run, epochs=epochs, seed=repeat))
                for (peer, variant), is_slow in chosen.items():
                    if repeat == 0 or not is_slow:
                        again = {"epochs": epochs, "seed": repeat, "variant": variant}
                        note(results, run_peer(words.python, peer, work.task, **again))
    epochs_of = {result["workload"]: result["epochs"] for result in results}
    print(header(epochs_of, repeats), rows(results), summary(results), sep="\n\n")
    if words.out:
        words.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def choose_variants(
    work: Prepared, epochs: int, words: argparse.Namespace
) -> dict[tuple[str, str], bool]:
    """Return the variants of each peer that are measured, and whether the peer is a slow one.

    Those are the one with the quickest epoch and the one that would train quickest as a whole:
    where compilation takes longer than it saves, these are two. A variant that fails on this
    machine (no compiler, say) is named and left out.
    """
    trials: dict[tuple[str, str], tuple[float, float]] = {}
    for peer in words.peers:
        variants = [v for v in PEERS[peer] if not words.variants or v in words.variants]
        for variant in variants or PEERS[peer][:1]:
            trial = {"epochs": TRIAL_EPOCHS, "seed": 0, "variant": variant}
            try:
                result = run_peer(words.python, peer, work.trial, **trial)
            except RuntimeError as error:
                print(f"left out: {peer} {variant}: {error}", file=sys.stderr)
                continue
            once = result["seconds"] - TRIAL_EPOCHS * result["later_epoch"]  # such as compilation
            epoch = result["later_epoch"] / work.trial_share
            whole = once + epochs * epoch
            trials[peer, variant] = epoch, whole
            told = f"{epoch:.2f} s an epoch, about {whole:.1f} s for {epochs}"
            print(f"trial: {work.name} {peer} {variant}: {told}", file=sys.stderr, flush=True)
    chosen: dict[tuple[str, str], bool] = {}
    fastest = [min((t[i] for t in trials.values()), default=0.0) for i in (0, 1)]
    for peer in dict.fromkeys(peer for peer, _ in trials):
        own = {key: found for key, found in trials.items() if key[0] == peer}
        for i in (0, 1):
            key = min(own, key=lambda k: own[k][i])
            chosen[key] = all(own[key][j] > SLOW * fastest[j] for j in (0, 1))
    return chosen


def note(results: list[Result], result: Result) -> None:
    """Keep a result and show it."""
    results.append(result)
    print(json.dumps(result), file=sys.stderr, flush=True)


def _words() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workloads", nargs="+", choices=WORKLOADS, default=list(WORKLOADS))
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=list(PEERS))
    parser.add_argument("--variants", nargs="+", help="try only these, where a peer has them")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=0, help="0 takes each workload's own")
    parser.add_argument("--quick", action="store_true", help="640 pictures, once: only a test")
    parser.add_argument("--out", type=Path, help="also write all results to this JSON file")
    default = HERE / ".venv" / "bin" / "python"
    parser.add_argument("--python", type=Path, default=default, help="of the peers' environment")
    return parser.parse_args()


if __name__ == "__main__":
    main()
