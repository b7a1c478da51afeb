"""From what a caller asks for in words to the settings of a run."""

import shlex
from collections.abc import Collection, Mapping
from pathlib import Path

from nunbit.config import RunConfig, section_fields
from nunbit.data.sources import anchored
from nunbit.errors import UsageError, did_you_mean
from nunbit.planning import budget_config, refuse_chosen
from nunbit.recipes import RECIPES, get_recipe
from nunbit.values import Setting, as_word

# A setting, and the values of another one with which nothing looks at it.
IDLE = (
    ("optim.momentum", "optim.name", ("adam", "adamw")),
    ("optim.warmup_fraction", "optim.schedule", ("constant", "cosine")),
    ("data.small_fraction", "data.small_size", (0,)),
)


def asked_config(
    recipe: str | RunConfig | None,
    data: str | Path | None,
    model: str | None,
    settings: Mapping[str, Setting],
    *,
    for_budget: bool = False,
) -> RunConfig:
    """Return the settings of a training, as `nunbit.train` takes them.

    Args:
        recipe: a name, a whole configuration, or None for the default of the data.
        data: in place of the recipe's.
        model: in place of the recipe's.
        settings: single fields.
        for_budget: without recipe and model, return the settings that a plan starts from.

    Raises:
        UsageError: unknown names, bad values, one thing that is said twice, or settings that the
            budget decides.
    """
    given = gathered(settings, {"data.source": data, "model.name": model})
    source = str(given.pop("data.source")) if "data.source" in given else None
    if isinstance(recipe, RunConfig):
        config = recipe if source is None else recipe.override({"data.source": source})
    elif for_budget and recipe is None and "model.name" not in given:
        config = budget_config("digits" if source is None else source)
    else:
        config = get_recipe(recipe, source)
    config = config.override(given)
    _require_effect(config, given)
    if for_budget:
        refuse_chosen(config, given)
    return anchored(config)


def _require_effect(config: RunConfig, given: Collection[str]) -> None:
    """Refuse a setting that was asked for and that nothing would look at.

    Raises:
        UsageError: naming what makes it idle.
    """
    for name, other, values in IDLE:
        section, field = other.split(".")
        value = getattr(getattr(config, section), field)
        if name in given and value in values:
            raise UsageError(
                "'{name}' has no effect while {other} is {value}",
                name=name,
                other=other,
                value=value,
            )


def gathered(
    settings: Mapping[str, Setting], short: Mapping[str, Setting] | None = None
) -> dict[str, Setting]:
    """Return settings by dotted name, with what shorter options say.

    Args:
        settings: in any spelling that `dotted` reads.
        short: values of options that have a name of their own, by the dotted name of the setting
            that they stand for; None is one that was not given.

    Raises:
        UsageError: an unknown name, or two answers to one question.
    """
    given = (short or {}).items()
    found: dict[str, Setting] = {name: value for name, value in given if value is not None}
    for name, value in settings.items():
        full = dotted(name)
        if full in found:
            raise UsageError(
                "'{name}' is given twice, in two spellings: leave one of them out", name=full
            )
        found[full] = value
    return found


def dotted(name: str) -> str:
    """Return `optim.lr` for `optim__lr`, and for `lr` where no earlier section has that name.

    Raises:
        UsageError: no section has a field of that name.
    """
    name = name.replace("-", "_")
    if "." in name or "__" in name:
        return name.replace("__", ".", 1)
    sections = ("train", "optim", "data", "eval")
    found = [section for section in sections if name in section_fields(section)]
    if not found:
        known = [field for section in sections for field in section_fields(section)]
        raise UsageError("no setting '{name}'; {hint}", name=name, hint=did_you_mean(name, known))
    return f"{found[0]}.{name}"


def spelled(config: RunConfig) -> str | None:
    """Return the command that asks for these settings, word by word: `nunbit train birds/net ...`.

    It is `asked_config` the other way round, for readers who have no run folder at hand. None where
    the settings came from elsewhere than a recipe, or have a value that no command can give.
    """
    if config.recipe not in RECIPES:
        return None
    recipe = RECIPES[config.recipe]()
    is_same_network = config.model.name == recipe.model.name
    args = recipe.model.args if is_same_network else {}
    given = {f"model.{k}": as_word(v) for k, v in config.model.args.items() if args.get(k) != v}
    given |= {n: as_word(v) for n, v in config.unlike(recipe).items() if n != "model.args"}
    try:
        if recipe.override(given) != config:
            return None
    except UsageError:
        return None
    words = [word for name, value in given.items() for word in (f"--{name}", value)]
    return shlex.join(["nunbit", "train", config.recipe, *words])
