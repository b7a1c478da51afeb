"""Commands that use a trained model: `nunbit predict`, `evaluate` and `import`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from nunbit.cli.app import (
    DEFAULT_OUTPUT,
    Output,
    PictureName,
    Settings,
    command,
    complain,
    require_no_option,
    say,
)
from nunbit.errors import DataError, UsageError
from nunbit.language import mark, tr
from nunbit.streams import silence
from nunbit.values import Setting

if TYPE_CHECKING:
    from nunbit.prediction import Prediction

PREDICT = mark("""Examples:
  nunbit predict runs/digits-cnn photo.jpg
  nunbit predict runs/photos-cnn holiday/ --output holiday.csv
  cat photo.jpg | nunbit predict runs/photos-cnn -""")
EVALUATE = mark("""Examples:
  nunbit evaluate runs/digits-cnn     its own held-out test split
  nunbit evaluate runs/photos-cnn --data more-photos/""")
IMPORT = mark("""Examples:
  nunbit import weights.pt --model net --classes airplane,bird
  nunbit import weights.pt --model cnn --size 28 --channels 1 --mean 0.1307 --std 0.3081
  nunbit import weights.pt --model net --model.width 32 --output net.safetensors""")


@command(examples=PREDICT)
def predict(
    run: str,
    /,
    *images: PictureName,
    top: int = 5,
    file: Annotated[Path | None, Parameter(name="--output")] = None,
    output: Output = DEFAULT_OUTPUT,
) -> dict[str, Any]:
    """Classify pictures with a trained model.

    A picture that cannot be read is named, the others are classified all the same, and the exit
    code is 65.

    Args:
        run: A run folder or a model file.
        images: Picture files, folders of any size, or - for one picture on standard input.
        top: How many classes --json lists per picture; two at least where it is unsure.
        file: A new .csv file with a line for each picture, written as they are classified.
        output: How to answer.
    """
    if not images:
        raise UsageError("no pictures given; write: nunbit predict RUN IMAGE...")
    require_no_option("predict", images)
    from nunbit import api
    from nunbit.data.given import find_pictures
    from nunbit.data.pictures import Skipped
    from nunbit.places import require_new_file
    from nunbit.prediction import answers_table
    from nunbit.progress import Display

    if file is not None:
        require_new_file(file)
    classifier = api.load(run)
    found = find_pictures(sys.stdin.buffer.read() if name == "-" else name for name in images)
    # Where the lines go to a terminal, they are the progress.
    has_lines = not output.json and sys.stdout.isatty()
    display = Display(quiet=output.quiet or has_lines)
    predictions, unreadable, code = [], [], 0  # kept for JSON only: there may be millions
    answers = display.track(classifier.predict_each(found, top), len(found), tr("classifying"))
    with answers_table(file) as write:
        for said in answers:
            write(said)
            if isinstance(said, Skipped):
                code = DataError.exit_code
                complain(tr("{name} cannot be read: {error}", name=said.name, error=said.reason))
                unreadable += [{"path": said.name, "reason": said.reason}] if output.json else []
            else:
                _say_beside(file, output, _line(said))
                predictions += [said.to_dict()] if output.json else []
    return {"predictions": predictions, "unreadable": unreadable, "exit_code": code}


@command(examples=EVALUATE)
def evaluate(
    run: str,
    /,
    *,
    data: str | None = None,
    skip_bad: Annotated[bool, Parameter(negative="")] = False,
    output: Output = DEFAULT_OUTPUT,
) -> dict[str, Any]:
    """Measure a trained model on labelled data.

    Args:
        run: A run folder or a model file.
        data: A known name, folder, .csv or parquet; the default is the run's own test split.
        skip_bad: Leave out unreadable pictures and list them.
        output: How to answer.
    """
    from nunbit import api
    from nunbit.conclusion import describe_answers

    metrics = api.evaluate(run, data, skip_bad=skip_bad, quiet=output.quiet)
    low, high = metrics.ci95
    say(
        output,
        tr(
            "accuracy {accuracy:.2%} ({low:.2%} to {high:.2%}), n={n:,}",
            accuracy=metrics.accuracy,
            low=low,
            high=high,
            n=metrics.n,
        ),
    )
    for row in metrics.per_class:
        say(
            output,
            tr(
                "  {label}: recall {recall:.1%}, precision {precision:.1%}, n={n:,}",
                label=row.label,
                recall=row.recall,
                precision=row.precision,
                n=row.n,
            ),
        )
    if metrics.answers:
        say(output, describe_answers(metrics.answers))
    return metrics.to_dict()


def _say_beside(file: Path | None, output: Output, line: str) -> None:
    """Print a line; a reader that goes away (`| head`) does not end the writing of a table."""
    try:
        say(output, line)
    except BrokenPipeError:
        if file is None:
            raise
        silence(sys.stdout)


def _line(prediction: "Prediction") -> str:
    """Return what is printed of one picture: its answer, and how sure the network is."""
    answer, path = prediction.answer, prediction.path
    if prediction.verdict == "foreign":
        return f"{path}: {answer}"
    count = 2 if prediction.verdict == "unsure" else 1
    return f"{path}: {answer} ({', '.join(f'{p:.1%}' for _, p in prediction.top[:count])})"


@command("import", examples=IMPORT)
def import_(
    weights: str,
    /,
    *,
    model: str,
    classes: str | None = None,
    size: int | None = None,
    channels: int | None = None,
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
        size: Side of the pictures in pixels; the default is 32.
        channels: 1 for grey, 3 for colour, which is the default.
        mean: What the training subtracted from pixels in [0, 1]; one number or one a channel.
        std: What the training divided by.
        file: A new file; the default is the name of the weights with .safetensors.
        output: How to answer.
        settings: Options of the network as --model.OPTION VALUE.
    """
    from nunbit import networks
    from nunbit.asked import gathered

    names = None if classes is None else [name.strip() for name in classes.split(",")]
    short: dict[str, Setting] = {"data.size": size, "data.channels": channels}
    given: dict[str, Any] = gathered(settings or {}, short)
    given |= {"mean": _numbers("mean", mean), "std": _numbers("std", std)}
    made = networks.import_weights(weights, model, classes=names, output=file, **given)
    result = made.to_dict()
    say(
        output,
        tr(
            "{model}, {parameters:,} parameters, {count} classes",
            model=result["model"],
            parameters=result["parameters"],
            count=len(result["classes"]),
        ),
        tr("model:  {path}", path=made.path),
        tr("next:   nunbit evaluate {path} --data SOURCE", path=made.path),
    )
    return result


def _numbers(name: str, text: str) -> float | list[float]:
    """Read one number, or several with commas."""
    try:
        numbers = [float(word) for word in text.split(",")]
    except ValueError:
        raise UsageError(
            "--{name} is {value!r}; allowed: numbers with commas", name=name, value=text
        ) from None
    return numbers if len(numbers) > 1 else numbers[0]
