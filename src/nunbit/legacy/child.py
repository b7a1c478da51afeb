"""The process that unpickles: `python -m nunbit.legacy.child SOURCE TARGET`, with limits.

Reads a checked state dict with torch's restricted reader and writes its tensors as safetensors. It
ends with 0, or with 65 and the reason on standard output.
"""

import os
import resource
import sys
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from nunbit.language import tr
from nunbit.legacy.archive import SAVE_AGAIN, RefusedError

REFUSED = 65
CPU_SECONDS = 120
SPARE_BYTES = 256 << 20
SHARED_BYTES = 512 << 20  # the texts' 100 blocks are one block: 13 times the size of its file
WRAPPERS = ("state_dict", "model_state_dict", "model")
PREFIXES = ("module.", "_orig_mod.")  # of DataParallel, and of torch.compile
FORBIDDEN_EVENTS = (
    "ctypes.", "os.exec", "os.fork", "os.link", "os.posix_spawn", "os.remove", "os.rename",
    "os.spawn", "os.symlink", "os.system", "socket.", "subprocess.",
)  # fmt: skip  # a list of words


def main(source: Path, target: Path) -> int:
    """Convert one file and return the exit code."""
    size = source.stat().st_size
    torch.set_num_threads(1)
    _limit(size)
    try:
        tensors = read_state_dict(source)
        safetensors.torch.save_file(tensors, target)
    except RefusedError as error:
        sys.stdout.write("".join(c if c.isprintable() else "?" for c in str(error))[:400])
        return REFUSED
    return 0


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a state dict by name, contiguous, none sharing memory.

    Raises:
        RefusedError: not a dictionary of plain tensors, or not readable within the limits.
    """
    try:
        body = torch.load(path, map_location="cpu", weights_only=True, mmap=False)
    except Exception as error:  # a damaged pickle raises anything
        reason = str(error).split("\n")[0][:120]
        raise RefusedError(
            "torch cannot read it as plain weights ({reason})", reason=reason
        ) from error
    tensors = _unwrapped(body)
    _check_tensors(tensors, path.stat().st_size)
    return {name: t.detach().contiguous().clone() for name, t in _bare_names(tensors).items()}


def _unwrapped(body: Any) -> dict[str, Any]:
    """Return the dictionary of tensors that a training's file holds beside other things."""
    if isinstance(body, dict):
        inner = next((body[key] for key in WRAPPERS if isinstance(body.get(key), dict)), body)
        if inner and all(isinstance(name, str) for name in inner):
            return dict(inner)
    raise RefusedError(
        "it holds no dictionary of names and tensors; {advice}", advice=tr(SAVE_AGAIN)
    )


def _check_tensors(tensors: dict[str, Any], size: int) -> None:
    """Refuse what is no dense tensor, and sizes that a file of `size` bytes cannot hold."""
    total = 0
    for name, tensor in tensors.items():
        label = repr(name[:80])
        if not isinstance(tensor, Tensor):
            kind = type(tensor).__name__
            raise RefusedError(
                "{label} is of type {kind}, not a tensor; {advice}",
                label=label,
                kind=kind,
                advice=tr(SAVE_AGAIN),
            )
        is_plain = tensor.layout is torch.strided and not tensor.is_quantized
        if not is_plain or tensor.is_complex() or tensor.device.type != "cpu":
            raise RefusedError(
                "{label} is {layout} {dtype}; allowed: dense numbers",
                label=label,
                layout=tensor.layout,
                dtype=tensor.dtype,
            )
        total += tensor.numel() * tensor.itemsize
        if tensor.numel() * tensor.itemsize > size:
            raise RefusedError(
                "{label} claims {numel:,} numbers; the file has fewer",
                label=label,
                numel=tensor.numel(),
            )
    if total > max(4 * size, SHARED_BYTES):
        raise RefusedError("its tensors share their memory too often")


def _bare_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Take off the prefixes that wrappers put before every name."""
    for prefix in 2 * PREFIXES:  # one may lie in the other
        if all(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    return tensors


def _limit(size: int) -> None:
    """Bound what the rest of this process may use; torch itself is loaded already.

    Memory is counted from what torch took (0.7 GB of data and 3 GB of addresses for 2.14 with
    CUDA; other builds differ): the file, its tensors apart, and their copies while writing.
    """
    tensors = max(4 * size, SHARED_BYTES)
    more = size + 2 * tensors + SPARE_BYTES
    limits = {resource.RLIMIT_CPU: CPU_SECONDS, resource.RLIMIT_FSIZE: tensors + SPARE_BYTES}
    used = _used_bytes()
    if used is not None:  # systems without /proc
        limits |= {resource.RLIMIT_DATA: used["VmData"] + more}
        limits |= {resource.RLIMIT_AS: used["VmSize"] + more}
    for limit, most in limits.items():
        _, hard = resource.getrlimit(limit)
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(limit, (most, most))
    sys.addaudithook(_forbid)


def _used_bytes() -> dict[str, int] | None:
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    rows = (line.split() for line in lines if line.startswith(("VmData", "VmSize")))
    return {row[0].rstrip(":"): int(row[1]) * 1024 for row in rows}


def _forbid(event: str, _arguments: tuple[object, ...]) -> None:
    """End the process before it starts another, opens a connection or touches other files."""
    if event.startswith(FORBIDDEN_EVENTS):
        os._exit(1)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
