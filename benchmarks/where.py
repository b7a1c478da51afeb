"""Where the time of an update goes, and how near the hardware's peak it comes.

    NUNBIT_DATA=path/to/data python benchmarks/where.py [--networks cifar10/resnet18,...]

The share of convolutions and matrix products in the operators' own time, and the rest by kind, from
PyTorch's profiler over a few updates of nunbit's loop; FLOP/s of whole updates, counted by
PyTorch's counter (a multiplication and an addition are two), against the fastest convolution of
this machine: 3x3, 256 channels, forward and backward, NHWC, in the same precision.
"""

import argparse
import time
from itertools import islice

import torch
from engine import PICTURES, prepare  # beside this file
from machine import describe_machine
from torch import nn
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from nunbit.data.loader import TrainLoader
from nunbit.runtime import Runtime, limited_threads
from nunbit.training.optim import build_optimizer
from nunbit.training.state import TrainState
from nunbit.training.step import Plan, train_step

UPDATES = 6
PRODUCTS = ("convolution", "aten::mm", "aten::addmm", "aten::bmm", "aten::linear")
KINDS = {
    "norms": ("batch_norm", "layer_norm"),
    "pooling": ("pool",),
    "activations": ("relu", "threshold", "gelu", "tanh", "clamp_min", "silu", "sigmoid"),
}
OPTIMIZER = "Optimizer.step"  # all that is called inside, products of matrices too
COLUMNS = ("products", *KINDS, "optimizer", "other")


def main() -> None:
    """Profile every network and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", default=",".join([*PICTURES, "cifar10/speed"]))
    words = parser.parse_args()
    print(describe_machine())
    print(f"| recipe | precision | {' | '.join(COLUMNS)} | GFLOP/s | of the peak |")
    print("| --- | --- |" + " ---: |" * 8)
    for name in words.networks.split(","):
        print(row(name), flush=True)


def row(name: str) -> str:
    """Profile one network."""
    model, loader, runtime = prepare(name, 2_000)
    config = loader.config
    state = TrainState(model.train(), build_optimizer(model, config.optim))
    plan = Plan(config, runtime, 1000)
    with limited_threads(runtime.threads):
        _update(state, loader, plan)
        with FlopCounterMode(display=False) as counter:
            _update(state, loader, plan, 1)
        start = time.perf_counter()
        _update(state, loader, plan)
        seconds = (time.perf_counter() - start) / UPDATES
        with profile(activities=[ProfilerActivity.CPU]) as profiler:
            _update(state, loader, plan)
        rate = counter.get_total_flops() / seconds
        share = rate / peak(runtime)
    own = dict.fromkeys(COLUMNS, 0.0)
    for event in profiler.events():
        own[_kind(event)] += event.self_cpu_time_total
    shares = " | ".join(f"{own[kind] / sum(own.values()):.0%}" for kind in COLUMNS)
    return f"| {name} | {runtime.precision} | {shares} | {rate / 1e9:,.0f} | {share:.0%} |"


def _update(state: TrainState, loader: TrainLoader, plan: Plan, updates: int = UPDATES) -> None:
    for x, y in islice(loader.batches(0), updates):
        train_step(state, x, y, plan)


def _kind(event: FunctionEvent) -> str:
    """Return what an operator's own time is spent on: the nearest call around it that says so."""
    names, around = [event.name], event.cpu_parent
    while around is not None:
        names.append(around.name)
        around = around.cpu_parent
    if any(name.startswith(OPTIMIZER) for name in names):
        return "optimizer"
    if any(word in event.name for word in PRODUCTS):
        return "products"
    found = (kind for name in names for kind, words in KINDS.items()
             if any(word in name.lower() for word in words))  # fmt: skip  # a line for each clause
    return next(found, "other")


def peak(runtime: Runtime) -> float:
    """Return the FLOP/s of a large convolution, forward and backward."""
    conv = nn.Conv2d(256, 256, 3, padding=1).to(memory_format=torch.channels_last)
    x = torch.randn(64, 256, 16, 16).to(memory_format=torch.channels_last)
    dtype = torch.bfloat16 if runtime.precision == "bf16" else torch.float32
    conv, x = conv.to(dtype), x.to(dtype).requires_grad_()
    out_gradient = torch.ones_like(conv(x))
    seconds = []
    for _ in range(6):
        start = time.perf_counter()
        torch.autograd.grad(conv(x), [x, *conv.parameters()], out_gradient)
        seconds.append(time.perf_counter() - start)
    return 3 * 2 * 256 * 256 * 9 * 16 * 16 * 64 / min(seconds)


if __name__ == "__main__":
    main()
