"""Commands that train: `nunbit train` and `nunbit resume`."""

import shlex
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from nunbit.cli.app import DEFAULT_OUTPUT, Output, Settings, command, left_of, say
from nunbit.cli.words import asked_recipe
from nunbit.language import mark, tr
from nunbit.values import Setting

TRAIN = mark("""Examples:
  nunbit train                        digits, in seconds
  nunbit train birds/net              the texts' network, bird or airplane
  nunbit train --data photos/         a folder with one folder per class
  nunbit train --data photos/ --budget 60s    planned for one minute
  nunbit train --data more/ --model.weights runs/photos-cnn    goes on from that model
  nunbit train birds/net --train.epochs 5 --optim.lr 0.02
  nunbit train --config runs/digits-cnn/config.json

Any setting can be given as --SECTION.FIELD VALUE; `nunbit settings` lists them.""")
RESUME = mark("""Examples:
  nunbit resume runs/birds-net""")


@command(examples=TRAIN)
def train(
    recipe: str | None = None,
    /,
    *,
    data: str | None = None,
    model: str | None = None,
    budget: str | None = None,
    run_dir: str | None = None,
    config: Path | None = None,
    skip_bad: Annotated[bool, Parameter(negative="")] = False,
    overrides: str | None = None,
    tensorboard: Annotated[bool, Parameter(negative="")] = False,
    output: Output = DEFAULT_OUTPUT,
    settings: Settings = None,
) -> dict[str, Any]:
    """Train a network, measure it, and write a run folder with a report.

    Args:
        recipe: A named run (`nunbit recipes`).
        data: A known name, a folder of class folders, a .csv (path,label) or parquet.
        model: A network (`nunbit models`), timm:NAME or torchvision:NAME.
        budget: Time for all of it (60s, 10m): chooses network and length for this machine.
        run_dir: A new folder for the run; the default is the next free one under runs/.
        config: The config.json of a run, to repeat it.
        skip_bad: Leave out unreadable pictures and list them.
        overrides: A .csv (path,action,label) of pictures to drop or relabel.
        tensorboard: Also write TensorBoard events, into the run folder.
        output: How to answer.
        settings: Settings by dotted name.
    """
    from nunbit import api
    from nunbit.asked import gathered

    short: dict[str, Setting] = {"data.skip_bad": skip_bad or None, "data.overrides": overrides}
    finished = api.train(
        asked_recipe(recipe, config),
        data=data,
        model=model,
        budget=None if budget is None else left_of(budget),
        run_dir=run_dir,
        tensorboard=tensorboard,
        quiet=output.quiet,
        **gathered(settings or {}, short),
    )
    result = finished.to_dict()
    say(output, *result_lines(result))
    return result


@command(examples=RESUME)
def resume(
    run: str, /, *, data: str | None = None, output: Output = DEFAULT_OUTPUT
) -> dict[str, Any]:
    """Go on with a training exactly where it stopped.

    Args:
        run: The run folder of a training that was stopped, killed or switched off.
        data: Where its data lies now, if it was moved.
        output: How to answer.
    """
    from nunbit import api

    result = api.resume(run, data=data, quiet=output.quiet)
    say(output, *result_lines(result))
    return result


def result_lines(result: dict[str, Any]) -> list[str]:
    """Say how a training ended: the accuracy, the report, and what to do next."""
    test, run_dir = result["test"], Path(result["run_dir"])
    low, high = test["ci95"]
    views = result.get("test_views")
    return [
        tr(
            "test accuracy {accuracy:.2%} (95 % interval {low:.2%} to {high:.2%}, "
            "n={count:,}), training {training:.2%}, {seconds:.1f} s",
            accuracy=test["accuracy"],
            low=low,
            high=high,
            count=test["n"],
            training=result["train"]["accuracy"],
            seconds=result["seconds"],
        ),
        *([_views_line(views)] if views else []),
        tr("report: {path}", path=run_dir / "report.html"),
        tr("next:   nunbit predict {run_dir} IMAGE...", run_dir=shlex.quote(str(run_dir))),
    ]


def _views_line(views: dict[str, Any]) -> str:
    low, high = views["ci95"]
    return tr(
        "mean over views ({views}) {accuracy:.2%} (95 % interval {low:.2%} to {high:.2%})",
        views=views["views"],
        accuracy=views["accuracy"],
        low=low,
        high=high,
    )
