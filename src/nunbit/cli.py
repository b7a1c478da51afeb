"""The command line: one thin function per verb. Importing this module never imports torch."""

import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, CycloptsError, Parameter

from nunbit.config import split_settings
from nunbit.errors import MissingInputError, NunbitError, UsageError
from nunbit.examples import EXAMPLES
from nunbit.values import Setting

Settings = Annotated[dict[str, Setting] | None, Parameter(parse=False)]

app = App(
    name="nunbit",
    help="Train, compare, explain and ship image classifiers, on the machine you have.",
    help_epilogue="Start with `nunbit train` (seconds, no download), then look at the report it "
    "names.\nNUNBIT_DATA names folders with data sets; NUNBIT_OFFLINE=1 forbids downloads.",
    help_format="plaintext",
    version_flags=["--version"],
    result_action="return_value",
)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Output:
    """How a command answers."""

    json: Annotated[bool, Parameter(negative="")] = False
    """Print one JSON object as the last line of standard output."""
    quiet: Annotated[bool, Parameter(negative="")] = False
    """Print no progress."""


DEFAULT_OUTPUT = Output()


@app.command(help_epilogue=EXAMPLES["train"])
def train(
    recipe: str | None = None,
    /,
    *,
    data: str | None = None,
    model: str | None = None,
    run_dir: Path | None = None,
    config: Path | None = None,
    skip_bad: Annotated[bool, Parameter(negative="")] = False,
    output: Output = DEFAULT_OUTPUT,
    settings: Settings = None,
) -> dict[str, Any]:
    """Train a network, measure it, and write a run folder with a report.

    Args:
        recipe: A named run (`nunbit recipes`).
        data: A known name, a folder of class folders, a .csv (path,label) or parquet.
        model: A network (`nunbit models`), timm:NAME or torchvision:NAME.
        run_dir: A new folder for the run; the default is the next free one under runs/.
        config: The config.json of a run, to repeat it.
        skip_bad: Leave out unreadable pictures and list them.
        output: How to answer.
        settings: Settings by dotted name.
    """
    from nunbit import api
    from nunbit.config import RunConfig

    if config is not None and recipe is not None:
        raise UsageError(f"both a recipe ('{recipe}') and --config were given; choose one")
    chosen: str | RunConfig | None = recipe
    if config is not None:
        chosen = RunConfig.from_json(_read_text(config))
    given = {**(settings or {}), **({"data.skip_bad": True} if skip_bad else {})}
    finished = api.train(
        chosen, data=data, model=model, run_dir=run_dir, quiet=output.quiet, **given
    )
    result = finished.to_dict()
    _say(output, *_result_lines(result))
    return result


@app.command(help_epilogue=EXAMPLES["resume"])
def resume(run: Path, /, *, output: Output = DEFAULT_OUTPUT) -> dict[str, Any]:
    """Go on with a training exactly where it stopped.

    Args:
        run: The run folder of a training that was stopped, killed or switched off.
        output: How to answer.
    """
    from nunbit import api

    result = api.resume(run, quiet=output.quiet)
    _say(output, *_result_lines(result))
    return result


@app.command(help_epilogue=EXAMPLES["predict"])
def predict(
    run: Path,
    /,
    *images: Annotated[str, Parameter(allow_leading_hyphen=True)],
    top: int = 5,
    output: Output = DEFAULT_OUTPUT,
) -> dict[str, Any]:
    """Classify pictures with a trained model.

    Args:
        run: A run folder or a model file.
        images: Picture files, folders, or - for one picture on standard input.
        top: How many classes to list per picture.
        output: How to answer.
    """
    if not images:
        raise UsageError("no pictures given; write: nunbit predict RUN IMAGE...")
    from nunbit import api

    found = api.predict(run, [sys.stdin.buffer.read() if i == "-" else i for i in images], top)
    for prediction in found:
        _say(output, f"{prediction.path}: {prediction.label} ({prediction.probability:.1%})")
    return {"predictions": [prediction.to_dict() for prediction in found]}


@app.command(help_epilogue=EXAMPLES["evaluate"])
def evaluate(
    run: Path, /, *, data: str | None = None, output: Output = DEFAULT_OUTPUT
) -> dict[str, Any]:
    """Measure a trained model on labelled data.

    Args:
        run: A run folder or a model file.
        data: A known name, folder, .csv or parquet; the default is the run's own test split.
        output: How to answer.
    """
    from nunbit import api

    metrics = api.evaluate(run, data, quiet=output.quiet)
    low, high = metrics.ci95
    _say(output, f"accuracy {metrics.accuracy:.2%} ({low:.2%} to {high:.2%}), n={metrics.n:,}")
    for row in metrics.per_class:
        _say(
            output,
            f"  {row.label}: recall {row.recall:.1%}, precision {row.precision:.1%}, n={row.n:,}",
        )
    return metrics.to_dict()


