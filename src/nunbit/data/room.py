"""How much fits: memory that can be had, and the part of the disk that the cache may take."""

import os
import shutil
from pathlib import Path

from nunbit.cgroups import groups_of
from nunbit.errors import UsageError

CACHE_BYTES = 10_000_000_000  # of decoded pictures, unless NUNBIT_CACHE_GB says otherwise
SHARE_OF_FREE_DISK = 0.2
# Of a control group's limit, of what is used of it, and of what of that can be had again.
NAMES = {
    1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    2: ("memory.max", "memory.current", "inactive_file"),
}


def free_memory() -> int:
    """Return the bytes of memory that can be had without swapping.

    A container or a job may have less than the machine; what its page cache holds can be had again.
    """
    found = [_lines(Path("/proc/meminfo")).get("MemAvailable:", 0) * 1024]
    for folder, version in groups_of("memory"):
        most, used, cached = NAMES[version]
        limit = _number(folder / most)
        if limit is not None:
            again = _lines(folder / "memory.stat").get(cached, 0)
            found.append(limit - (_number(folder / used) or 0) + again)
    known = [size for size in found if size > 0]
    # Elsewhere than on Linux only the size of the memory is known, and half of it is a guess.
    return min(known) if known else os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


def cache_limit(folder: Path, used: int) -> int:
    """Return the bytes that decoded pictures may take on the disk.

    10 GB, but never more than a fifth of the space that would be free without them.
    NUNBIT_CACHE_GB sets it, and 0 keeps nothing.

    Args:
        folder: exists, on the disk in question.
        used: bytes that decoded pictures take there now.

    Raises:
        UsageError: NUNBIT_CACHE_GB is no such number.
    """
    asked = asked_limit()
    if asked is not None:
        return asked
    free = shutil.disk_usage(folder).free + used
    return min(CACHE_BYTES, int(SHARE_OF_FREE_DISK * free))


def asked_limit() -> int | None:
    """Return NUNBIT_CACHE_GB in bytes, None where it is not set.

    Raises:
        UsageError: it is no size.
    """
    text = os.environ.get("NUNBIT_CACHE_GB", "")
    try:
        size = float(text or -1)
    except ValueError:
        size = float("nan")
    if text and not 0 <= size < float("inf"):
        raise UsageError("NUNBIT_CACHE_GB is {text}; allowed: 0 or more gigabytes", text=text)
    return int(size * 1e9) if text else None


def _lines(path: Path) -> dict[str, int]:
    """Return the first number behind the first word of each line."""
    try:
        words = [line.split() for line in path.read_text().splitlines()]
    except OSError:
        return {}
    return {w[0]: int(w[1]) for w in words if len(w) > 1 and w[1].isdigit()}


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):  # "max": no limit
        return None
