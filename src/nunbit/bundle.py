"""The model one ships: weights, preprocessing, class names and measured results in one file."""

import itertools
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nunbit.config import RunConfig
from nunbit.data.decode import BadPictureError, quiet_pillow
from nunbit.data.given import Picture, existing, name_of, open_picture
from nunbit.data.named import NAMED
from nunbit.data.pictures import ImageSet, Pixels, Skipped, Source, Track, composed, untracked
from nunbit.data.pixels import load
from nunbit.data.preprocess import Preprocess
from nunbit.data.rows import Images, Stoppable
from nunbit.data.sources import absolute, open_source
from nunbit.data.splits import UnreadableError, open_dataset
from nunbit.decision import Decision
from nunbit.errors import DataError, UsageError
from nunbit.evaluation import Outputs, Views, collect_logits, collect_outputs
from nunbit.metrics import ANSWERED, Metrics, measure
from nunbit.prediction import Prediction, predicted
from nunbit.runtime import Runtime, limited_threads, runtime_of
from nunbit.storage import save_tensors

FORMAT_VERSION = 1
DECIDING_VERSION = 2  # of models that may decline; an older nunbit would answer everything
MODEL_FILE = "model.safetensors"


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

    def logits(
        self, images: Images | Stoppable, batch_size: int = 256, views: Views = "one"
    ) -> Tensor:
        """Return logits (N, K) of preprocessed pictures, uint8 (N, H, W, C).

        Args:
            images: of the input's size.
            batch_size: pictures per forward pass.
            views: which views of each picture are averaged (`nunbit.evaluation`).
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
        given = [pictures] if isinstance(pictures, Picture) else list(pictures)
        for picture in given:
            if isinstance(picture, str | Path):
                existing(picture)
        found: list[Prediction] = []
        for said in self.predict_each(given, top):
            if isinstance(said, Skipped):
                raise DataError("{name} cannot be read: {error}", name=said.name, error=said.reason)
            found.append(said)
        return found

    def predict_each(
        self, pictures: Picture | Iterable[Picture], top: int = 5, batch_size: int = 64
    ) -> Iterator[Prediction | Skipped]:
        """Classify pictures a batch at a time, as they come: countless files, a camera's frames.

        A picture that cannot be read, or is not there, gives a `Skipped` with the reason in its
        place, and the others go on.

        Args:
            pictures: as in `predict`; taken as far as a batch needs.
            top: how many classes to name for each.
            batch_size: pictures that are decoded side by side and answered at once; memory holds no
                more. With 1 each is answered before the next is taken.

        Raises:
            UsageError: `top` or `batch_size` below 1.
        """
        for name, value in (("top", top), ("batch_size", batch_size)):
            if value < 1:
                raise UsageError("{name} is {value}; allowed: 1 or more", name=name, value=value)
        given = [pictures] if isinstance(pictures, Picture) else pictures
        return self._predict_each(enumerate(given), top, batch_size)

    def _predict_each(
        self, numbered: Iterator[tuple[int, Picture]], top: int, batch_size: int
    ) -> Iterator[Prediction | Skipped]:
        with ThreadPoolExecutor(self.runtime.threads) as pool:  # Pillow decodes outside the lock
            while batch := self._read(itertools.islice(numbered, batch_size), pool):
                said = self._answers([one for one in batch if not isinstance(one, Skipped)], top)
                for one in batch:
                    yield one if isinstance(one, Skipped) else next(said)

    def _read(
        self, numbered: Iterable[tuple[int, Picture]], pool: Executor
    ) -> list[tuple[str, Pixels] | Skipped]:
        """Read files in the pool, others as they come: a camera may fill the same array again."""
        with quiet_pillow():
            begun = [
                pool.submit(self._pixels, picture, name_of(picture, number))
                if isinstance(picture, str | Path | bytes)
                else self._pixels(picture, name_of(picture, number))
                for number, picture in numbered
            ]
            return [one.result() if isinstance(one, Future) else one for one in begun]

    def _answers(self, read: Sequence[tuple[str, Pixels]], top: int) -> Iterator[Prediction]:
        """Yield what the network says of named pictures of its size (H, W, C)."""
        if not read:
            return
        images = torch.from_numpy(np.stack([pixels for _, pixels in read]))
        outputs, verdicts = self.outputs(images, len(images))
        codes = [ANSWERED] * len(images) if verdicts is None else verdicts.tolist()
        names = [name for name, _ in read]
        for name, p, code in zip(names, outputs.logits.softmax(1), codes, strict=True):
            yield predicted(name, p, self.class_names, top, code)

    def _pixels(self, picture: Picture, name: str) -> tuple[str, Pixels] | Skipped:
        preprocess = self.preprocess
        try:
            image = open_picture(picture, preprocess.mode, preprocess.near_side)
            return name, preprocess.to_pixels(image)
        except BadPictureError as error:
            return Skipped(name, str(error))

    def evaluate(
        self,
        data: str | Path | None = None,
        *,
        track: Track | None = None,
        batch_size: int = 256,
        on_skip: Callable[[Skipped], object] | None = None,
        on_other: Callable[[ImageSet], object] | None = None,
    ) -> Metrics:
        """Measure the model on labelled data, or on the test split that its training held out.

        Data that the model was trained on, wherever it lies now, is split again as it was then, and
        only the test part is measured. Other data is measured on its test part, or whole where it
        has no split.

        Args:
            data: a known name, folder, .csv or parquet; None for the training's own.
            track: shows progress, (items, total, label) -> items.
            batch_size: pictures per forward pass.
            on_skip: called with each picture of other data that cannot be read, which is left out;
                None refuses such data.
            on_other: called with the pictures of other data before they are measured.

        Raises:
            MissingInputError: the data is not there, or the table that corrected the training's,
                without which nobody can tell whether this is the same.
            UsageError: no data is given, and the model does not say what it was trained on.
            DataError: classes that the model does not know, unreadable pictures, or training data
                that has changed since.
        """
        track = track or untracked
        trained = self.card.get("config")
        config = None if trained is None else RunConfig.from_json(json.dumps(trained))
        if config is None and data is None:
            raise UsageError("this model does not say what it was trained on; add --data SOURCE")
        spec = config.data.source if config and data is None else str(data)
        source = open_source(spec, track)
        images = self._own_test(source, spec, config, track) if config else None
        if images is None:
            images = self.read(source, track, on_skip)
            if on_other is not None:
                on_other(images)
        outputs, verdicts = self.outputs(images.images, batch_size)
        return measure(outputs.logits, images.labels, self.class_names, verdicts)

    def _own_test(
        self, source: Source, spec: str, config: RunConfig, track: Track
    ) -> ImageSet | None:
        """Return the test part of the training's data; None of other data.

        Raises:
            DataError: it is the training's, and has changed, or may be, and cannot be read.
        """
        is_same = _same_source(spec, config.data.source)
        if not is_same and not self._may_be_own(source, config):
            return None
        images: ImageSet | None = None
        try:
            images = self._held_out(source, config, track)
        except UnreadableError as error:
            raise DataError(
                "{name} cannot be read, so that nobody can tell which pictures of {spec} the model "
                "was trained on; restore what is damaged",
                name=error.skipped[0].name,
                spec=spec,
            ) from error
        except DataError:  # of other data `read` says what is wrong with it
            if is_same:
                raise
        if images is None and is_same:
            raise DataError(
                "{spec} has changed since the training: its test part is unknown", spec=spec
            )
        return images

    def _may_be_own(self, source: Source, config: RunConfig) -> bool:
        """Return whether a source may be the training's data, and its test part not as it lies."""
        if source.is_published and config.data.overrides:
            return False  # a published set is never corrected
        has_test = "test" in source.parts and not (config.data.overrides or config.data.skip_bad)
        count = sum(map(len, source.parts.values()))
        known = (self.card.get("data") or {}).get("pictures")
        if known is None:  # of an older nunbit
            measured = (self.card.get("metrics") or {}).values()
            has_its_size = count >= sum(part["n"] for part in measured)
        else:
            has_its_size = count == known
        return not has_test and has_its_size and source.class_names == self._spelt()

    def _held_out(self, source: Source, config: RunConfig, track: Track) -> ImageSet | None:
        """Return the test part of the training's data, wherever it lies now; None of other data."""
        threads = self.runtime.threads
        dataset = open_dataset(source, config.data, threads, track, self.preprocess)
        is_own = dataset.fingerprint == (self.card.get("data") or {}).get("fingerprint")
        return dataset.test if is_own else None

    def read(
        self, source: Source, track: Track, on_skip: Callable[[Skipped], object] | None = None
    ) -> ImageSet:
        """Read the part of a source that `evaluate` measures, labelled by this model's classes."""
        order = ("test", "val", "all", "train")
        part = next(source.parts[name] for name in order if name in source.parts)
        names = self._spelt()
        foreign = sorted(set(source.class_names) - set(names))
        if foreign:
            known = ", ".join(self.class_names)
            raise DataError(
                "the data has classes {foreign}; this model knows: {known}",
                foreign=foreign,
                known=known,
            )
        loaded = load(part, self.preprocess, self.runtime.threads, track)
        if on_skip is not None:
            for fault in loaded.skipped:
                on_skip(fault)
        elif loaded.skipped:
            first = loaded.skipped[0]
            count = len(loaded.skipped)
            raise DataError(
                "{count} pictures cannot be read (--skip-bad leaves them out); {name}: {reason}",
                count=count,
                name=first.name,
                reason=first.reason,
            )
        if not len(loaded.images):
            raise DataError("{spec} holds no pictures to measure", spec=source.spec)
        own_K = torch.tensor([names.index(name) for name in source.class_names])
        pictures = loaded.images
        return replace(pictures, labels=own_K[pictures.labels])

    def _spelt(self) -> tuple[str, ...]:
        """Return the classes as sources spell them; a model may have been made of others."""
        return tuple(map(composed, self.class_names))


def _same_source(spec: str, trained_on: str) -> bool:
    """Return whether words name what a training was on; `digits` is never a folder of that name."""
    here = absolute(spec)
    if here == trained_on or {here, trained_on} & NAMED.keys():
        return here == trained_on
    both_exist = os.path.exists(here) and os.path.exists(trained_on)
    return both_exist and os.path.samefile(here, trained_on)
