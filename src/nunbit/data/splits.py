"""Training, validation and test: who decides, by which seed, and one data set ready to use."""

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path

import torch
from torch import Tensor

from nunbit.config import DataConfig
from nunbit.data.decode import BadPictureError, decode, quiet_pillow
from nunbit.data.duplicates import group_near_duplicates
from nunbit.data.leaks import without_held_out, without_test
from nunbit.data.overrides import apply_overrides, overrides_digest
from nunbit.data.pictures import ImageSet, Item, Reading, Skipped, Source, Track
from nunbit.data.pixels import load
from nunbit.data.preprocess import Preprocess
from nunbit.data.stats import mean_and_std
from nunbit.errors import DataError, first_of, listed
from nunbit.language import tr, trn

MIXED_SIZE = 64  # side in pixels for sources whose pictures differ in size
NAMED_FAULTS = 5  # how many bad pictures an error names; the rest is counted


class UnreadableError(DataError):
    """Pictures that cannot be read; the text names the first, `skipped` holds all."""

    def __init__(self, skipped: Sequence[Skipped]) -> None:
        super().__init__(_name_faults(skipped))
        self.skipped = tuple(skipped)


@dataclass(frozen=True)
class Dataset:
    """Everything a run reads: three splits of pictures, and how they were made."""

    train: ImageSet
    val: ImageSet | None
    """None where nothing is selected on validation (`val_fraction` 0)."""
    test: ImageSet
    class_names: tuple[str, ...]
    preprocess: Preprocess
    skipped: tuple[Skipped, ...]
    fingerprint: str
    """sha256 of the pictures and labels of all splits."""
    leaks: int
    """Pictures of training or validation left out because the source holds the same ones out."""
    reading: Reading = field(default_factory=Reading)
    """Where the pixels came from, and where they are."""
    pictures: int = 0
    """Of the source, before any was left out."""


def open_dataset(
    source: Source,
    config: DataConfig,
    threads: int,
    track: Track,
    preprocess: Preprocess | None = None,
) -> Dataset:
    """Read a source, split it, and measure the normalisation on its training split only.

    Args:
        source: what to read.
        config: how.
        threads: for decoding.
        track: shows progress, (items, total, label) -> items.
        preprocess: of weights that exist already, with their normalisation; by default it follows
            from the settings and the training split.

    Raises:
        UnreadableError: unreadable pictures (unless `skip_bad`).
        DataError: classes too small to split, or a picture that a table lists under two labels.
    """
    count = sum(map(len, source.parts.values()))
    if config.overrides:
        source = apply_overrides(source, Path(config.overrides))
    _require_one_label(source)
    is_given = preprocess is not None
    preprocess = preprocess or plain_preprocess(source, config)
    loaded = {part: load(p, preprocess, threads, track) for part, p in source.parts.items()}
    skipped = tuple(fault for part in loaded.values() for fault in part.skipped)
    if skipped and not config.skip_bad:
        raise UnreadableError(skipped)
    parts = {name: part.images for name, part in loaded.items()}
    train, val, test, leaks = assign(parts, config, source)
    _require_pictures(val, test)
    if config.normalize == "train" and not is_given:
        mean, std = mean_and_std(train.images)
        preprocess = replace(preprocess, mean=mean, std=std)
    return Dataset(
        train=train,
        val=val,
        test=test,
        class_names=source.class_names,
        preprocess=preprocess,
        skipped=skipped,
        fingerprint=_fingerprint([train, *([val] if val else []), test], config),
        leaks=leaks,
        reading=sum((part.reading for part in loaded.values()), Reading()),
        pictures=count,
    )


def _require_one_label(source: Source) -> None:
    """Refuse a picture that one part lists under two labels: a picture has one.

    Raises:
        DataError: naming the first.
    """
    for part in source.parts.values():
        if len(set(part.names)) == len(part.names):
            continue  # no table, or one that lists every picture once
        label_of: dict[str, int] = {}
        for name, label in zip(part.names, part.labels.tolist(), strict=True):
            first = label_of.setdefault(name, label)
            if first != label:
                raise DataError(
                    "{spec} lists {name} as '{first}' and as '{second}'; keep one line for it, or "
                    "leave it out with the overrides",
                    spec=source.spec,
                    name=name,
                    first=source.class_names[first],
                    second=source.class_names[label],
                )


