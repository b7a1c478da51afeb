"""The command that shows what a training will show its network: `nunbit preview`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from nunbit.cli.app import DEFAULT_OUTPUT, Output, Settings, command, say
from nunbit.cli.words import asked_recipe, training_of
from nunbit.language import mark, tr
from nunbit.values import as_word

if TYPE_CHECKING:
    from nunbit.previewing import Preview

PREVIEW = mark("""Examples:
  nunbit preview --data photos/
  nunbit preview --data photos/ --data.rotate 20 --data.light 0.3
  nunbit preview cifar10/speed --out speed.png

Pictures are changed anew in each epoch, as data.flip, data.flip_vertical, data.rotate,
data.shift_pixels, data.zoom, data.light, data.saturation and data.cutout say, and mixed with others
as data.mixup and data.cutmix say: then the share of the own class stands above. `nunbit settings`
explains them. Look whether a person could still tell the classes; --train.seed 1 shows others.""")


@command(examples=PREVIEW)
def preview(
    recipe: str | None = None,
    /,
    *,
    data: str | None = None,
    model: str | None = None,
    config: Path | None = None,
    out: Path | None = None,
    output: Output = DEFAULT_OUTPUT,
    settings: Settings = None,
) -> dict[str, Any]:
    """Draw training pictures as the network will be shown them: cut, resized, and changed anew.

    Writes one picture and trains nothing. Each row is a picture as it is and as the first epochs of
    the training change it; where nothing changes them, more pictures are shown instead.

    Args:
        recipe: A named run (`nunbit recipes`).
        data: A known name, a folder of class folders, a .csv (path,label) or parquet.
        model: A network; with --model.weights it says what the pictures look like.
        config: The config.json of a run, also of one that finetune or a budget chose.
        out: A new .png file, or a folder for it; the default is the current folder.
        output: How to answer.
        settings: Settings by dotted name.
    """
    from nunbit.previewing import preview as draw

    found = draw(
        asked_recipe(recipe, config),
        data=data,
        model=model,
        out=out,
        quiet=output.quiet,
        **(settings or {}),
    )
    words = {"config": config, "data": data, "model": model, **(settings or {})}
    say(output, *_lines(found), tr("next:    {command}", command=training_of(recipe, **words)))
    return found.to_dict()


def _lines(found: "Preview") -> list[str]:
    """Say of what the sheet is, and where it lies."""
    height, width, channels = found.size
    changes = ", ".join(f"{name} {as_word(value)}" for name, value in found.changes.items())
    return [
        tr(
            "{recipe}: {train:,} training pictures, {classes} classes, {width}x{height}x{channels}",
            recipe=found.recipe,
            train=found.train_n,
            classes=found.classes,
            height=height,
            width=width,
            channels=channels,
        ),
        tr("changes: {changes}", changes=changes or tr("none; every epoch shows them as they are")),
        tr("picture: {file}", file=found.file),
    ]
