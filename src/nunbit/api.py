"""The verbs, as Python functions of the same names as the commands."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nunbit.bundle import (
    MODEL_FILE,
    Classifier,
    Picture,
    Prediction,
    find_pictures,
    load_classifier,
)
from nunbit.config import DataConfig, ModelConfig, RunConfig, section_fields
from nunbit.data.named import NAMED
from nunbit.data.preprocess import Preprocess
from nunbit.errors import UsageError, did_you_mean
from nunbit.finished import Finished
from nunbit.legacy.convert import Imported, convert
from nunbit.metrics import Metrics
from nunbit.models.registry import build_model, list_models
from nunbit.models.summary import Summary, summarize
from nunbit.progress import Display
from nunbit.recipes import get_recipe
from nunbit.reporting.page import write_report
from nunbit.run import resume_run, train_run
from nunbit.runfolder import next_run_dir, read_result
from nunbit.values import Setting


def train(
    recipe: str | RunConfig | None = None,
    *,
    data: str | Path | None = None,
    model: str | None = None,
    run_dir: str | Path | None = None,
    quiet: bool = False,
    **settings: Setting,
) -> Finished:
    """Train, measure and write a run folder with its report.

    Args:
        recipe: a name, a whole `RunConfig`, or None for the default.
        data: a known name, folder, .csv or parquet in place of the recipe's.
        model: a network in place of the recipe's.
        run_dir: a new folder; by default the next free one under ./runs.
        quiet: print nothing.
        settings: single fields, with their section (`optim__lr=0.1`) or without (`epochs=5`); a
            name without section is looked for in train, optim, data and eval, in this order.

    Raises:
        NunbitError: wrong settings, data that cannot be used, or a folder that cannot be written.
    """
    dotted = {_dotted(name): value for name, value in settings.items()}
    if data is None and "data.source" in dotted:
        data = str(dotted.pop("data.source"))
    if model is not None:
        dotted = {"model.name": model, **dotted}
    source = None if data is None else str(data)
    if isinstance(recipe, RunConfig):
        config = recipe if source is None else recipe.override({"data.source": source})
    else:
        config = get_recipe(recipe, source)
    config = config.override(dotted)
    folder = next_run_dir(config.recipe) if run_dir is None else Path(run_dir)
    return train_run(_anchored(config), folder, Display(quiet=quiet), write_report)


def resume(run: str | Path, *, quiet: bool = False) -> dict[str, Any]:
    """Go on with a run where it stopped, and return its result as `Finished.to_dict` does.

    Raises:
        MissingInputError: no such run.
        DataError: its data changed since it began, or all its checkpoints are damaged.
        LockedError: another process is writing it.
    """
    folder, display = Path(run), Display(quiet=quiet)
    finished = resume_run(folder, display, write_report)
    if finished is None:
        display.say(f"{folder} ended already; nothing to do")
        # The folder may have been moved since it wrote where it was.
        moved = {"run_dir": str(folder), "model_file": str(folder / MODEL_FILE)}
        return {**read_result(folder), **moved}
    return finished.to_dict()


def load(run: str | Path) -> Classifier:
    """Load a classifier from a run folder or a model file."""
    return load_classifier(run)


def predict(
    run: str | Path, pictures: Picture | Sequence[Picture], top: int = 5
) -> list[Prediction]:
    """Classify pictures; names of folders stand for the pictures in them."""
    classifier = load_classifier(run)
    found: list[Picture] = []
    for picture in [pictures] if isinstance(pictures, Picture) else pictures:
        is_path = isinstance(picture, str | Path)
        found += find_pictures([str(picture)]) if is_path else [picture]
    return classifier.predict(found, top)


def evaluate(run: str | Path, data: str | Path | None = None, *, quiet: bool = False) -> Metrics:
    """Measure a model on labelled data, or on the test split that its training held out.

    See `Classifier.evaluate`, which this calls after loading the model.
    """
    return load_classifier(run).evaluate(data, track=Display(quiet=quiet).track)


def import_weights(
    weights: str | Path,
    model: str,
    *,
    classes: Sequence[str] | None = None,
    mean: float | Sequence[float] = 0.0,
    std: float | Sequence[float] = 1.0,
    output: str | Path | None = None,
    **settings: Setting,
) -> Imported:
    """Make a model file of a state dict that `torch.save` wrote; see docs/import.md.

    Args:
        weights: a .pt or .pth file; it is checked, and unpickled in a process with limits.
        model: the network that the weights belong to.
        classes: names in the order of the outputs; by default 0, 1, ...
        mean: of pixels in [0, 1], one number or one a channel, as the training subtracted it.
        std: likewise, as the training divided by it.
        output: a new file; by default the weights' name with .safetensors.
        settings: `size` (32), `channels` (3), `resize`, and options as `model__width=32`.

    Raises:
        NunbitError: a file that is refused, weights that do not fit, wrong settings, or an output
            that exists.
    """
    given = {_dotted(name): value for name, value in settings.items()}
    allowed = ("data.size", "data.channels", "data.resize")
    for name in given:
        if name not in allowed and not name.startswith("model."):
            raise UsageError(f"'{name}' is not used by an import; {did_you_mean(name, allowed)}")
    start = RunConfig(data=DataConfig(size=32, channels=3), model=ModelConfig(name=model))
    config = start.override(given)
    count = config.data.channels
    preprocess = Preprocess(
        height=config.data.size,
        width=config.data.size,
        channels=count,
        resize=config.data.resize,
        mean=(mean,) * count if isinstance(mean, int | float) else tuple(mean),
        std=(std,) * count if isinstance(std, int | float) else tuple(std),
    )
    path = Path(weights).with_suffix(".safetensors") if output is None else Path(output)
    return convert(Path(weights), config.model, classes, preprocess, path)


def models() -> dict[str, list[dict[str, str]]]:
    """List nunbit's own networks by name and description."""
    rows = [{"name": name, "description": text} for name, text in list_models().items()]
    return {"models": rows}


