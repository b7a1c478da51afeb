"""Chooses how to fine-tune: at which size, only the last layer or all of them, for how long.

A strategy is nothing but settings of a run (`model.weights`, `model.head`, `train.epochs`, ...), so
that it is resumed, repeated and reported like any other.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Literal

import torch

from nunbit.config import DataConfig, EvalConfig, ModelConfig, RunConfig, TrainConfig
from nunbit.data.loader import TrainLoader
from nunbit.data.pictures import ImageSet, Source
from nunbit.data.splits import require_training
from nunbit.errors import UsageError
from nunbit.finetuning.probe import (
    RESERVE,
    Probe,
    count_of,
    largest_that_fits,
    sample_of,
    sizes_of,
)
from nunbit.language import tr
from nunbit.recipes.speed import UPRIGHT
from nunbit.runtime import choose_runtime
from nunbit.start import load_weights, preprocess_of
from nunbit.training.norms import PRECISE_PICTURES
from nunbit.training.tempo import update_seconds
from nunbit.values import Setting

Strategy = Literal["auto", "head", "full"]
LEAST_COST = 3.0  # forward passes that an update takes at least: there and twice back
EPOCHS = (8, 12)  # fewer lose what the last layer had, more overfit a few thousand pictures
LEAST_ASKED = 3  # where all layers are asked for, whatever fits
FEW = 50  # pictures a class, below which training all layers loses (docs/log.md)
MAX_ERROR = 0.02  # of the labels that are given; other pictures are declined
DECIDED = ("data.size", "train.precision", "train.epochs")  # a 0 or auto of these is decided here


def finetune_config(source: str, model: str, weights: str) -> RunConfig:
    """Return the settings from which a strategy starts.

    Near copies of a picture stay on one side of the split: folders of photographs have them, and a
    network that has seen a copy is not tested by it.

    Args:
        source: the data.
        model: timm:NAME or torchvision:NAME.
        weights: `pretrained`, or a file.
    """
    return RunConfig(
        recipe="finetune",
        data=DataConfig(source=source, group_duplicates=True),
        model=ModelConfig(name=model, weights=weights, head="logistic"),
        train=TrainConfig(epochs=0, batch_size=32),
        eval=EvalConfig(max_error=MAX_ERROR),
    )


def refuse_epochs(config: RunConfig, given: Mapping[str, Setting], wish: Strategy) -> None:
    """Refuse a number of epochs where the budget decides it.

    Raises:
        UsageError: there is one, and not all layers are asked for; or it is 0, and they are.
    """
    if "train.epochs" in given and wish != "full":
        raise UsageError("train.epochs follows from the budget; give it with --strategy full only")
    if "train.epochs" in given and not config.train.epochs:
        raise UsageError("train.epochs is 0; all layers need 1 or more, or write --strategy head")


def choose_strategy(
    config: RunConfig,
    source: Source,
    budget_seconds: float,
    wish: Strategy,
    say: Callable[[str], None],
    given: Mapping[str, Setting] | None = None,
) -> RunConfig:
    """Return the settings that use a budget best, and say why.

    The features of the largest size that fits are computed for every picture, and the last layer
    is fitted on them. If time is left for eight epochs, and there are not very few pictures, all
    layers are trained on from there.

    Args:
        config: model, weights and data are chosen already; a size that is set stays.
        source: the opened data.
        budget_seconds: for everything from here to the model file.
        wish: `head` or `full` decide that much; `auto` leaves it to the budget.
        say: prints one line.
        given: settings by dotted name that were asked for; they stay, whatever is chosen.

    Raises:
        UsageError: not even the smallest size fits the budget.
        DataError: no pictures to train on, or none that can be read.
        MissingInputError: the pretrained weights cannot be had.
    """
    deadline = time.perf_counter() + RESERVE * budget_seconds
    require_training(source.parts)
    own = preprocess_of(config)
    assert own is not None
    sample = sample_of(source, own)
    sizes = [own.height] if config.data.size else sizes_of(own, sample)
    probe = largest_that_fits(config, sizes, source, sample, RESERVE * budget_seconds)
    say(_describe(config.model.name, probe, count_of(source)))
    sized = {} if probe.size == own.height else {"data.size": probe.size}
    chosen = config.override({"train.precision": probe.precision, **sized})
    epochs, why = _epochs(chosen, source, probe, wish, deadline)
    say(why)
    if not epochs:
        return chosen
    kept = {name: value for name, value in (given or {}).items() if name not in DECIDED}
    return _full(chosen, epochs).override(kept)


def _epochs(
    config: RunConfig, source: Source, probe: Probe, wish: Strategy, deadline: float
) -> tuple[int, str]:
    """Return for how many epochs all layers are trained, and a line that says why."""
    if wish == "head":
        return 0, tr("only the last layer, as asked")
    if wish == "auto" and count_of(source) < FEW * len(source.class_names):
        return 0, tr(
            "only the last layer: below {few} pictures a class all layers overfit", few=FEW
        )
    affordable, epoch = _affordable(config, source, probe, deadline)
    if wish == "auto" and affordable < EPOCHS[0]:
        return 0, tr(
            "only the last layer: an epoch of all layers takes about {epoch:.0f} s", epoch=epoch
        )
    epochs = config.train.epochs or min(max(affordable, LEAST_ASKED), EPOCHS[1])
    return epochs, tr(
        "then {epochs} epochs of all layers, about {seconds:.0f} s",
        epochs=epochs,
        seconds=epochs * epoch,
    )


def _affordable(
    config: RunConfig, source: Source, probe: Probe, deadline: float
) -> tuple[int, float]:
    """Return how many epochs of all layers fit, and the seconds of one.

    Updates are timed only if there could be time for some epochs.
    """
    epoch = _trained_count(config, source) * LEAST_COST * probe.forward_seconds
    if EPOCHS[0] * epoch <= deadline - time.perf_counter() - probe.seconds:
        epoch = _epoch_seconds(config, source, probe)
    return int((deadline - time.perf_counter() - probe.seconds) / epoch), epoch


def _trained_count(config: RunConfig, source: Source) -> float:
    """Return about how many pictures a training sees, before it is split."""
    data, parts = config.data, source.parts
    pictures = (
        (1 - data.test_fraction) * len(parts["all"]) if "all" in parts else len(parts["train"])
    )
    is_split = {"train", "val", "test"} <= parts.keys()
    return pictures if is_split else (1 - data.val_fraction) * pictures


def _epoch_seconds(config: RunConfig, source: Source, probe: Probe) -> float:
    """Time a few updates of all layers, on black pictures; return the seconds of an epoch."""
    preprocess = preprocess_of(config)
    assert preprocess is not None
    runtime = replace(choose_runtime(config.train), precision=probe.precision)
    model = load_weights(config).module
    model.to(runtime.device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs lack this form
    count = config.train.batch_size
    shape = (count, preprocess.height, preprocess.width, preprocess.channels)
    names = [""] * count
    black = ImageSet(
        torch.zeros(shape, dtype=torch.uint8), torch.zeros(count, dtype=torch.long), names, names
    )
    # Not mixed: these are of one class, and the network has others.
    loader = TrainLoader(black, preprocess, _full(config, 1), runtime.device).unmixed()
    trained = _trained_count(config, source)
    measured = count_of(source) - trained  # more than validation, which comes after each epoch
    measured += min(PRECISE_PICTURES, trained) if config.train.precise_bn else 0
    return trained * update_seconds(model, loader, runtime) + measured * probe.forward_seconds


def _describe(name: str, probe: Probe, pictures: int) -> str:
    """Say what a probe found."""
    return tr(
        "{name} at {size} pixels: {forward_seconds:.0f} pictures/s here; features of "
        "{fresh:,} of {pictures:,} pictures, about {seconds:.0f} s",
        name=name,
        size=probe.size,
        forward_seconds=1 / probe.forward_seconds,
        fresh=probe.fresh,
        pictures=pictures,
        seconds=probe.seconds,
    )


def _full(config: RunConfig, epochs: int) -> RunConfig:
    """Return settings that train all layers on from a fitted head.

    Small steps that grow towards the output (arXiv 1801.06146), one cycle, light augmentation.
    """
    return replace(
        config,
        data=replace(config.data, flip=config.data.source not in UPRIGHT, zoom=0.2, light=0.1),
        optim=replace(
            config.optim, name="adamw", lr=5e-4, weight_decay=0.05, layer_decay=0.75,
            schedule="onecycle", warmup_fraction=0.2,
        ),
        train=replace(config.train, epochs=epochs, label_smoothing=0.1),
    )  # fmt: skip  # one setting a line would take twenty
