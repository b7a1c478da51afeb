"""Where and how a run computes: device, precision, threads, seeds, versions.

Randomness is stateless: every random number is a function of a seed and of what it is for. Nothing
has to be saved to go on after a stop, and nothing depends on how much was computed before.
"""

import ctypes
import functools
import hashlib
import os
import platform
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch

from nunbit.cgroups import cpu_quota
from nunbit.config import TrainConfig
from nunbit.errors import UsageError
from nunbit.language import tr, trn

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
LARGEST_THRESHOLD = 32 * 2**20  # bytes; glibc takes no more where pointers have 64 bits
LARGEST_INT = 2**31 - 1  # bytes free at the end of the heap before any goes back; mallopt's type
_limits: list[int] = []  # what the blocks of `limited_threads` found that are open now
_limits_lock = threading.Lock()


@dataclass(frozen=True)
class Runtime:
    """The machine as one run uses it."""

    device: torch.device
    precision: Literal["fp32", "bf16"]
    threads: int

    def autocast(self) -> torch.autocast:
        """Return the context in which forward passes run."""
        enabled = self.precision == "bf16"
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=enabled)

    def describe(self) -> str:
        """Return the machine in a few words for the header of a run."""
        if self.device.type != "cpu":
            place = f"{self.device}, NHWC"
        else:
            name = _bf16_instructions() if self.precision == "bf16" else ""
            threads = trn("{count} thread", "{count} threads", self.threads)
            place = f"{name or 'cpu'}, NHWC, {threads}"
        return tr("{precision} on {place}", precision=self.precision, place=place)


def choose_runtime(config: TrainConfig) -> Runtime:
    """Choose the device, precision and threads that the settings leave to the machine.

    An automatic precision is fp32 here; whether bf16 is faster depends on the network, and
    `nunbit.training.tempo` measures it.

    Raises:
        UsageError: a device that this machine or torch build does not have.
    """
    device = _device(config.device)
    precision = "fp32" if config.precision == "auto" else config.precision
    return Runtime(device, precision, config.threads or _usable_cores())


def runtime_of(card: Mapping[str, Any]) -> Runtime:
    """Return how to use a model with this card: as in training, where the hardware can.

    Its results then agree with those that were measured at the end of its training.
    """
    runtime = choose_runtime(TrainConfig(precision="fp32"))
    config = card.get("config")
    train = config.get("train") if isinstance(config, dict) else None  # a stranger may have made it
    is_short = isinstance(train, dict) and train.get("precision") == "bf16"
    is_short = is_short and multiplies_bf16(runtime.device)
    return replace(runtime, precision="bf16") if is_short else runtime


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        if device.type not in ("cpu", "cuda"):
            raise RuntimeError(tr("allowed: auto, cpu, cuda, cuda:N"))
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:  # torch asserts where it is built without CUDA
        reason = str(error).splitlines()[0]
        raise UsageError(
            "train.device is '{name}', which cannot be used: {reason}", name=name, reason=reason
        ) from None
    return device


def _usable_cores() -> int:
    """Return the cores that this process may use; macOS does not tell, so there it is all.

    A container that may use two cores' time sees all of the machine's; more threads than it may
    keep busy would wait for each other.
    """
    is_known = hasattr(os, "sched_getaffinity")
    cores = len(os.sched_getaffinity(0)) if is_known else os.cpu_count() or 1
    return min(cores, cpu_quota() or cores)


def multiplies_bf16(device: torch.device) -> bool:
    """Return whether the hardware has instructions for bf16, so that it may be faster than fp32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(_bf16_instructions())


def _bf16_instructions() -> str:
    """Return the name of the CPU's instructions for bf16; empty where it has none."""
    # Neither question is public in torch 2.6 to 2.14; a build that lacks them gets fp32.
    for name, question in (
        ("AMX", "_is_amx_tile_supported"),
        ("AVX512-BF16", "_is_avx512_bf16_supported"),
    ):
        ask = getattr(torch.cpu, question, None)
        if ask is not None and ask():
            return name
    return ""


@functools.cache
def keep_freed_memory() -> None:
    """Let this process keep the memory of tensors that are gone, for those that follow.

    By itself glibc gives large blocks back to the system, which clears every page anew for the next
    update: a sixth of the time of `cifar10/speed` in batches of 500. Blocks above the threshold go
    back all the same: kept as well, they could take three times their memory (docs/log.md). Where
    there is no glibc nothing happens. The two options are those of mallopt(3).
    """
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    mallopt = getattr(libc, "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, LARGEST_THRESHOLD)
        mallopt(M_TRIM_THRESHOLD, LARGEST_INT)


@contextmanager
def limited_threads(threads: int) -> Iterator[None]:
    """Compute with `threads` CPU threads inside the block, then as before.

    The number is part of what makes a run repeatable: sums over 1 and over 2 threads round apart.
    Blocks of several threads overlap, and what one finds may be another's: the last that is left
    brings back what the first one found.
    """
    keep_freed_memory()  # here and not before: what reading has freed goes back to the system
    before = torch.get_num_threads()
    with _limits_lock:
        _limits.append(before)
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        with _limits_lock:
            first = _limits[0]
            _limits.pop()  # any: they are counted, and only the first is asked for
            torch.set_num_threads(before if _limits else first)


def derive_seed(*parts: int | str) -> int:
    """Return a 63-bit seed that is a function of the parts: (seed, "order", epoch)."""
    text = "\0".join(str(part) for part in parts).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest()) >> 1


@contextmanager
def seeded(*parts: int | str) -> Iterator[None]:
    """Run a block whose torch random numbers are a function of the parts.

    The caller's own random state is untouched: initialising a network must not move it.
    """
    seed, generators = derive_seed(*parts), [torch.default_generator]
    if torch.cuda.is_available():
        torch.cuda.init()  # before it there are none
        generators += torch.cuda.default_generators
    states = [generator.get_state() for generator in generators]
    # Not torch.manual_seed: for a GPU that may be used later it writes down the call stack, which
    # takes as long as several operations of a small network.
    for generator in generators:
        generator.manual_seed(seed)
    try:
        yield
    finally:
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(state)


def versions() -> dict[str, str]:
    """Return the versions that a result may depend on."""
    from nunbit import __version__

    return {
        "nunbit": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {_cpu_name()}",
    }


def _cpu_name() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model n"))
            return next((n for n in names if not n.isdigit()), "unknown CPU")
    except OSError:
        return platform.processor() or "unknown CPU"
