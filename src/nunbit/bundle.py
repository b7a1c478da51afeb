"""The model one ships: weights, preprocessing, class names and measured results in one file."""

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from nunbit.config import ModelConfig, RunConfig
from nunbit.data.decode import BadPictureError, decode, quiet_pillow, upright
from nunbit.data.folder import picture_files
from nunbit.data.pictures import ImageSet, Source, Track, array_to_image, printable
from nunbit.data.pixels import load
from nunbit.data.preprocess import Preprocess
from nunbit.data.rows import Images
from nunbit.data.sources import open_source
from nunbit.data.splits import open_dataset
from nunbit.decision import Decision, read_decision
from nunbit.errors import DataError, MissingInputError, NunbitError, UsageError
from nunbit.evaluation import Outputs, Views, collect_logits, collect_outputs
from nunbit.language import tr
from nunbit.metrics import ANSWERED, Metrics, measure
from nunbit.models.limit import limited_size
from nunbit.models.registry import build_model
from nunbit.outliers import PREFIX
from nunbit.prediction import Prediction, predicted
from nunbit.runtime import Runtime, limited_threads, runtime_of
from nunbit.storage import load_tensors, save_tensors

FORMAT_VERSION = 1
DECIDING_VERSION = 2  # of models that may decline; an older nunbit would answer everything
MODEL_FILE = "model.safetensors"
MAX_CLASSES = 100_000
MAX_NAME = 255  # characters, as in names of folders
SPARE_NUMBERS = 1_000_000  # buffers that are not stored with the weights
Picture = str | Path | bytes | Image.Image | np.ndarray


