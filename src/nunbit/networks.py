"""The verbs about networks themselves: list them, look inside, and import weights."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from nunbit.asked import gathered
from nunbit.config import DataConfig, ModelConfig, RunConfig, require_used
from nunbit.data.preprocess import Preprocess
from nunbit.errors import DataError
from nunbit.language import tr
from nunbit.legacy.convert import Imported, convert
from nunbit.models.alone import build_alone
from nunbit.models.registry import list_models
from nunbit.models.summary import Summary, summarize
from nunbit.sections import require
from nunbit.values import Setting, path_of


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
    given = gathered(settings)
    require_used(given, "import", "data.size", "data.channels", "data.resize")
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
    file = path_of(weights, "weights")
    if not file.name:  # of "." and "/"
        raise DataError("{weights} is a folder; allowed: a .pt or .pth file", weights=file)
    path = file.with_suffix(".safetensors") if output is None else Path(output)
    return convert(file, config.model, classes, preprocess, path)


def models() -> dict[str, list[dict[str, str]]]:
    """List nunbit's own networks by name and description."""
    rows = [{"name": name, "description": text} for name, text in list_models().items()]
    return {"models": rows}


def summary(
    name: str,
    *,
    size: int | None = None,
    channels: int | None = None,
    classes: int = 2,
    settings: Mapping[str, Setting] | None = None,
) -> Summary:
    """Return the layers of a network for square pictures.

    Args:
        name: a network of nunbit's, timm:NAME or torchvision:NAME.
        size: side in pixels; by default 32, or 224 of the zoos' networks.
        channels: 1 or 3, by default 3.
        classes: number of outputs.
        settings: options as `{"model.width": 32}`; `data.size` and `data.channels` are the same as
            `size` and `channels`.

    Raises:
        UsageError: an unknown network or option, a size that it cannot take, or two answers to one
            question.
    """
    for label, value, allowed, words in (
        ("size", size, range(1, 1025), "1 to 1024"),
        ("channels", channels, (1, 3), tr("1 or 3")),
    ):
        require(value is None or value in allowed, label, value, words)
    given = gathered(settings or {}, {"data.size": size, "data.channels": channels})
    model, count, side = build_alone(name, classes, given, "models")
    return summarize(model, count, (side, side))
