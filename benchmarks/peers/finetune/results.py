"""From the results of all recipes to one table in Markdown."""

import os
import statistics
import subprocess
from pathlib import Path
from typing import Any

from nunbit.metrics import wilson_interval
from nunbit.runtime import versions

Result = dict[str, Any]
FIGURES = ("wall", "seconds", "test_accuracy")


def header(size: int, repeats: int) -> str:
    """Return the lines above the table: machine, versions, commit, and what was done."""
    found = versions()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    words = ["git", "rev-parse", "--short=12", "HEAD"]
    here = Path(__file__).parent
    git = subprocess.run(words, cwd=here, capture_output=True, text=True, check=False)
    return (
        f"{found['machine']}, {cores} cores; Python {found['python']}, torch {found['torch']}; "
        f"commit {git.stdout.strip() or 'unknown'}\n\n"
        f"Recipes at {size} pixels; nunbit chooses its own. Medians of {repeats}."
    )


def table(results: list[Result]) -> str:
    """Return the table: nunbit's runs, then the recipes from the quickest on.

    "nunbit as accurate after" is the wall time of nunbit's quickest run whose accuracy is not
    below the recipe's, and that over the recipe's wall time.
    """
    medians = [_median(name, results) for name in dict.fromkeys(r["name"] for r in results)]
    own = [one for one in medians if one["recipe"] == "nunbit finetune"]
    others = sorted((one for one in medians if one not in own), key=lambda one: float(one["wall"]))
    lines = [
        "| recipe | version | epochs | test accuracy (95 % interval) | whole process "
        "| of it training | nunbit as accurate after | ratio |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    return "\n".join([*lines, *(_row(one, []) for one in own), *(_row(one, own) for one in others)])


def _median(name: str, results: list[Result]) -> Result:
    """Return one result with the median of each figure of a name."""
    named = [result for result in results if result["name"] == name]
    return {**named[0], **{f: statistics.median(one[f] for one in named) for f in FIGURES}}


def _row(one: Result, own: list[Result]) -> str:
    low, high = wilson_interval(round(one["test_accuracy"] * one["n"]), one["n"])
    as_good = [run for run in own if run["test_accuracy"] >= one["test_accuracy"]]
    after, ratio = "", ""
    if as_good:
        quickest = min(float(run["wall"]) for run in as_good)
        after, ratio = f"{quickest:.0f} s", f"{quickest / one['wall']:.2f}"
    elif own:
        after = "not reached"
    cells = [
        f"{one['name']} ({one['variant']})",
        one["version"],
        str(one["epochs"]),
        f"{one['test_accuracy']:.1%} ({low:.1%} to {high:.1%})",
        f"{one['wall']:.0f} s",
        f"{one['seconds']:.0f} s",
        after,
        ratio,
    ]
    return "| " + " | ".join(cells) + " |"
