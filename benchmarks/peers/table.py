"""From repeated results to one table in Markdown, with the ratios that the claim is about."""

import os
import statistics
import subprocess
from pathlib import Path

from runs import Result

from nunbit.runtime import versions

FIGURES = ("seconds", "later_epoch", "test_accuracy")


def header(epochs: dict[str, int], repeats: int) -> str:
    """Return the lines above the table: machine, commit, and what was done.

    Args:
        epochs: by workload.
        repeats: of each training.
    """
    found = versions()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    lengths = ", ".join(f"{name} {count}" for name, count in epochs.items())
    return (
        f"{found['machine']}, {cores} cores; Python {found['python']}; commit {_commit()}\n\n"
        f"Epochs: {lengths}. Interleaved, medians of {repeats}."
    )


def _commit() -> str:
    """Return the commit of the sources that were measured, and whether they were changed."""
    here = Path(__file__).parent

    def git(*words: str) -> str:
        done = subprocess.run(
            ["git", *words], cwd=here, capture_output=True, text=True, check=False
        )
        return done.stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no")
    return (git("rev-parse", "--short=12", "HEAD") or "unknown") + (" (changed)" if changed else "")


def rows(results: list[Result]) -> str:
    """Return the table: for each workload nunbit first, then the peers from the fastest on.

    The ratio is a peer's seconds over nunbit's, of the whole training and of an epoch after the
    first one (which holds compilation and whatever else is done once).
    """
    lines = [
        "| workload | | versions | variant | training | later epoch | test accuracy | ratio "
        "| ratio, later epochs | runs |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for workload in dict.fromkeys(result["workload"] for result in results):
        medians = _medians([r for r in results if r["workload"] == workload])
        own = medians.get("nunbit")
        ordered = sorted(medians, key=lambda who: (who != "nunbit", medians[who]["seconds"]))
        lines += [_row(workload, medians[who], own) for who in ordered]
    return "\n".join(lines)


def summary(results: list[Result]) -> str:
    """Return nunbit against the fastest peer of each workload, and the geometric mean."""
    ratios = {}
    for workload in dict.fromkeys(result["workload"] for result in results):
        medians = _medians([r for r in results if r["workload"] == workload])
        own = medians.pop("nunbit", None)
        if own is not None and medians:
            fastest = min(medians.values(), key=lambda one: one["seconds"])
            ratios[f"{workload} ({fastest['peer']})"] = fastest["seconds"] / own["seconds"]
    if not ratios:
        return "Nothing to compare: nunbit or all peers were left out."
    named = ", ".join(f"{name} {ratio:.2f}" for name, ratio in ratios.items())
    mean = statistics.geometric_mean(ratios.values())
    return f"Fastest peer over nunbit: {named}; geometric mean {mean:.2f}."


def _medians(results: list[Result]) -> dict[str, Result]:
    """Return one result per peer: the median of each figure."""
    found = {}
    for who in dict.fromkeys(result["peer"] for result in results):
        own = [result for result in results if result["peer"] == who]
        middle = {name: statistics.median(r[name] for r in own) for name in FIGURES}
        found[who] = {**own[0], **middle, "runs": len(own)}
    return found


def _row(workload: str, one: Result, own: Result | None) -> str:
    ratios = ["", ""] if own is None else [f"{one[n] / own[n]:.2f}" for n in FIGURES[:2]]
    cells = [
        workload,
        one["peer"],
        one["version"],
        one["variant"],
        f"{one['seconds']:.2f} s",
        f"{one['later_epoch']:.2f} s",
        f"{one['test_accuracy']:.4f}",
        *ratios,
        str(one["runs"]),
    ]
    return "| " + " | ".join(cells) + " |"
