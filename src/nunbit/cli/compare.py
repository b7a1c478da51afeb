"""The command that compares: `nunbit compare`."""

from typing import Any

from nunbit.cli.app import DEFAULT_OUTPUT, Output, Settings, command, say
from nunbit.language import mark, tr

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
    from rich import box
    from rich.console import Console
    from rich.table import Table

    has_texts = any(row["text_test"] is not None for row in rows)
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("recipe", no_wrap=True)
    names = ("parameters", "train %", "test %", "std", "loss", "seconds")
    for name in (*names, *(("text % train / test",) if has_texts else ())):
        table.add_column(name, justify="right", no_wrap=True)
    for row in sorted(rows, key=lambda row: -float(row["test_mean"])):
        low, high = row["test_ci95"]
        printed = (row["text_train"], row["text_test"])
        text = " / ".join("-" if share is None else f"{100 * share:.3g}" for share in printed)
        cells = [
            row["recipe"],
            f"{row['parameters']:,}",
            f"{100 * row['train_mean']:.1f}",
            f"{100 * row['test_mean']:.1f} ± {50 * (high - low):.1f}",
            "-" if row["test_std"] is None else f"{100 * row['test_std']:.2f}",
            f"{row['final_loss']:.3f}",
            f"{row['seconds']:.0f}",
        ]
        table.add_row(*cells, *([text if row["text_test"] else "-"] if has_texts else []))
    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = 120  # a file has no width, and rich would cut at 80
    console.print(table)
