"""A trained model for programs that have neither nunbit nor torch: one ONNX file.

The file takes decoded pictures of the network's size as bytes. What normalises them, the network,
its calibration and, where the model may decline, the decision are in its graph, in float32; the
names of the classes and how a picture becomes its pixels are in its metadata (docs/export.md).

Shapes: N pictures of H x W pixels with C channels, K classes.
"""

import contextlib
import io
import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nunbit.bundle import Classifier
from nunbit.config import TrainConfig
from nunbit.data.pictures import require_text
from nunbit.data.preprocess import Preprocess
from nunbit.data.rows import batches, collect_rows
from nunbit.errors import NunbitError, UsageError
from nunbit.evaluation import Outputs
from nunbit.language import tr
from nunbit.modelfile import load_classifier, model_file
from nunbit.models.stages import watched
from nunbit.places import require_new_file
from nunbit.prediction import VERDICTS
from nunbit.progress import Display
from nunbit.runtime import choose_runtime, runtime_of
from nunbit.storage import atomic_write

FORMATS = ("onnx",)
METADATA_KEY, METADATA_VERSION = "nunbit", 1
INPUT, OUTPUTS = "images", ("probabilities", "verdict")
PICTURES = 64  # on which the file must say what the model says
# Share by which a probability may differ: two ways to sum float32 differ by some 1e-5 of it. What
# is below a millionth counts as a millionth.
TOLERANCE, LEAST_PROBABILITY = 1e-2, 1e-6
LARGEST_BYTES = 2**31 - 2**24  # protobuf's limit, with room for the graph


@dataclass(frozen=True)
class Exported:
    """A file that answers as the model does."""

    path: Path
    classifier: Classifier
    opset: int
    """Version of ONNX's operators."""
    max_difference: float
    """Largest difference of a probability between the file and the model, both in float32."""
    checked_with: str
    """The program that ran the file, with its version."""
    nunbit_precision: str = "fp32"
    """In which nunbit itself computes the model on this machine; bf16 rounds otherwise."""

    @property
    def inputs(self) -> dict[str, list[Any]]:
        """Type and shape by name; N is any number of pictures."""
        p = self.classifier.preprocess
        return {INPUT: ["uint8", "N", p.height, p.width, p.channels]}

    @property
    def outputs(self) -> dict[str, list[Any]]:
        """Type and shape by name; a verdict is a position in `nunbit.prediction.VERDICTS`."""
        found: dict[str, list[Any]] = {
            OUTPUTS[0]: ["float32", "N", len(self.classifier.class_names)]
        }
        return found if self.classifier.decision is None else {**found, OUTPUTS[1]: ["int64", "N"]}

    def to_dict(self) -> dict[str, Any]:
        """Return the fields for JSON."""
        return {
            "file": str(self.path),
            "format": FORMATS[0],
            "bytes": self.path.stat().st_size,
            "opset": self.opset,
            "classes": list(self.classifier.class_names),
            "inputs": self.inputs,
            "outputs": self.outputs,
            "checked_with": self.checked_with,
            "checked_pictures": PICTURES,
            "max_difference": self.max_difference,
            "nunbit_precision": self.nunbit_precision,
        }


def export(
    run: str | Path,
    output: str | Path | None = None,
    *,
    format: str = FORMATS[0],
    quiet: bool = False,
) -> Exported:
    """Write a model for programs without nunbit and torch; see docs/export.md.

    The file is run before it is kept: on pictures of noise it must give the probabilities and
    verdicts of the model in float32.

    Args:
        run: a run folder or a model file.
        output: a new file; by default the model file with the suffix .onnx.
        format: "onnx", the only one.
        quiet: print nothing.

    Raises:
        NunbitError: no such model, an output that exists, a missing extra, a network that has no
            such form, or a file that answers otherwise.
    """
    if format not in FORMATS:
        raise UsageError(
            "format is '{format}'; allowed: {allowed}", format=format, allowed=", ".join(FORMATS)
        )
    require_onnx()
    classifier = load_classifier(run, choose_runtime(TrainConfig(device="cpu", precision="fp32")))
    path = model_file(run).with_suffix(f".{format}") if output is None else Path(output)
    require_text(path)
    require_new_file(path)
    Display(quiet=quiet).say(tr("tracing the network takes some seconds"))
    made = export_onnx(classifier, path)
    return replace(made, nunbit_precision=runtime_of(classifier.card).precision)


def require_onnx() -> None:
    """Refuse to begin what could not be written.

    Raises:
        UsageError: the extra is not installed.
    """
    try:
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401  # torch writes the file with it
    except ImportError:
        raise UsageError('exporting needs: pip install "nunbit[onnx]"') from None


