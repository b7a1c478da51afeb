"""Pictures per second of a finished network, for one picture at a time and for 256.

    python benchmarks/inference.py [--seconds 2] [--networks net,resnet18,...]

nunbit (`Classifier.logits`, from bytes to logits: normalising, NHWC, in fp32 and, where the
hardware has it, bf16) against the same network as plain PyTorch in eager mode (fp32, NCHW), through
torch.compile, and through ONNX Runtime, where that is installed. The others get normalised floats,
which spares them the step from bytes. In turns, all cores, medians of five rounds.
"""

import argparse
import copy
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from machine import describe_machine  # beside this file
from torch import Tensor, nn

from nunbit.bundle import Classifier
from nunbit.config import TrainConfig
from nunbit.data.preprocess import Preprocess
from nunbit.models.registry import build_model
from nunbit.runtime import choose_runtime, limited_threads, multiplies_bf16

NETWORKS = ("net", "cnn", "speednet", "alexnet-small", "resnet18")
BATCHES = (1, 256)
ROUNDS = 5
PREPROCESS = Preprocess(
    height=32, width=32, channels=3, resize="crop", mean=(0.5,) * 3, std=(0.25,) * 3
)
WAYS = ("nunbit, fp32", "nunbit, bf16", "torch.compile", "ONNX Runtime")
HAS_ONNX = all(find_spec(name) for name in ("onnxruntime", "onnxscript"))
Way = Callable[[], object]


def main() -> None:
    """Time all networks all ways and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each way, in all rounds")
    parser.add_argument("--networks", default=",".join(NETWORKS))
    words = parser.parse_args()
    print(describe_machine())
    print(f"| network | pictures at once | eager, pictures/s | {' | '.join(WAYS)} |")
    print("| --- | ---: | ---: |" + " ---: |" * len(WAYS))
    for name in words.networks.split(","):
        model = build_model(name, num_classes=10, in_channels=3, image_size=(32, 32)).eval()
        for batch in BATCHES:
            rates = time_all(ways(model, batch), batch, words.seconds)
            factors = (
                f"{rates[way] / rates['eager']:.2f}" if way in rates else "-" for way in WAYS
            )
            print(
                f"| {name} | {batch} | {rates['eager']:,.0f} | {' | '.join(factors)} |", flush=True
            )
    if not HAS_ONNX:
        print("\nleft out: ONNX Runtime (pip install 'nunbit[onnx]')")


def ways(model: nn.Module, batch: int) -> dict[str, Way]:
    """Return each way to classify the same batch."""
    images = torch.randint(0, 256, (batch, 32, 32, 3), dtype=torch.uint8)
    x = PREPROCESS.normalize(images).contiguous()
    runtime = choose_runtime(TrainConfig())
    found: dict[str, Way] = {"eager": _no_grad(copy.deepcopy(model), x)}
    for precision in ("fp32", "bf16") if multiplies_bf16(runtime.device) else ("fp32",):
        classifier = Classifier(
            copy.deepcopy(model), [str(i) for i in range(10)], PREPROCESS, {},
            replace(runtime, precision=precision),
        )  # fmt: skip  # one argument a line would take six
        found[f"nunbit, {precision}"] = lambda c=classifier: c.logits(images)
    torch.compiler.reset()  # after eight networks and sizes it would give up and run them eagerly
    found["torch.compile"] = _no_grad(torch.compile(copy.deepcopy(model)), x)
    session = _onnx(copy.deepcopy(model), x)
    if session is not None:
        found["ONNX Runtime"] = session
    return found


def _no_grad(model: Callable[[Tensor], Tensor], x: Tensor) -> Way:
    def run() -> Tensor:
        with torch.inference_mode():
            return model(x)

    return run


def _onnx(model: nn.Module, x: Tensor) -> Way | None:
    """Return the network in ONNX Runtime, or None where it is not installed."""
    if not HAS_ONNX:
        return None
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        torch.onnx.export(model, (x,), file, dynamo=True, verbose=False)
        session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    feed = {session.get_inputs()[0].name: np.asarray(x)}
    return lambda: session.run(None, feed)


def time_all(ways: dict[str, Way], batch: int, seconds: float) -> dict[str, float]:
    """Return the pictures per second of each way: medians of rounds that take turns."""
    rates: dict[str, list[float]] = {name: [] for name in ways}
    with limited_threads(choose_runtime(TrainConfig()).threads):
        for way in ways.values():  # compiles, and warms up
            way()
            way()
        for _ in range(ROUNDS):
            for name, way in ways.items():
                start, calls = time.perf_counter(), 0
                while (spent := time.perf_counter() - start) < seconds / ROUNDS:
                    way()
                    calls += 1
                rates[name].append(calls * batch / spent)
    return {name: statistics.median(found) for name, found in rates.items()}


if __name__ == "__main__":
    main()