@app.command(name="import", help_epilogue=EXAMPLES["import"])
def import_(
    weights: Path,
    /,
    *,
    model: str,
    classes: str | None = None,
    size: int = 32,
    channels: int = 3,
    mean: str = "0",
    std: str = "1",
    file: Annotated[Path | None, Parameter(name="--output")] = None,
    output: Output = DEFAULT_OUTPUT,
    settings: Settings = None,
) -> dict[str, Any]:
    """Make a model file of a state dict that torch.save wrote.

    Args:
        weights: A .pt or .pth file, which is read in a process of its own, with limits.
        model: The network that the weights belong to.
        classes: Names in the order of the outputs, with commas; the default is 0,1,...
        size: Side of the pictures in pixels.
        channels: 1 for grey, 3 for colour.
        mean: What the training subtracted from pixels in [0, 1]; one number or one a channel.
        std: What the training divided by.
        file: A new file; the default is the name of the weights with .safetensors.
        output: How to answer.
        settings: Options of the network as --model.OPTION VALUE.
    """
    from nunbit import api

    names = None if classes is None else [name.strip() for name in classes.split(",")]
    given: dict[str, Any] = {"data.size": size, "data.channels": channels, **(settings or {})}
    given |= {"mean": _numbers("mean", mean), "std": _numbers("std", std)}
    made = api.import_weights(weights, model, classes=names, output=file, **given)
    result = made.to_dict()
    _say(
        output,
        f"{result['model']}, {result['parameters']:,} parameters, {len(result['classes'])} classes",
        f"model:  {made.path}",
        f"next:   nunbit evaluate {made.path} --data SOURCE",
    )
    return result


@app.command(help_epilogue=EXAMPLES["models"])
def models(
    name: str | None = None,
    /,
    *,
    size: int = 32,
    channels: int = 3,
    classes: int = 2,
    output: Output = DEFAULT_OUTPUT,
    settings: Settings = None,
) -> dict[str, Any]:
    """List the networks, or show the layers of one.

    Args:
        name: A network.
        size: Side of the picture in pixels.
        channels: 1 for grey, 3 for colour.
        classes: Number of classes.
        output: How to answer.
        settings: Options of the network as --model.OPTION VALUE.
    """
    from nunbit import api

    if name is None:
        found = api.models()
        for row in found["models"]:
            _say(output, f"{row['name']:14} {row['description']}")
        _say(output, "and timm:NAME, torchvision:NAME")
        return found
    summary = api.summary(
        name, size=size, channels=channels, classes=classes, settings=settings or {}
    )
    _say(output, *summary.lines())
    return summary.to_dict()


@app.command(help_epilogue=EXAMPLES["recipes"])
def recipes(*, output: Output = DEFAULT_OUTPUT) -> dict[str, Any]:
    """List the named runs."""
    from nunbit.recipes import RECIPES

    rows = [
        {"name": name, "description": (make.__doc__ or "").split("\n")[0]}
        for name, make in RECIPES.items()
    ]
    for row in rows:
        _say(output, f"{row['name']:14} {row['description']}")
    return {"recipes": rows}


@app.command(help_epilogue=EXAMPLES["settings"])
def settings(*, output: Output = DEFAULT_OUTPUT) -> dict[str, Any]:
    """List every setting with its default and meaning."""
    from nunbit.config import describe_settings

    rows = describe_settings()
    for row in rows:
        _say(output, f"--{row['name']} (default {row['default']})\n    {row['meaning']}")
    return {"settings": rows}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; nothing but this function prints errors."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        words, given = split_settings(words)
        command, bound, hidden = app.parse_args(
            words, exit_on_error=False, print_error=False, verbose=False
        )
        return _run(command, bound, hidden, given)
    except CycloptsError as error:
        return _fail(_one_line(str(error)), UsageError.exit_code)
    except NunbitError as error:
        return _fail(_one_line(str(error)), error.exit_code)
    except PermissionError as error:
        return _fail(f"no permission: {error.filename}", MissingInputError.exit_code)
    except KeyboardInterrupt:
        return _fail("stopped", 128 + signal.SIGINT)
    except BrokenPipeError:
        # The reader went away (`| head`); say nothing more, not even at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _run(
    command: Callable[..., Any], bound: Any, hidden: dict[str, Any], given: dict[str, Setting]
) -> int:
    if given and "settings" not in hidden:
        raise UsageError(f"this command takes no settings, but --{next(iter(given))} was given")
    extra = {"settings": given} if "settings" in hidden else {}
    result = command(*bound.args, **bound.kwargs, **extra)
    output = bound.kwargs.get("output", DEFAULT_OUTPUT)
    if isinstance(result, dict) and output.json:
        sys.stdout.write(json.dumps(result, ensure_ascii=False, allow_nan=False) + "\n")
    return 0


def _result_lines(result: dict[str, Any]) -> list[str]:
    test, run_dir = result["test"], Path(result["run_dir"])
    low, high = test["ci95"]
    return [
        f"test accuracy {test['accuracy']:.2%} (95 % interval {low:.2%} to {high:.2%}, "
        f"n={test['n']:,}), training {result['train']['accuracy']:.2%}, "
        f"{result['seconds']:.1f} s",
        f"report: {run_dir / 'report.html'}",
        f"next:   nunbit predict {run_dir} IMAGE...",
    ]


def _say(output: Output, *lines: str) -> None:
    """Print for a person: on standard output, unless that is for JSON or silence."""
    if not output.json and not output.quiet:
        sys.stdout.write("\n".join(lines) + "\n")


def _fail(message: str, code: int) -> int:
    sys.stderr.write(f"nunbit: {message}\n")
    return code


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _numbers(name: str, text: str) -> float | list[float]:
    """Read one number, or several with commas."""
    try:
        numbers = [float(word) for word in text.split(",")]
    except ValueError:
        raise UsageError(f"--{name} is {text!r}; allowed: numbers with commas") from None
    return numbers if len(numbers) > 1 else numbers[0]


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise MissingInputError(f"cannot read {path}: {error}") from error