class Classifier:
    """A trained network with all that is needed to use it on any picture.

    Attributes:
        module: the plain `nn.Module`, in eval mode.
        class_names: the classes in the order of the outputs.
        preprocess: the one path from a picture to the network's input.
        card: what is known of the model: recipe, data, metrics, versions.
        decision: which pictures are answered; None answers all.
    """

    def __init__(
        self,
        module: nn.Module,
        class_names: Sequence[str],
        preprocess: Preprocess,
        card: Mapping[str, Any],
        runtime: Runtime | None = None,
        *,
        decision: Decision | None = None,
    ) -> None:
        self.runtime = runtime or runtime_of(card)
        # NHWC, as in training: the same convolutions, the same bits, and faster on CPUs.
        layout = torch.channels_last
        self.module = module.to(self.runtime.device, memory_format=layout).eval()  # type: ignore[call-overload]  # torch's stubs lack this form
        self.class_names = tuple(class_names)
        self.preprocess = preprocess
        self.card = dict(card)
        self.decision = decision

    def save(self, path: Path | str) -> None:
        """Write the model file; an older one is replaced whole or not at all.

        Raises:
            StorageError: it cannot be written.
        """
        body = {
            **self.card,
            "format_version": DECIDING_VERSION if self.decision else FORMAT_VERSION,
            "class_names": list(self.class_names),
            "preprocess": self.preprocess.to_dict(),
        }
        tensors = dict(self.module.state_dict())
        if self.decision:
            body["decision"] = self.decision.to_dict()
            tensors |= self.decision.familiar.tensors()
        save_tensors(Path(path), tensors, body)

    def logits(self, images: Images, batch_size: int = 256, views: Views = "one") -> Tensor:
        """Return logits (N, K) of preprocessed pictures, uint8 (N, H, W, C).

        Args:
            images: of the input's size.
            batch_size: pictures per forward pass.
            views: how many views of each picture are averaged (`nunbit.evaluation`).
        """
        with limited_threads(self.runtime.threads):
            return collect_logits(
                self.module, images, self.preprocess, self.runtime, batch_size, views
            )

    def outputs(self, images: Images, batch_size: int = 256) -> tuple[Outputs, Tensor | None]:
        """Return logits with what the stages see, and verdicts (N,) if the model may decline."""
        if self.decision is None:
            return Outputs(self.logits(images, batch_size)), None
        with limited_threads(self.runtime.threads):
            arguments = (images, self.preprocess, self.runtime, batch_size)
            outputs = collect_outputs(self.module, *arguments)
            return outputs, self.decision.verdicts(outputs)

    def predict(self, pictures: Picture | Sequence[Picture], top: int = 5) -> list[Prediction]:
        """Classify files, bytes of files, Pillow pictures or uint8 arrays (H, W), (H, W, 1|3|4).

        Args:
            pictures: one or several.
            top: how many classes to name for each.

        Raises:
            MissingInputError: a file that is not there.
            DataError: a picture that cannot be read, named with the reason.
            UsageError: `top` below 1.
        """
        if top < 1:
            raise UsageError("top is {top}; allowed: 1 or more", top=top)
        if isinstance(pictures, Picture):
            pictures = [pictures]
        if not pictures:
            return []
        names = [str(p) if isinstance(p, str | Path) else f"#{i}" for i, p in enumerate(pictures)]
        with quiet_pillow():
            pixels = np.stack([self._pixels(*pair) for pair in zip(pictures, names, strict=True)])
        outputs, verdicts = self.outputs(torch.from_numpy(pixels))
        codes = [ANSWERED] * len(names) if verdicts is None else verdicts.tolist()
        rows = zip(map(printable, names), outputs.logits.softmax(1), codes, strict=True)
        return [predicted(name, p, self.class_names, top, code) for name, p, code in rows]

    def evaluate(
        self, data: str | Path | None = None, *, track: Track | None = None, batch_size: int = 256
    ) -> Metrics:
        """Measure the model on labelled data, or on the test split that its training held out.

        Data that the model was trained on is split again as it was then, and only the test part is
        measured. Other data is measured on its test part, or whole where it has no split.

        Args:
            data: a known name, folder, .csv or parquet; None for the training's own.
            track: shows progress, (items, total, label) -> items.
            batch_size: pictures per forward pass.

        Raises:
            MissingInputError: the data is not there.
            UsageError: no data is given, and the model does not say what it was trained on.
            DataError: classes that the model does not know, unreadable pictures, or training data
                that has changed since.
        """
        track = track or (lambda items, _total, _label: iter(items))
        trained = self.card.get("config")
        config = None if trained is None else RunConfig.from_json(json.dumps(trained))
        if config is None and data is None:
            raise UsageError("this model does not say what it was trained on; add --data SOURCE")
        spec = config.data.source if config and data is None else str(data)
        source = open_source(spec)
        if config and _same_source(spec, config.data.source):
            dataset = open_dataset(
                source, config.data, self.runtime.threads, track, self.preprocess
            )
            if dataset.fingerprint != self.card["data"]["fingerprint"]:
                raise DataError(
                    "{spec} has changed since the training: its test part is unknown", spec=spec
                )
            images = dataset.test
        else:
            images = self.read(source, track)
        outputs, verdicts = self.outputs(images.images, batch_size)
        return measure(outputs.logits, images.labels, self.class_names, verdicts)

    def read(self, source: Source, track: Track) -> ImageSet:
        """Read the part of a source that `evaluate` measures, labelled by this model's classes."""
        names = ("test", "val", "all", "train")
        part = next(source.parts[name] for name in names if name in source.parts)
        foreign = sorted(set(source.class_names) - set(self.class_names))
        if foreign:
            known = ", ".join(self.class_names)
            raise DataError(
                "the data has classes {foreign}; this model knows: {known}",
                foreign=foreign,
                known=known,
            )
        loaded = load(part, self.preprocess, self.runtime.threads, track)
        if loaded.skipped:
            first = loaded.skipped[0]
            count = len(loaded.skipped)
            raise DataError(
                "{count} pictures cannot be read; {name}: {reason}",
                count=count,
                name=first.name,
                reason=first.reason,
            )
        if not len(loaded.images):
            raise DataError("{spec} holds no pictures to measure", spec=source.spec)
        order = torch.tensor([self.class_names.index(name) for name in source.class_names])
        pictures = loaded.images
        return replace(pictures, labels=order[pictures.labels])

    def _pixels(self, picture: Picture, name: str) -> np.ndarray[Any, np.dtype[np.uint8]]:
        side = self.preprocess.near_side
        try:
            if isinstance(picture, Image.Image):
                picture.load()
                image = upright(picture)
            elif isinstance(picture, np.ndarray):
                image = array_to_image(picture)
            elif isinstance(picture, bytes):
                image = decode(picture, self.preprocess.mode, side)
            else:
                image = decode(_existing(Path(picture)), self.preprocess.mode, side)
            return self.preprocess.to_pixels(image)
        except BadPictureError as error:
            raise DataError("{name} cannot be read: {error}", name=name, error=error) from error
        except OSError as error:  # a Pillow picture is read only when its pixels are asked for
            if isinstance(error, MissingInputError):
                raise
            raise DataError("{name} cannot be read: {error}", name=name, error=error) from error


