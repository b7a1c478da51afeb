"""One training in a process of its own: nunbit's command, or a peer's script."""

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from prepare import Prepared

from nunbit.config import TrainConfig
from nunbit.runtime import choose_runtime

HERE = Path(__file__).parent
SOURCES = HERE.parents[1] / "src"
PEERS = {  # with the variants that are tried before the measurement, the plain one first
    "lightning": ("fp32", "bf16", "compile"),
    "fastai": ("own", "torch"),
    "keras": ("fp32", "bf16", "steps"),
    "skorch": ("fp32", "bf16", "compile"),
    "timm": ("fp32", "channels-last", "bf16", "compile"),
}
Result = dict[str, Any]


def run_peer(
    python: Path, peer: str, task: Path, *, epochs: int, seed: int, variant: str
) -> Result:
    """Train with a peer and return what it printed, see `task.answer`.

    Args:
        python: interpreter of the peers' environment.
        peer: of `PEERS`.
        task: what to train on.
        epochs: how long.
        seed: for the peer's own generators.
        variant: one that the peer offers.

    Raises:
        RuntimeError: the process failed; with the end of what it printed.
    """
    words = ["--epochs", str(epochs), "--seed", str(seed), "--variant", variant]
    command = [str(python), str(HERE / f"{peer}_peer.py"), str(task), *words]
    # Compiled code is kept beside the data, so that repeats find it: a kindness to the peers.
    kept = {"TORCHINDUCTOR_CACHE_DIR": str(task.with_name("inductor"))}
    return _last_object(command, {"PYTHONPATH": str(SOURCES), **kept})


def run_nunbit(work: Prepared, folder: Path, *, epochs: int, seed: int) -> Result:
    """Train with `nunbit train` and return the same figures.

    What is timed is all that the command reports: from choosing the precision and building the
    network, which are not timed for the others, to the end of the last update; the seconds of an
    epoch are those of the run's `timings.jsonl`.

    Args:
        work: what to train on.
        folder: a new run folder.
        epochs: how long.
        seed: of the run.
    """
    command = [sys.executable, "-m", "nunbit", "train", work.recipe, *work.nunbit_data]
    command += ["--train.epochs", str(epochs), "--train.seed", str(seed)]
    command += ["--run-dir", str(folder), "--json", "--quiet"]
    result = _last_object(command, {"PYTHONPATH": str(SOURCES)})
    lines = (folder / "timings.jsonl").read_text(encoding="utf-8").splitlines()
    each = [json.loads(line)["seconds"] for line in lines]
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return {
        "peer": "nunbit",
        "version": versions_of(folder),
        "variant": config["train"]["precision"],
        "workload": work.name,
        "epochs": epochs,
        "seed": seed,
        "seconds": result["seconds"],
        "seconds_per_epoch": result["seconds"] / epochs,
        "later_epoch": statistics.median(each[1:] or each),
        "test_accuracy": result["test"]["accuracy"],
    }


def versions_of(folder: Path) -> str:
    """Return the versions that a finished run recorded."""
    body = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    return f"nunbit {body['versions']['nunbit']}, torch {body['versions']['torch']}"


def _last_object(command: list[str], more: dict[str, str]) -> Result:
    """Run a command on all cores and return the JSON object on its last line."""
    # By itself torch takes physical cores, and nunbit those that it may use.
    threads = choose_runtime(TrainConfig()).threads
    every = {**os.environ, "OMP_NUM_THREADS": str(threads), **more}
    done = subprocess.run(command, env=every, capture_output=True, text=True, check=False)
    if done.returncode:
        end = "\n".join((done.stdout + done.stderr).strip().splitlines()[-15:])
        raise RuntimeError(f"{' '.join(command)}\nended with {done.returncode}:\n{end}")
    result: Result = json.loads(done.stdout.strip().splitlines()[-1])
    return result
