"""From what a caller asks for in words to the settings of a run."""

import os
from collections.abc import Mapping
from pathlib import Path

from nunbit.config import RunConfig, section_fields
from nunbit.data.named import NAMED
from nunbit.errors import UsageError, did_you_mean
from nunbit.recipes import get_recipe
from nunbit.values import Setting


def asked_config(
    recipe: str | RunConfig | None,
    data: str | Path | None,
    model: str | None,
    settings: Mapping[str, Setting],
) -> RunConfig:
    """Return the settings of a training, as `nunbit.train` takes them."""
    given = {dotted(name): value for name, value in settings.items()}
    if data is None and "data.source" in given:
        data = str(given.pop("data.source"))
    if model is not None:
        given = {"model.name": model, **given}
    source = None if data is None else str(data)
    if isinstance(recipe, RunConfig):
        config = recipe if source is None else recipe.override({"data.source": source})
    else:
        config = get_recipe(recipe, source)
    return anchored(config.override(given))


def anchored(config: RunConfig) -> RunConfig:
    """Return settings whose data paths mean the same from any folder."""
    data = config.data
    paths = {"source": absolute(data.source), "overrides": absolute(data.overrides)}
    return config.override({f"data.{name}": path for name, path in paths.items()})


def absolute(source: str) -> str:
    """Return the absolute path of a data source that is one; a known name stays as it is."""
    is_path = source not in NAMED and os.path.exists(source)
    return os.path.abspath(source) if is_path else source


def dotted(name: str) -> str:
    """Return `optim.lr` for `optim__lr`, and for `lr` where no earlier section has that name.

    Raises:
        UsageError: no section has a field of that name.
    """
    if "." in name or "__" in name:
        return name.replace("__", ".", 1)
    sections = ("train", "optim", "data", "eval")
    found = [section for section in sections if name in section_fields(section)]
    if not found:
        known = [field for section in sections for field in section_fields(section)]
        raise UsageError("no setting '{name}'; {hint}", name=name, hint=did_you_mean(name, known))
    return f"{found[0]}.{name}"