def load_classifier(run: Path | str) -> Classifier:
    """Load a classifier from a run folder or a model file, after verifying all of it.

    Raises:
        MissingInputError: no such folder or file.
        DataError: not a model file, damaged, or written by a newer nunbit.
    """
    path = Path(run)
    if path.is_dir():
        path = path / MODEL_FILE
        if not path.exists():
            raise MissingInputError(
                "{run} holds no {model_file}; did its training end?", run=run, model_file=MODEL_FILE
            )
    tensors, card = load_tensors(path)
    version = card.get("format_version")
    if version not in (FORMAT_VERSION, DECIDING_VERSION):
        raise DataError(
            "{path} has format {version}; this nunbit reads {format_version}",
            path=path,
            version=version,
            format_version=f"{FORMAT_VERSION}, {DECIDING_VERSION}",
        )
    own = {name: tensor for name, tensor in tensors.items() if name.startswith(PREFIX)}
    try:
        decision = read_decision(card["decision"], own) if version == DECIDING_VERSION else None
        if decision:
            tensors = {name: tensor for name, tensor in tensors.items() if name not in own}
        preprocess = Preprocess.from_dict(card["preprocess"])
        require_class_names(card["class_names"], DataError)
        if not all(isinstance(card.get(key), dict | None) for key in ("config", "data")):
            raise DataError("config and data are no objects")
        module = _restored(card, preprocess, tensors)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = str(error)[:300]  # what a stranger wrote may be long
        raise DataError(
            "{path} does not describe its own weights: {reason}", path=path, reason=reason
        ) from error
    return Classifier(module, card["class_names"], preprocess, card, decision=decision)


def require_class_names(names: Any, kind: type[NunbitError]) -> None:
    """Refuse what is not a list of different names.

    Raises:
        NunbitError: of the given kind, with what is allowed.
    """
    is_list = isinstance(names, list | tuple) and 0 < len(names) <= MAX_CLASSES
    if not is_list or not all(isinstance(n, str) and 0 < len(n) <= MAX_NAME for n in names):
        raise kind(
            tr(
                "class names are 1 to {max_classes:,} texts of up to {max_name} characters",
                max_classes=MAX_CLASSES,
                max_name=MAX_NAME,
            )
        )
    twice, count = Counter(names).most_common(1)[0]
    if count > 1:
        raise kind(
            tr("two classes are named '{twice}'; class names are all different", twice=twice)
        )


def _restored(
    card: Mapping[str, Any], preprocess: Preprocess, tensors: Mapping[str, Tensor]
) -> nn.Module:
    """Build the network that a card describes, if it is no larger than the weights beside it."""
    model, classes = ModelConfig(**card["model"]), len(card["class_names"])
    if classes not in {tensor.shape[0] for tensor in tensors.values() if tensor.ndim}:
        raise DataError(
            "{classes:,} class names, but no layer has as many outputs", classes=classes
        )
    # Twice: weights that layers share are stored once a name but registered at each.
    most = 2 * sum(tensor.numel() for tensor in tensors.values()) + SPARE_NUMBERS
    with torch.random.fork_rng(devices=[]), limited_size(most):  # its random weights are replaced
        module = build_model(
            model.name,
            num_classes=classes,
            in_channels=preprocess.channels,
            image_size=(preprocess.height, preprocess.width),
            args=model.args,
        )
    module.load_state_dict(tensors, strict=True)
    return module


def find_pictures(paths: Sequence[str]) -> list[Path]:
    """Return the picture files that paths name: files as given, folders searched.

    Raises:
        MissingInputError: a path that is not there, or a folder without pictures.
    """
    found: list[Path] = []
    for name in paths:
        path = _existing(Path(name))
        inside = list(picture_files(path)) if path.is_dir() else [path]
        if not inside:
            raise MissingInputError("no pictures in {path}", path=path)
        found += inside
    return found


def _existing(path: Path) -> Path:
    if not os.path.exists(path):  # unlike path.exists(), False where a folder is locked
        raise MissingInputError(
            "no picture {path}, or no permission to see it", path=printable(str(path))
        )
    return path


def _same_source(one: str, other: str) -> bool:
    both_exist = os.path.exists(one) and os.path.exists(other)
    return one == other or (both_exist and os.path.samefile(one, other))
