"""Whole commands, from their start to the prompt: whether a budget is kept, and peak memory.

    NUNBIT_DATA=path/to/data python benchmarks/whole.py budget [--photos flowers/] [--repeats 3]
    NUNBIT_DATA=path/to/data python benchmarks/whole.py memory

`budget` gives each data set the same time and prints what the plan made of it. `memory` trains
recipes for CIFAR-10 for some updates and measures the test pictures: the largest resident set of
the process, beside twice the pixels plus 1 GiB. Pictures come from the cache from the second call
on, so call it twice.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from machine import describe_machine  # beside this file

RECIPES = ("birds/net", "cifar10/speed", "cifar10/alexnet", "cifar10/resnet18", "cifar10/best")
UPDATES = 12
BOUND = 2 * 60_000 * 32 * 32 * 3 + 2**30  # bytes: CIFAR-10 twice, and 1 GiB


@dataclass(frozen=True)
class Run:
    """What a command said and took."""

    result: dict[str, Any]
    config: dict[str, Any]
    wall_seconds: float
    peak_bytes: int


def main() -> None:
    """Run the commands and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("budget", "memory"))
    parser.add_argument("--budget", default="60s")
    parser.add_argument("--photos", type=Path, help="a folder of class folders, as a third set")
    parser.add_argument("--repeats", type=int, default=3)
    words = parser.parse_args()
    print(describe_machine())
    if words.what == "memory":
        _memory()
    else:
        data = ["cifar10", "mnist", *([str(words.photos)] if words.photos else [])]
        _budget(data, words.budget, words.repeats)


def _budget(sets: list[str], budget: str, repeats: int) -> None:
    print("| data | network and length | test | seconds |")
    print("| --- | --- | ---: | ---: |")
    for _ in range(repeats):  # by turns, as the machine's speed changes
        for data in sets:
            run = train("--data", data, "--budget", budget)
            plan, width = run.config["train"], run.config["model"]["args"].get("width")
            length = f"width {width}, {plan['max_steps']} updates of up to {plan['batch_size']}"
            test = f"{run.result['test']['accuracy']:.2%}"
            name = Path(data).name
            print(f"| {name} | {length} | {test} | {run.wall_seconds:.1f} |", flush=True)


def _memory() -> None:
    print(f"| recipe | batch | peak, GB (bound {BOUND / 1e9:.2f}) |")
    print("| --- | ---: | ---: |")
    for recipe in RECIPES:
        run = train(recipe, "--train.max_steps", str(UPDATES), "--eval.train_pictures", "256")
        batch = run.config["train"]["batch_size"]
        print(f"| `{recipe}` | {batch} | {run.peak_bytes / 1e9:.2f} |", flush=True)


def train(*words: str) -> Run:
    """Run `nunbit train` in a process of its own.

    Raises:
        RuntimeError: it failed; with what it said.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "run"
        command = [sys.executable, "-m", "nunbit", "train", *words, "--run-dir", str(folder)]
        start = time.perf_counter()
        process = subprocess.Popen(
            [*command, "--json", "--quiet"], stdout=subprocess.PIPE, text=True
        )
        out = process.stdout.read() if process.stdout else ""
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        if status:
            raise RuntimeError(
                f"{' '.join(command)} ended with {os.waitstatus_to_exitcode(status)}"
            )
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return Run(json.loads(out.splitlines()[-1]), config, seconds, usage.ru_maxrss * 1024)


if __name__ == "__main__":
    main()