def assign(
    parts: dict[str, ImageSet], config: DataConfig, source: Source
) -> tuple[ImageSet, ImageSet | None, ImageSet, int]:
    """Return (train, val, test, leaks) from the parts that a source has.

    A part that the source gives is kept as it is, but for the leaks: training pictures that another
    one holds as well, and validation pictures that test does. With only train and val given, val is
    the held-out test and the validation split is taken from train.

    Raises:
        DataError: a class has too few pictures to be in every split.
    """
    if set(parts) == {"train", "val"}:
        parts = {"train": parts["train"], "test": parts["val"]}
    require_training(parts)
    train = parts["train"] if "train" in parts else parts["all"]
    seed = config.split_seed
    _require_each_class(train.labels, source.class_names)
    test, val = parts.get("test"), parts.get("val")
    whole = len(train) + len(val or ())
    if not source.is_published:  # nothing may select by test pictures
        if val is not None and test is not None:
            val = without_test(val, test)
        # Before validation is taken from the rest.
        train = without_held_out(train, [part for part in (val, test) if part], source.class_names)
    leaks = whole - len(train) - len(val or ())
    needs_val = val is None and config.val_fraction > 0
    keys = _keys(train, config) if test is None or needs_val else []
    if test is None:
        rest, held = stratified(train, config.test_fraction, seed, keys)
        train, test = train.select(rest), train.select(held)
        keys = [keys[i] for i in rest.tolist()]  # groups are held out whole: none lost a member
    if needs_val:
        rest, held = stratified(train, config.val_fraction, seed + 1, keys)
        train, val = train.select(rest), train.select(held)
    return train, val, test, leaks


def require_training(parts: Collection[str]) -> None:
    """Refuse the parts of a source of which none can be trained on.

    Raises:
        DataError: naming what there is.
    """
    if "train" not in parts and "all" not in parts:
        raise DataError("no training pictures: the source has only {parts}", parts=", ".join(parts))


def _keys(pictures: ImageSet, config: DataConfig) -> Sequence[str]:
    """Return a key per picture; those with equal keys belong on one side of a split."""
    if not config.group_duplicates:
        return pictures.digests
    first_of_group = group_near_duplicates(pictures.images)
    return [pictures.digests[first] for first in first_of_group.tolist()]


def stratified(
    pictures: ImageSet, fraction: float, seed: int, keys: Sequence[str]
) -> tuple[Tensor, Tensor]:
    """Return sorted positions (rest, held out): the same share of every class, at least one.

    A group of copies is passed over where it would overshoot the share by more than is missing, and
    of the groups no larger share is held out either: the others must be learned from.

    Copies of one picture stay together: one that is also trained on would be measured as if it were
    known. A picture that occurs under two labels is never held out, since neither can be right.

    Args:
        pictures: N pictures.
        fraction: share to hold out, in (0, 1).
        seed: equal seeds give equal splits.
        keys: one per picture; pictures with equal keys count as copies of one.

    Raises:
        DataError: nothing can be held out.
    """
    generator = torch.Generator().manual_seed(seed)
    groups: dict[int, dict[str, list[int]]] = {}
    labels_of: dict[str, set[int]] = {}
    for i, (key, label) in enumerate(zip(keys, pictures.labels.tolist(), strict=True)):
        groups.setdefault(label, {}).setdefault(key, []).append(i)
        labels_of.setdefault(key, set()).add(label)
    held: list[int] = []
    for label in sorted(groups):
        copies = [at for key, at in groups[label].items() if len(labels_of[key]) == 1]
        missing = max(1, round(fraction * sum(map(len, groups[label].values()))))
        count = len(groups[label])
        most = min(count - 1, max(1, round(fraction * count)))  # one must be left to train on
        taken: list[list[int]] = []
        for k in torch.randperm(len(copies), generator=generator).tolist():
            if missing > 0 and len(copies[k]) <= 2 * missing and len(taken) < most:
                taken.append(copies[k])
                missing -= len(copies[k])
        if copies and most and not taken:
            taken = [min(copies, key=len)]
        held += chain.from_iterable(taken)
    if not held:
        raise DataError("nothing can be held out: every picture also occurs under another label")
    mask = torch.zeros(len(pictures), dtype=torch.bool)
    mask[held] = True
    return (~mask).nonzero().flatten(), mask.nonzero().flatten()


