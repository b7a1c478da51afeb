"""The command that compares: `nunbit compare`."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from nunbit.cli.app import DEFAULT_OUTPUT, Output, Settings, command, say
from nunbit.language import mark, tr

if TYPE_CHECKING:
    from rich.table import Table

SPARE = ("std", "loss", "parameters", "train %")  # what a narrow terminal does without, in order
WIDE = 1000  # columns; as long as no table is

COMPARE = mark("""Examples:
  nunbit compare birds                all recipes of the family (birds/resdeep takes hours)
  nunbit compare birds/net birds/width --seeds 5
  nunbit compare mnist/speed --seeds 5          how far a seed alone moves one recipe
  nunbit compare photos/cnn photos/cnn:optim.lr=0.01 --data photos/
  nunbit compare birds/net birds/res --train.epochs 10

Stopped or killed, the same command goes on where it was; more seeds add to what is there. Any
setting can be given as --SECTION.FIELD VALUE, for all runs; `nunbit settings` lists them.""")


@command(examples=COMPARE)
def compare(
    *recipes: str,
    seeds: int = 3,
    data: str | None = None,
    run_dir: str | None = None,
    jobs: int = 0,
    output: Output = DEFAULT_OUTPUT,
    settings: Settings = None,
) -> dict[str, Any]:
    """Train recipes with several seeds on the same pictures, and say which differences are real.

    Args:
        recipes: Recipes, a family (birds), or a recipe with settings (birds/net:optim.lr=0.1).
        seeds: Trainings of each recipe.
        data: A known name, a folder of class folders, a .csv (path,label) or parquet for all.
        run_dir: A folder for the runs and the results; the default follows from the arguments.
        jobs: Trainings at once, which share the cores; 0 takes one for each core.
        output: How to answer.
        settings: Settings of all runs by dotted name.
    """
    from nunbit import api

    comparison = api.compare(
        recipes,
        seeds=seeds,
        data=data,
        run_dir=run_dir,
        jobs=jobs,
        quiet=output.quiet,
        **(settings or {}),
    )
    result = comparison.to_dict()
    if not output.json and not output.quiet:
        print_table(result["table"])
    shown = [d["sentence"] for d in result["differences"] if d["real"]]
    say(output, *(f"* {finding}" for finding in result["findings"]), *shown)
    say(
        output,
        tr("figure: {path}", path=result["figure"]),
        tr("page:   {path}", path=result["page"]),
    )
    return result


def print_table(rows: list[dict[str, Any]]) -> None:
    """Print the rows of `Comparison.to_dict`, the best first."""
    from rich.console import Console

    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = WIDE  # a file has no width, and rich would cut at 80
    columns = _columns_of(sorted(rows, key=lambda row: -float(row["test_mean"])))
    whole = console.options.update(width=WIDE)
    spare = iter(SPARE)
    while console.measure(_table(columns), options=whole).maximum > console.width:
        head = next(spare, None)
        if head is None:
            break
        columns.pop(head, None)
    console.print(_table(columns))


def _columns_of(rows: list[dict[str, Any]]) -> dict[str, list[str]]:
    """Return the cells of the printed table by the heads of its columns."""
    columns: dict[str, list[str]] = {}

    def add(head: str, cell: Callable[[dict[str, Any]], str]) -> None:
        columns[head] = [cell(row) for row in rows]

    add("recipe", lambda row: row["recipe"])
    add("parameters", lambda row: f"{row['parameters']:,}")
    add("train %", lambda row: _percent(row["train_mean"]))
    add("test % (95 % interval)", _test)
    add("std", lambda row: "-" if row["test_std"] is None else f"{100 * row['test_std']:.2f}")
    add("loss", lambda row: f"{row['final_loss']:.3f}")
    add("seconds", lambda row: f"{row['seconds']:.0f}")
    if any(row["text_test"] is not None for row in rows):
        add("text % train / test", _text)
    return columns


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


def _test(row: dict[str, Any]) -> str:
    """Return a mean with the ends of its interval, in whose middle it need not lie."""
    low, high = map(_percent, row["test_ci95"])
    return f"{_percent(row['test_mean'])} ({low} to {high})"


def _text(row: dict[str, Any]) -> str:
    printed = (row["text_train"], row["text_test"])
    words = ("-" if share is None else f"{100 * share:.3g}" for share in printed)
    return " / ".join(words) if row["text_test"] else "-"


def _table(columns: dict[str, list[str]]) -> "Table":
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD)
    for head in columns:
        table.add_column(head, justify="left" if head == "recipe" else "right", no_wrap=True)
    for cells in zip(*columns.values(), strict=True):
        table.add_row(*cells)
    return table
