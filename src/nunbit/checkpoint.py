"""Everything that changes while training, in one verified file; the newest two are kept.

There is no random state in it, since there is none (see `runtime`): weights, optimizer, position,
the best weights so far and the results of finished epochs are all that a training is.
"""

import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nunbit.config import RunConfig
from nunbit.errors import DataError, DivergedError, NunbitError, StorageError
from nunbit.language import tr
from nunbit.places import make_folder
from nunbit.storage import is_temporary, load_tensors, save_tensors
from nunbit.training.loop import EpochResult
from nunbit.training.state import Best, TrainState
from nunbit.values import Interval

FORMAT_VERSION = 1
FOLDER = "checkpoints"
KEPT = 2  # the newest, and one to fall back to
MAX_COST = 0.02  # share of the training time that saving may take on a slow disk
NAME = re.compile(r"step-(\d{10})\.safetensors")


@dataclass(frozen=True)
class Checkpoint:
    """A verified checkpoint that is not applied yet."""

    path: Path
    tensors: dict[str, Tensor]
    body: dict[str, Any]

    @property
    def history(self) -> list[EpochResult]:
        """The results of the finished epochs."""
        return [EpochResult(**record) for record in self.body["history"]]


class Checkpointer:
    """Saves a training at intervals, at its end, and when it is stopped."""

    def __init__(self, run_dir: Path, every: Interval, facts: dict[str, Any]) -> None:
        """Prepare the folder.

        Args:
            run_dir: the run's folder.
            every: seconds or steps between two savings.
            facts: what a resumed run must share: configuration, data fingerprint, preprocessing and
                the sha256 of the weights that it began with ("" of random ones).
        """
        self.folder = run_dir / FOLDER
        self.facts = facts
        self._every = every
        self._saved_step = -1
        self._whole: list[Path] = []  # what this process has read or saved last
        self._saved_at = time.monotonic()
        self._cost_seconds = 0.0
        make_folder(self.folder)

    def watch(
        self,
        batches: Iterable[Any],
        state: TrainState,
        history: Sequence[EpochResult],
        check: Callable[[], None],
    ) -> Iterator[Any]:
        """Yield the batches of an epoch, saving and stopping between updates.

        A generator goes on when the next batch is asked for, so the update with the last one is
        done by then and `state` is whole.

        Args:
            batches: what the loop trains on.
            state: the training.
            history: results of the finished epochs.
            check: raises when the run should stop; a checkpoint is written first.
        """
        for batch in batches:
            yield batch
            if self._is_due(state):
                self.save(state, history)
            try:
                check()
            except NunbitError:
                self.save(state, history)
                raise

    def save(self, state: TrainState, history: Sequence[EpochResult]) -> None:
        """Write the state unless this very step is saved already, and remove older files.

        Raises:
            StorageError: it cannot be written; the former checkpoint is unharmed.
            DivergedError: weights that are not finite, which are never saved.
        """
        position = state.step + state.epoch  # validation changes the epoch without a step
        if position == self._saved_step:
            return
        start = time.monotonic()
        tensors, body = encode(state, history, self.facts)
        path = self.folder / f"step-{position:010}.safetensors"
        save_tensors(path, tensors, body)
        self.keep(path)
        for old in _files(self.folder):
            if old not in self._whole:
                old.unlink()
        self._saved_step, self._saved_at = position, time.monotonic()
        self._cost_seconds = self._saved_at - start

    def keep(self, path: Path) -> None:
        """Count a file as one of the two that stay: it was just read, or written, whole."""
        self._whole = [*(known for known in self._whole if known != path), path][-KEPT:]

    def _is_due(self, state: TrainState) -> bool:
        if self._every.steps:
            return state.step % self._every.steps == 0
        wait = max(self._every.seconds, self._cost_seconds / MAX_COST)
        return bool(self._every.seconds) and time.monotonic() - self._saved_at >= wait


def load_newest(run_dir: Path, say: Callable[[str], None]) -> Checkpoint | None:
    """Return the newest checkpoint that is whole, or None where none was ever written.

    Args:
        run_dir: the run's folder.
        say: told when a file that is damaged or cannot be read is passed over for an older one.

    Raises:
        DataError: there are checkpoints, and all of them are damaged.
    """
    faults = []
    for path in _files(run_dir / FOLDER):
        try:
            return read(path)
        except (DataError, StorageError) as error:
            faults.append(str(error))
            say(tr("{error}; falling back to the one before", error=error))
    if faults:
        raise DataError(
            "no checkpoint of {run_dir} is whole: {faults}", run_dir=run_dir, faults=faults[0]
        )
    return None


def read(path: Path) -> Checkpoint:
    """Read and verify one checkpoint.

    Raises:
        DataError: damaged, foreign, of another format, or with weights that are not finite.
    """
    tensors, body = load_tensors(path)
    version = body.get("checkpoint_version")
    if version != FORMAT_VERSION:
        raise DataError(
            "{path} has checkpoint format {version}; this nunbit reads {format_version}",
            path=path,
            version=version,
            format_version=FORMAT_VERSION,
        )
    _require_finite(tensors, DataError, str(path))
    return Checkpoint(path, tensors, body)


