"""The command that looks for a learning rate: `nunbit lr-find`."""

from pathlib import Path
from typing import Any

from nunbit.cli.app import DEFAULT_OUTPUT, Output, Settings, command, say
from nunbit.cli.words import training_of
from nunbit.language import mark, tr

LR_FIND = mark("""Examples:
  nunbit lr-find birds/net
  nunbit lr-find --data photos/ --model cnn --model.width 16
  nunbit lr-find digits/cnn --optim.name sgd --out sgd.png

The suggestion is a tenth of the rate at which the loss is least: one to try first, and the peak of
a schedule. It depends on the optimizer and the batch size. Any setting of a training can be given
as --SECTION.FIELD VALUE; `nunbit settings` lists them.""")


@command("lr-find", examples=LR_FIND)
def lr_find(
    recipe: str | None = None,
    /,
    *,
    data: str | None = None,
    model: str | None = None,
    out: Path | None = None,
    steps: int = 100,
    output: Output = DEFAULT_OUTPUT,
    settings: Settings = None,
) -> dict[str, Any]:
    """Find a learning rate before a training: it grows from tiny to huge while the loss is watched.

    Also tells whether the network can learn one batch by heart; one that cannot will learn nothing
    else. Writes one picture and no run folder.

    Args:
        recipe: A named run (`nunbit recipes`).
        data: A known name, a folder of class folders, a .csv (path,label) or parquet.
        model: A network (`nunbit models`), timm:NAME or torchvision:NAME.
        out: A new .png file, or a folder for it; the default is the current folder.
        steps: Updates from the lowest rate to the highest.
        output: How to answer.
        settings: Settings by dotted name.
    """
    from nunbit.lrfind import lr_find as search

    found = search(
        recipe, data=data, model=model, out=out, steps=steps, quiet=output.quiet, **(settings or {})
    )
    say(
        output,
        tr(
            "suggested learning rate {suggestion:g}: a tenth of {least:.2g}, where the "
            "loss is least; it falls fastest at {steepest:.2g}",
            suggestion=found.suggestion,
            least=found.least,
            steepest=found.steepest,
        ),
        found.by_heart.line(),
        tr("picture: {file}", file=found.file),
        tr(
            "next:    {command} --optim.lr {suggestion:g}",
            command=training_of(recipe, data=data, model=model, **(settings or {})),
            suggestion=found.suggestion,
        ),
    )
    return found.to_dict()
