"""The control groups of Linux, in which a container or a job may have less than the machine."""

import math
from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
OWN = Path("/proc/self/cgroup")


def groups_of(controller: str) -> Iterator[tuple[Path, int]]:
    """Yield the groups that this process is in, up to the root, and their version, 1 or 2.

    See cgroups(7): a line of /proc/self/cgroup is `0::/path`, or `4:memory:/path` of version 1.

    Args:
        controller: what is limited: memory or cpu.
    """
    try:
        lines = [line.split(":", 2) for line in OWN.read_text().splitlines()]
    except OSError:
        return
    for number, controllers, path in (line for line in lines if len(line) == 3):
        if number == "0":
            root, version = ROOT, 2
        elif controller in controllers.split(","):
            root, version = ROOT / controller, 1
        else:
            continue
        inner = root / path.strip("/")
        folders = (folder for folder in (inner, *inner.parents) if folder.is_relative_to(root))
        yield from ((folder, version) for folder in folders)


def cpu_quota() -> int | None:
    """Return how many cores the groups allow to keep busy, rounded up; None where all."""
    found = [_quota(folder, version) for folder, version in groups_of("cpu")]
    known = [quota for quota in found if quota is not None]
    return min(known, default=None)


def _quota(folder: Path, version: int) -> int | None:
    """Return the cores that one group allows: microseconds of computing in a period of time."""
    names = ("cpu.max",) if version == 2 else ("cpu.cfs_quota_us", "cpu.cfs_period_us")
    try:
        quota, period = map(int, " ".join((folder / name).read_text() for name in names).split())
    except (OSError, ValueError):  # no such file, or "max"
        return None
    return max(1, math.ceil(quota / period)) if quota > 0 and period > 0 else None