def summary(
    name: str,
    *,
    size: int = 32,
    channels: int = 3,
    classes: int = 2,
    settings: Mapping[str, Setting] | None = None,
) -> Summary:
    """Return the layers of a network for square pictures.

    Args:
        name: a network of nunbit's, timm:NAME or torchvision:NAME.
        size: side in pixels.
        channels: 1 or 3.
        classes: number of outputs.
        settings: options as `{"model.width": 32}`.

    Raises:
        UsageError: an unknown network or option, or a size that it cannot take.
    """
    for label, value, allowed in (
        ("size", size, range(1, 1025)),
        ("channels", channels, (1, 3)),
        ("classes", classes, range(1, 100_001)),
    ):
        if value not in allowed:
            raise UsageError(f"{label} is {value}; allowed: {allowed}")
    model = RunConfig(model=ModelConfig(name=name)).override(settings or {}).model
    built = build_model(
        model.name,
        num_classes=classes,
        in_channels=channels,
        image_size=(size, size),
        args=model.args,
    )
    return summarize(built, channels, (size, size))


def _anchored(config: RunConfig) -> RunConfig:
    """Return settings whose data path means the same from any folder."""
    source = config.data.source
    if source in NAMED or not os.path.exists(source):
        return config
    return config.override({"data.source": os.path.abspath(source)})


def _dotted(name: str) -> str:
    """Return `optim.lr` for `optim__lr`, and for `lr` where no earlier section has that name."""
    if "." in name or "__" in name:
        return name.replace("__", ".", 1)
    sections = ("train", "optim", "data", "eval")
    found = [section for section in sections if name in section_fields(section)]
    if not found:
        known = [field for section in sections for field in section_fields(section)]
        raise UsageError(f"no setting '{name}'; {did_you_mean(name, known)}")
    return f"{found[0]}.{name}"
