"""Run campaigns: `python -m torture [NAME...] [--deep] [--write FILE]`, from the tests folder."""

import argparse
import datetime
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from nunbit.runtime import versions

from .campaigns import CAMPAIGNS
from .harness import Report, warm_up


def main() -> int:
    """Run the named campaigns, print a table, and fail if anything was lost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", choices=[[], *CAMPAIGNS], default=[])
    parser.add_argument("--deep", action="store_true", help="every case and not a sample")
    parser.add_argument("--write", type=Path, help="write the table into this file as Markdown")
    words = parser.parse_args()
    reports = []
    for name in words.names or CAMPAIGNS:
        with tempfile.TemporaryDirectory() as folder:
            warm_up(Path(folder))
            start = time.monotonic()
            report = CAMPAIGNS[name](Path(folder), words.deep)
            report.seconds = time.monotonic() - start
        reports.append(report)
        print(_row(report), flush=True)
        for failure in report.failures[:10]:
            print(f"    {failure}", flush=True)
    if words.write:
        words.write.write_text(_page(reports))
    return int(any(report.failures for report in reports))


def _row(report: Report) -> str:
    kept = report.cases - len(report.failures)
    return f"| {report.name} | {report.cases} | {kept} | {report.seconds:.0f} s |"


def _commit() -> str:
    words = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def _page(reports: list[Report]) -> str:
    facts = versions()
    day = datetime.datetime.now(datetime.UTC).date().isoformat()
    lines = [
        "# What nunbit survives",
        "",
        "Made by `make torture`; do not edit. The cases are those of `tests/torture/campaigns.py`.",
        "A case passes when the run ends with weights, optimizer state and metrics log that equal,",
        "bit for bit, those of a run that nothing happened to (a damaged file: when it is refused,",
        "and nothing of it is used).",
        "",
        f"{day}, commit {_commit()}; nunbit {facts['nunbit']}, torch {facts['torch']},",
        f"Python {facts['python']}; {facts['machine']}.",
        "",
        "| fault | cases | passed | time |",
        "| --- | --- | --- | --- |",
        *[_row(report) for report in reports],
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
