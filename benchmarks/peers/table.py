"""From repeated results to one table in Markdown, with the ratios that the claim is about."""

import os
import statistics
import subprocess
from pathlib import Path

from runs import Result

from nunbit.runtime import versions

FIGURES = ("later_epoch", "seconds", "test_accuracy")


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

    The ratios are a peer's seconds over nunbit's: of an epoch after the first one (which holds
    compilation and whatever else is done once), and of the whole training.
    """
    lines = [
        "| workload | | versions | variant | epoch | training | test accuracy | ratio, epoch "
        "| ratio, training | runs |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for workload, (own, peers) in _by_workload(results).items():
        ordered = sorted(peers, key=lambda one: float(one["later_epoch"]))
        lines += [_row(workload, one, own) for one in ([own] if own else []) + ordered]
    return "\n".join(lines)


def summary(results: list[Result]) -> str:
    """Return nunbit against the fastest peer of each workload, and the geometric means."""
    lines = []
    for figure, name in (("later_epoch", "an epoch"), ("seconds", "the whole training")):
        ratios = {}
        for workload, (own, peers) in _by_workload(results).items():
            if own and peers:
                fastest = min(peers, key=lambda one: float(one[figure]))
                who = f"{workload} ({fastest['peer']} {fastest['variant']})"
                ratios[who] = fastest[figure] / own[figure]
        if ratios:
            named = ", ".join(f"{who} {ratio:.2f}" for who, ratio in ratios.items())
            mean = statistics.geometric_mean(ratios.values())
            lines.append(f"Fastest peer over nunbit, {name}: {named}; geometric mean {mean:.2f}.")
    return "\n".join(lines)


def _by_workload(results: list[Result]) -> dict[str, tuple[Result | None, list[Result]]]:
    """Return nunbit's medians and those of the peers' variants for each workload."""
    found: dict[str, tuple[Result | None, list[Result]]] = {}
    for workload in dict.fromkeys(result["workload"] for result in results):
        medians = _medians([r for r in results if r["workload"] == workload])
        own = next((one for one in medians if one["peer"] == "nunbit"), None)
        found[workload] = own, [one for one in medians if one is not own]
    return found


def _medians(results: list[Result]) -> list[Result]:
    """Return one result per peer and variant: the median of each figure."""
    found = []
    for who in dict.fromkeys((result["peer"], result["variant"]) for result in results):
        own = [r for r in results if (r["peer"], r["variant"]) == who]
        middle = {name: statistics.median(r[name] for r in own) for name in FIGURES}
        found.append({**own[0], **middle, "runs": len(own)})
    return found


def _row(workload: str, one: Result, own: Result | None) -> str:
    ratios = ["", ""] if own is None else [f"{one[n] / own[n]:.2f}" for n in FIGURES[:2]]
    cells = [
        workload,
        one["peer"],
        one["version"],
        one["variant"],
        f"{one['later_epoch']:.2f} s",
        f"{one['seconds']:.2f} s",
        f"{one['test_accuracy']:.4f}",
        *ratios,
        str(one["runs"]),
    ]
    return "| " + " | ".join(cells) + " |"
