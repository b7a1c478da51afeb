"""Where and with what something was measured: the line above every table."""

import os
import subprocess
from pathlib import Path

from nunbit.runtime import versions


def describe_machine() -> str:
    """Return machine, cores, versions and commit in a line."""
    found = versions()
    git = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    commit = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
    cores = len(os.sched_getaffinity(0))
    return (
        f"{found['machine']}, {cores} cores; torch {found['torch']}, Python {found['python']}, "
        f"nunbit {found['nunbit']} at {commit or 'no commit'}\n"
    )
