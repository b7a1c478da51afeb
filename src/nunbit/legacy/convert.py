"""From a state dict of torch.save to a nunbit model file."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import nn

from nunbit.bundle import Classifier
from nunbit.config import ModelConfig, TrainConfig
from nunbit.data.pictures import printable, require_class_names, require_text
from nunbit.data.preprocess import Preprocess
from nunbit.errors import DataError, MissingInputError, UsageError, first_of
from nunbit.language import tr
from nunbit.legacy.archive import RefusedError, check_archive, snapshot
from nunbit.models.matching import Shapes, load_exactly, misfits, shapes_of
from nunbit.models.registry import build_model
from nunbit.models.summary import count_parameters
from nunbit.places import require_new_file
from nunbit.runtime import choose_runtime, versions

TIMEOUT_SECONDS = 300
OLDEST_TORCH = (2, 10)  # before it the restricted reader corrupted memory (CVE-2026-24747)
NAMED_DIFFERENCES = 3


@dataclass(frozen=True)
class Imported:
    """A model file that was made of foreign weights."""

    path: Path
    classifier: Classifier

    def to_dict(self) -> dict[str, Any]:
        """Return the fields for JSON."""
        card = self.classifier.card
        return {
            "model_file": str(self.path),
            "model": card["model"]["name"],
            "parameters": count_parameters(self.classifier.module),
            "classes": list(self.classifier.class_names),
            "source": card["source"],
        }


def convert(
    weights: Path,
    model: ModelConfig,
    class_names: Sequence[str] | None,
    preprocess: Preprocess,
    output: Path,
) -> Imported:
    """Check, read and save foreign weights; nothing is written unless all of them fit.

    Raises:
        MissingInputError: no such file.
        DataError: not a plain state dict, not this network's, or weights that are not finite.
        UsageError: an unknown network or option, wrong class names, a torch that is too old, or an
            output whose name is no text.
        CannotCreateError: the output is there already, or its folder is not.
    """
    require_class_names(class_names or ("any",), UsageError)
    require_text(output)
    if not os.path.lexists(weights):  # its folder may be missing too, where the output would lie
        raise MissingInputError("no file {path}", path=weights)
    require_new_file(output)
    with tempfile.TemporaryDirectory(prefix="nunbit-import-") as name:
        folder = Path(name)
        sha256 = snapshot(weights, folder / "source")
        try:
            check_archive(folder / "source")
            read_in_child(folder / "source", folder / "target")
        except RefusedError as error:
            raise DataError(
                "{weights} is refused: {error}", weights=weights, error=error
            ) from error
        shapes = _shapes(folder / "target")
        known = class_names or [str(i) for i in range(_count_classes(model, preprocess, shapes))]
        module = _build(model, preprocess, len(known))
        _require_fit(weights, shapes, shapes_of(module.state_dict()), class_names is not None)
        load_exactly(module, safetensors.torch.load_file(folder / "target"), weights)
        size = (folder / "source").stat().st_size
    card = {
        "recipe": "imported",
        "model": {"name": model.name, "args": dict(model.args)},
        "metrics": {},  # nothing was measured here
        "config": None,  # how it was trained is not known
        "data": None,
        "source": {"file": printable(weights.name), "bytes": size, "sha256": sha256},
        "versions": versions(),
    }
    runtime = choose_runtime(TrainConfig(device="cpu", precision="fp32"))
    classifier = Classifier(module, known, preprocess, card, runtime)
    classifier.save(output)
    return Imported(output, classifier)


def read_in_child(source: Path, target: Path) -> None:
    """Unpickle in a process of its own that has limits, and leave the tensors in `target`.

    Raises:
        RefusedError: the file is refused, or needs more than the limits allow.
        UsageError: torch is too old to be trusted with foreign files.
    """
    version = tuple(int(part) for part in torch.__version__.split(".")[:2])
    if version < OLDEST_TORCH:
        needed = ".".join(map(str, OLDEST_TORCH))
        raise UsageError(
            "importing needs torch {needed} or newer; this is {version}",
            needed=needed,
            version=torch.__version__,
        )
    # -P: a torch.py that lies beside the weights is not imported.
    command = [sys.executable, "-P", "-m", "nunbit.legacy.child", str(source), str(target)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment.pop("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", None)
    try:
        done = subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise RefusedError(
            "reading it takes more than {timeout_seconds} seconds", timeout_seconds=TIMEOUT_SECONDS
        ) from None
    if done.returncode != 0:
        reason = done.stdout.decode(errors="replace")
        raise RefusedError(
            reason or tr("reading it needs more time, memory or rights than weights do")
        )


def _build(model: ModelConfig, preprocess: Preprocess, classes: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):  # the random weights are replaced at once
        return build_model(
            model.name,
            num_classes=classes,
            in_channels=preprocess.channels,
            image_size=(preprocess.height, preprocess.width),
            args=model.args,
        )


def _shapes(path: Path) -> Shapes:
    """Return the shapes in a safetensors file without reading its tensors."""
    with safetensors.safe_open(path, "pt") as file:
        return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118  # no mapping


def _count_classes(model: ModelConfig, preprocess: Preprocess, given: Shapes) -> int:
    """Return how many classes weights were trained for: what differs from a network for two."""
    expected = shapes_of(_build(model, preprocess, 2).state_dict())
    different = [name for name in expected if given.get(name, expected[name]) != expected[name]]
    counts = {given[name][0] for name in different if given[name] and expected[name][:1] == (2,)}
    return counts.pop() if len(counts) == 1 else 2


def _require_fit(weights: Path, given: Shapes, needed: Shapes, has_classes: bool) -> None:
    """Refuse weights whose names or shapes are not the network's.

    Raises:
        DataError: naming the first of each kind.
    """
    faults = misfits(given, needed)
    if faults:
        what = tr("--model, its options, --size, --channels") + (", --classes" * has_classes)
        raise DataError(
            "{weights} does not fit the network: {named}; check {what}",
            weights=weights,
            named=first_of(faults, NAMED_DIFFERENCES),
            what=what,
        )
