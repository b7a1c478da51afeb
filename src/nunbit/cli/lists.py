"""Commands that list: `nunbit models`, `recipes` and `settings`."""

from typing import Any

from nunbit.cli.app import DEFAULT_OUTPUT, Output, Settings, command, say
from nunbit.errors import UsageError
from nunbit.language import mark, tr

MODELS = mark("""Examples:
  nunbit models
  nunbit models net
  nunbit models net --model.width 32 --classes 10
  nunbit models timm:resnet18 --size 128""")
RECIPES = mark("""Examples:
  nunbit recipes
  nunbit recipes --json""")
SETTINGS = mark("""Examples:
  nunbit settings
  nunbit settings --json""")


@command(examples=MODELS)
def models(
    name: str | None = None,
    /,
    *,
    size: int | None = None,
    channels: int | None = None,
    classes: int | None = None,
    output: Output = DEFAULT_OUTPUT,
    settings: Settings = None,
) -> dict[str, Any]:
    """List the networks, or show the layers of one.

    Args:
        name: A network.
        size: Side of the picture in pixels; the default is 32, or 224 for timm's and
            torchvision's.
        channels: 1 for grey, 3 for colour, which is the default.
        classes: Number of classes; the default is 2.
        output: How to answer.
        settings: Options of the network as --model.OPTION VALUE.
    """
    from nunbit import networks

    shape = {"size": size, "channels": channels, "classes": classes}
    asked = {key: value for key, value in shape.items() if value is not None}
    if name is None:
        if asked or settings:
            raise UsageError("the list takes no options; write: nunbit models NAME --size 64")
        found = networks.models()
        for row in found["models"]:
            say(output, f"{row['name']:14} {row['description']}")
        say(output, tr("and timm:NAME, torchvision:NAME"))
        return found
    summary = networks.summary(name, **asked, settings=settings or {})
    say(output, *summary.lines())
    return summary.to_dict()


@command(examples=RECIPES)
def recipes(*, output: Output = DEFAULT_OUTPUT) -> dict[str, Any]:
    """List the named runs, and the lessons that `nunbit explain` gives."""
    from nunbit.recipes import LESSONS, RECIPES

    rows = [
        {"name": name, "description": (make.__doc__ or "").split("\n")[0]}
        for name, make in RECIPES.items()
    ]
    for row in rows:
        say(output, f"{row['name']:14} {row['description']}")
    say(output, tr("lessons, for nunbit explain:"), *(f"{n:18} {tr(LESSONS[n])}" for n in LESSONS))
    return {"recipes": rows, "lessons": list(LESSONS)}


@command(examples=SETTINGS)
def settings(*, output: Output = DEFAULT_OUTPUT) -> dict[str, Any]:
    """List every setting with its default and meaning."""
    from nunbit.config import describe_settings

    rows = describe_settings()
    for row in rows:
        default = tr("default {value}", value=row["default"])
        words = f" {' | '.join(row['allowed'])}" if row["allowed"] else ""
        say(output, f"--{row['name']}{words} ({default})\n    {row['meaning']}")
    return {"settings": rows}
