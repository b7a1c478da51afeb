"""The command that shows what a training will show its network: `nunbit preview`."""

from pathlib import Path
from typing import Any

from nunbit.cli.app import DEFAULT_OUTPUT, Output, Settings, command, say
from nunbit.cli.words import training_of
from nunbit.language import mark, tr
from nunbit.values import as_word

PREVIEW = mark("""Examples:
  nunbit preview --data photos/
  nunbit preview --data photos/ --data.rotate 20 --data.light 0.3
  nunbit preview cifar10/speed --out speed.png

Pictures are changed anew in each epoch, as data.flip, data.flip_vertical, data.rotate,
data.shift_pixels, data.zoom, data.light, data.saturation and data.cutout say; `nunbit settings`
explains them. Look whether a person could still tell the classes.""")


@command(examples=PREVIEW)
def preview(
    recipe: str | None = None,
    /,
    *,
    data: str | None = None,
    model: str | None = None,
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
        model: A network; pretrained weights have their own size of pictures.
        out: A new .png file, or a folder for it; the default is the current folder.
        output: How to answer.
        settings: Settings by dotted name.
    """
    from nunbit.previewing import preview as draw

    found = draw(recipe, data=data, model=model, out=out, quiet=output.quiet, **(settings or {}))
    height, width, channels = found.size
    changes = ", ".join(f"{name} {as_word(value)}" for name, value in found.changes.items())
    say(
        output,
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
        tr("next:    {command}", command=training_of(recipe, data, model, settings)),
    )
    return found.to_dict()