def export_onnx(classifier: Classifier, path: Path) -> Exported:
    """Write a model as an ONNX file that was seen to answer as the model does.

    Args:
        classifier: on the CPU, in float32.
        path: of a file that is not there.

    Raises:
        CannotCreateError: it is there.
        UsageError: the network is too large for one file, or has operations that ONNX has not.
        NunbitError: the file answers otherwise; nothing is written.
        StorageError: it cannot be written.
    """
    name = str(classifier.card.get("model", {}).get("name"))
    tensors = classifier.module.state_dict().values()
    if sum(tensor.nbytes for tensor in tensors) > LARGEST_BYTES:
        raise UsageError("{model} is larger than the 2 GB that an ONNX file can hold", model=name)
    graph = _Graph(classifier).eval()
    images = noise(classifier.preprocess)
    with torch.no_grad():
        # Before the tracing too, which takes constants as they are kept from here.
        wanted = collect_rows(len(images), map(graph, batches(images)))
    try:
        content, opset = _traced(graph, images[:2], classifier)
        found, version = _run(content, images)
    # Whatever the exporter and ONNX Runtime raise says that this network has no such file.
    except Exception as error:
        reason = " ".join(str(error.__cause__ or error).split())[:200]
        raise UsageError(
            "{model} cannot be exported to ONNX: {reason}", model=name, reason=reason
        ) from error
    difference = require_same(found, wanted, name)
    require_new_file(path)  # it may be there by now
    atomic_write(path, content)
    return Exported(path, classifier, opset, difference, f"ONNX Runtime {version}")


class _Graph(nn.Module):
    """From bytes to probabilities and verdicts, as one network."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.network = classifier.module
        self.preprocess = classifier.preprocess
        self.decision = classifier.decision

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return probabilities (N, K), and verdicts (N,), of uint8 images (N, H, W, C)."""
        x = self.preprocess.normalize(images)
        if self.decision is None:
            return (self.network(x).softmax(1),)
        with watched(self.network) as sight:
            logits = self.network(x)
        verdicts = self.decision.verdicts(Outputs(logits, sight.stages()))
        return logits.softmax(1), verdicts


def noise(preprocess: Preprocess) -> Tensor:
    """Return uint8 pictures (N, H, W, C) of noise around the training's mean, ever stronger."""
    generator = torch.Generator().manual_seed(0)
    shape = (preprocess.height, preprocess.width, preprocess.channels)
    mean, std = torch.tensor(preprocess.mean), torch.tensor(preprocess.std)
    return torch.stack(
        [
            (255 * (mean + strength * std * torch.randn(shape, generator=generator)))
            .round()
            .clamp(0, 255)
            .byte()
            for strength in torch.linspace(0, 2, PICTURES)
        ]
    )


def _traced(graph: _Graph, images: Tensor, classifier: Classifier) -> tuple[bytes, int]:
    """Return the file, and the version of its operators."""
    # The exporter warns of what it does anyway, and prints the whole of a graph that it gives up.
    with (
        warnings.catch_warnings(action="ignore"),
        contextlib.redirect_stderr(io.StringIO()),
        torch.no_grad(),
    ):
        program = torch.onnx.export(
            graph,
            (images,),
            dynamo=True,
            optimize=True,
            verbose=False,
            input_names=[INPUT],
            output_names=OUTPUTS[: 1 if classifier.decision is None else 2],
            dynamic_shapes=({0: torch.export.Dim.DYNAMIC},),
        )
    assert program is not None
    program.model.metadata_props[METADATA_KEY] = json.dumps(
        metadata_of(classifier), ensure_ascii=False
    )
    return program.model_proto.SerializeToString(), program.model.opset_imports[""]


def metadata_of(classifier: Classifier) -> dict[str, Any]:
    """Return what a program needs to know to use the file, for JSON."""
    decision = classifier.decision
    return {
        "version": METADATA_VERSION,
        "class_names": list(classifier.class_names),
        "preprocess": classifier.preprocess.to_dict(),
        "verdicts": None if decision is None else list(VERDICTS),
        "max_error": None if decision is None else decision.max_error,
    }


def _run(content: bytes, images: Tensor) -> tuple[tuple[Tensor, ...], str]:
    """Return what a file says of pictures, a batch at a time, and ONNX Runtime's version."""
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    said = (session.run(None, {INPUT: batch.numpy()}) for batch in batches(images))
    found = collect_rows(len(images), ([torch.from_numpy(x) for x in each] for each in said))
    return found, onnxruntime.__version__


def require_same(found: Sequence[Tensor], wanted: Sequence[Tensor], name: str) -> float:
    """Return by how much the probabilities of a file differ from those of its model, at most.

    Args:
        found: probabilities (N, K) and verdicts (N,), if any, that the file gives.
        wanted: those of the model.
        name: of the network, for the message.

    Raises:
        NunbitError: they differ by more than rounding, or the verdicts differ.
    """
    probabilities, expected = (each[0].double() for each in (found, wanted))
    logs = [x.clamp_min(LEAST_PROBABILITY).log() for x in (probabilities, expected)]
    difference = float((probabilities - expected).abs().max())
    if not float((logs[0] - logs[1]).abs().max()) <= TOLERANCE:  # nor where they are not finite
        raise NunbitError(
            "the exported file does not answer as {model} does: a probability differs by "
            "{difference:.2g}; nothing was written",
            model=name,
            difference=difference,
        )
    pairs = zip(found[1:], wanted[1:], strict=True)
    others = sum(int((verdicts != model).sum()) for verdicts, model in pairs)
    if others:
        raise NunbitError(
            "the exported file does not answer as {model} does: other verdicts for {count} of "
            "{n} pictures; nothing was written",
            model=name,
            count=others,
            n=len(expected),
        )
    return difference
