"""Seconds to a test accuracy, from choosing the precision to the last update, means over seeds.

    NUNBIT_DATA=path/to/data python benchmarks/time_to_accuracy.py [--seeds 3] [--rows 0,1,2]

Each row is a recipe with settings that were chosen before, trained once for each seed with all
cores; one plain forward pass a picture at the end, and the mean over several views as a figure of
its own: six, or three of digits, whose mirror images are no digits. The seconds are those that
`nunbit train` reports: choosing the precision, building the network, whitening and all updates;
reading the pictures and measuring are not in them.
"""

import argparse
import statistics

from machine import describe_machine  # both beside this file
from trained import train_once

ROWS: list[tuple[str, str, float, dict[str, int | str]]] = [
    ("CIFAR-10 (JPEG copy)", "cifar10/speed", 0.8298, {}),
    ("CIFAR-10 (JPEG copy)", "cifar10/speed", 0.88, {"train.epochs": 5, "train.batch_size": 500}),
    (
        "CIFAR-10 (JPEG copy)",
        "cifar10/speed",
        0.91,
        {"train.epochs": 6, "train.batch_size": 500, "model.width": 64},
    ),
    ("birds", "birds/speed", 0.89, {}),
    ("birds", "birds/speed", 0.95, {"train.epochs": 8, "model.width": 32}),
    ("MNIST", "mnist/speed", 0.99, {}),
    ("MNIST", "mnist/speed", 0.995, {"train.epochs": 3, "model.width": 16}),
]


def main() -> None:
    """Train every row and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rows", default=",".join(map(str, range(len(ROWS)))))
    words = parser.parse_args()
    print(describe_machine())
    print("| data | wanted | recipe | seconds | test | over views | seeds |")
    print("| --- | ---: | --- | ---: | ---: | ---: | --- |")
    for number in map(int, words.rows.split(",")):
        print(row(number, words.seeds), flush=True)


def row(number: int, seeds: int) -> str:
    """Train one row with all its seeds."""
    data, recipe, wanted, settings = ROWS[number]
    seconds, plain, views = [], [], []
    for seed in range(seeds):
        seen = "shift" if data == "MNIST" else "both"
        run = train_once(recipe, seed, views=seen, **settings)
        seconds.append(run.seconds)
        plain.append(run.test.accuracy)
        views += [run.views.accuracy] if run.views else []
    words = " ".join([recipe, *(f"--{name} {value}" for name, value in settings.items())])
    mean = statistics.mean(plain)
    mark = "" if mean >= wanted else " (missed)"
    over_views = f"{statistics.mean(views):.2%}" if views else "-"
    return (
        f"| {data} | {wanted:.2%} | `{words}` | {statistics.mean(seconds):.1f} | {mean:.2%}{mark} "
        f"| {over_views} | {', '.join(f'{accuracy:.2%}' for accuracy in plain)} |"
    )


if __name__ == "__main__":
    main()