def _fingerprint(parts: Sequence[ImageSet], config: DataConfig) -> str:
    """Return the fingerprint of the splits; a table of overrides is part of it."""
    plain = fingerprint(parts)
    if not config.overrides:
        return plain
    return hashlib.sha256(f"{plain}{overrides_digest(Path(config.overrides))}".encode()).hexdigest()


def fingerprint(parts: Sequence[ImageSet]) -> str:
    """Return a sha256 that changes with any pixel, label, split or their order."""
    total = hashlib.sha256()
    for part in parts:
        total.update(f"{len(part)}\0{chr(0).join(part.digests)}".encode())
        total.update(part.labels.contiguous().numpy().data)
    return total.hexdigest()


def plain_preprocess(source: Source, config: DataConfig) -> Preprocess:
    """Return the preprocessing of a source before its statistics are measured."""
    channels = config.channels or source.channels
    height, width = (config.size,) * 2 if config.size else _own_size(source)
    centre = 0.5 if config.normalize == "half" else 0.0
    scale = 0.5 if config.normalize == "half" else 1.0
    return Preprocess(
        height=height,
        width=width,
        channels=channels,
        resize=config.resize,
        mean=(centre,) * channels,
        std=(scale,) * channels,
    )


def _own_size(source: Source) -> tuple[int, int]:
    """Return (height, width) if the pictures seem to share one small size, else `MIXED_SIZE`."""
    sizes = set()
    with quiet_pillow():
        for pictures in source.parts.values():
            step = max(1, len(pictures) // 16)
            sizes |= {_size(pictures.items[i]) for i in range(0, len(pictures), step)}
    sizes -= {None}
    only = sizes.pop() if len(sizes) == 1 else None
    return only if only is not None and max(only) <= MIXED_SIZE else (MIXED_SIZE, MIXED_SIZE)


def _size(item: Item) -> tuple[int, int] | None:
    if not isinstance(item, Path | bytes):
        return item.shape[0], item.shape[1]
    try:
        image = decode(item, "RGB")
    except BadPictureError:
        return None  # named when all pictures are read
    return image.height, image.width


def _require_each_class(labels_N: Tensor, class_names: Sequence[str]) -> None:
    counts = torch.bincount(labels_N, minlength=len(class_names)).tolist()
    named = list(zip(class_names, counts, strict=True))
    if len(named) < 2:
        only = ", ".join(map(repr, class_names)) or "none"
        raise DataError(
            "at least two classes are needed; found {only} (each class needs a folder of its own)",
            only=only,
        )
    small = [
        tr("'{name}' has {count}", name=name, count=count or tr("no pictures"))
        for name, count in named
        if count < 3
    ]
    if small:
        raise DataError(
            "every class needs 3 pictures or more for the splits: {small}", small=listed(small)
        )


def _require_pictures(val: ImageSet | None, test: ImageSet) -> None:
    """Refuse splits that would only fail, or mean nothing, after the whole training."""
    for name, part in (("validation", val), ("test", test)):
        if part is not None and not len(part):
            raise DataError("the {name} split holds no pictures", name=name)


def _name_faults(skipped: Sequence[Skipped]) -> str:
    return trn(
        "{count} picture cannot be read: {named}. Remove it, or leave it out with --data.skip_bad",
        "{count} pictures cannot be read: {named}. Remove them, or leave them out with "
        "--data.skip_bad",
        len(skipped),
        named=first_of([f"{fault.name} ({fault.reason})" for fault in skipped], NAMED_FAULTS),
    )