def encode(
    state: TrainState, history: Sequence[EpochResult], facts: dict[str, Any]
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return a training as tensors and JSON."""
    tensors = {f"model/{name}": t for name, t in state.model.state_dict().items()}
    _require_finite(tensors, DivergedError, tr("the weights after step {step}", step=state.step))
    for i, parameter in enumerate(_parameters(state)):
        for key, value in state.optimizer.state.get(parameter, {}).items():
            if isinstance(value, Tensor):
                tensors[f"optim/{i}/{key}"] = value
    body: dict[str, Any] = {
        "checkpoint_version": FORMAT_VERSION,
        "facts": facts,
        "epoch": state.epoch,
        "step": state.step,
        "step_in_epoch": state.step_in_epoch,
        "seconds_in_epoch": state.seconds_in_epoch,
        "epochs_since_best": state.epochs_since_best,
        "history": [vars(result) for result in history],
    }
    tensors["sums"] = state.sums
    if state.average is not None:
        tensors |= {f"average/{name}": t for name, t in state.average.items()}
    if state.best is not None:
        tensors |= {f"best/{name}": t for name, t in state.best.weights.items()}
        best = state.best
        body["best"] = {"epoch": best.epoch, "accuracy": best.accuracy, "loss": best.loss}
    return tensors, body


def restore(state: TrainState, checkpoint: Checkpoint) -> None:
    """Put a training back where a checkpoint left it; all is compared before anything is changed.

    Raises:
        DataError: the checkpoint is of another network or optimizer.
    """
    tensors, body = checkpoint.tensors, checkpoint.body
    model = _group(tensors, "model/")
    own = state.model.state_dict()
    shapes = {k: v.shape for k, v in own.items()}
    best, average = _group(tensors, "best/"), _group(tensors, "average/")
    held = (model, best or own, average or own)
    if any({k: v.shape for k, v in weights.items()} != shapes for weights in held):
        raise DataError("{path} is of another network", path=checkpoint.path)
    parameters = _parameters(state)
    for name, value in _group(tensors, "optim/").items():
        at = int(name.partition("/")[0])
        is_known = at < len(parameters)
        if not is_known or (value.ndim and value.shape != parameters[at].shape):
            raise DataError("{path} is of another optimizer", path=checkpoint.path)

    state.model.load_state_dict(model)
    state.optimizer.state.clear()
    for name, value in _group(tensors, "optim/").items():
        index, _, key = name.partition("/")
        parameter = parameters[int(index)]
        # Fused kernels walk parameter and moments as memory lies, so the strides must agree; the
        # counter of steps is a scalar, which they want on the parameter's device.
        is_moment = value.shape == parameter.shape
        like = torch.empty_like(parameter if is_moment else value, device=parameter.device)
        state.optimizer.state[parameter][key] = like.copy_(value)
    state.sums.copy_(tensors["sums"])
    state.epoch, state.step = body["epoch"], body["step"]
    state.step_in_epoch = body["step_in_epoch"]
    state.seconds_in_epoch = body["seconds_in_epoch"]
    state.epochs_since_best = body["epochs_since_best"]
    # On the device and in the memory layout of the weights that it follows.
    average = {name: torch.empty_like(own[name]).copy_(t) for name, t in average.items()}
    state.average = average or None
    state.best = Best(**body["best"], weights=best) if "best" in body else None


# These may change: where data, weights and machine are found, and how often a run is saved. Data is
# compared by its fingerprint, and the weights of a checkpoint are its own.
MAY_CHANGE = (
    "data.source", "data.overrides", "model.weights", "train.device", "train.checkpoint_every",
)  # fmt: skip


def require_same_run(checkpoint: Checkpoint, facts: dict[str, Any]) -> None:
    """Refuse a checkpoint that other settings wrote: its position would mean other batches.

    Raises:
        DataError: naming the settings that changed, or that the data did.
    """
    stored = checkpoint.body["facts"]
    # A checkpoint of an older nunbit lacks the settings that came later: they had their defaults.
    before = json.loads(RunConfig.from_json(json.dumps(stored["config"])).to_json())
    now = facts["config"]
    changed = [
        f"{section}.{name}"
        for section, fields in now.items()
        if isinstance(fields, dict)
        for name in fields
        if f"{section}.{name}" not in MAY_CHANGE
        and before.get(section, {}).get(name) != fields[name]
    ]
    if changed:
        raise DataError(
            "{path} was written with another {changed}",
            path=checkpoint.path,
            changed=", ".join(changed),
        )
    start = ("preprocess", "weights")  # without a model to begin with, they follow from the rest
    is_other = any(stored.get(fact, facts[fact]) != facts[fact] for fact in start)
    if now["model"]["weights"] and is_other:
        raise DataError(
            "{path} was written with another preprocessing or began with other weights: the model "
            "that model.weights names is not the one of then",
            path=checkpoint.path,
        )
    if stored["fingerprint"] != facts["fingerprint"]:
        raise DataError(
            "{path} was written for other data or another data.overrides", path=checkpoint.path
        )


def remove_litter(run_dir: Path) -> None:
    """Remove temporary files that a killed process left behind."""
    for folder in (run_dir, run_dir / FOLDER, run_dir / "figures"):
        for path in folder.glob("*"):
            if is_temporary(path.name):
                path.unlink(missing_ok=True)


def _files(folder: Path) -> list[Path]:
    """Return the checkpoints, newest first: by position in the training, never by time."""
    found = [path for path in folder.glob("step-*") if NAME.fullmatch(path.name)]
    return sorted(found, key=lambda path: path.name, reverse=True)


def _parameters(state: TrainState) -> list[Tensor]:
    return [p for group in state.optimizer.param_groups for p in group["params"]]


def _group(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _require_finite(tensors: dict[str, Tensor], kind: type[NunbitError], what: str) -> None:
    bad = [k for k, v in tensors.items() if v.is_floating_point() and not v.isfinite().all()]
    if bad:
        raise kind(
            tr(
                "{what}: {bad} is not finite, and such weights are neither saved nor loaded",
                what=what,
                bad=bad[0],
            )
        )
