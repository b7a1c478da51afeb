"""Run all twelve experiments and print their tables, or put them into a page.

    python examples/mistakes/all.py [--seeds 3] [--write docs/mistakes.md]

In the page, each table stands between `<!-- measured: a -->` and `<!-- end -->`.
"""

import importlib
import time
from datetime import date
from pathlib import Path

import torch
from plain import Row, cell, parse, read, table

from nunbit.runtime import versions

GUARDS = {  # what in nunbit makes the mistake impossible or loud
    "a_penalty": "one function, whose gradient is tested",
    "b_repeated_block": "no network may hold a module twice",
    "c_optimizer": "built last, from the model; all weights must move",
    "d_unshuffled": "always shuffled; there is no switch",
    "e_eval_mode": "one function measures, in eval mode",
    "f_last_batch": "every picture is measured once, whatever the batch",
    "g_logging": "the loop gives one result an epoch",
    "h_flatten": "every network is built for its size and tested",
    "i_forward": "a test reads the sources",
    "j_load": "no pickle but through a checked import",
    "k_normalisation": "measured on training pictures, stored with the model",
    "l_running_accuracy": "another name, and a second pass in eval mode",
}


def main() -> None:
    """Measure, print, and write if asked to."""
    parser = parse(__doc__)
    parser.add_argument("--write", type=Path, help="a page with a place for each table")
    words = parser.parse_args()
    torch.set_num_threads(1)
    data, start, parts, lines = read(words.data), time.process_time(), {}, []
    for name in GUARDS:
        module = importlib.import_module(name)
        rows = module.measure(data, words.seeds, words.epochs)
        title = (module.__doc__ or "").splitlines()[0]
        parts[name[0]] = table(rows)
        lines.append(summary_line(name, title, rows[0]))
        print(f"{title}\n\n{parts[name[0]]}\n", flush=True)
    head = (
        "| mistake | measured | wrong | right | guard in nunbit |\n| --- | --- | --- | --- | --- |"
    )
    parts["all"] = "\n".join([head, *lines])
    seconds = time.process_time() - start
    machine = ", ".join(f"{what} {version}" for what, version in versions().items())
    parts["how"] = (
        f"{date.today()}: {words.seeds} seeds, {words.epochs} epochs, {words.data}; {machine}, "
        f"one thread; {seconds:.0f} s of processor time."
    )
    print(f"{parts['all']}\n\n{parts['how']}")
    if words.write:
        words.write.write_text(fill(words.write.read_text(), parts))


def summary_line(name: str, title: str, row: Row) -> str:
    """Return an experiment's line in the first table: its first row and its guard."""
    letter, text = title[1], title[4:].rstrip(".")
    cells = (f"[({letter})](#{letter}) {text}", row.what, cell(row.wrong), cell(row.right))
    return f"| {' | '.join(cells)} | {GUARDS[name]} |"


def fill(page: str, parts: dict[str, str]) -> str:
    """Return a page with its measured parts replaced.

    Raises:
        ValueError: the page has no place for a part.
    """
    for name, text in parts.items():
        start, end = f"<!-- measured: {name} -->\n", "<!-- end -->"
        if page.count(start) != 1:
            raise ValueError(f"the page has {page.count(start)} places for '{name}'; needed: one")
        before, rest = page.split(start)
        page = f"{before}{start}{text}\n{end}{rest.partition(end)[2]}"
    return page


if __name__ == "__main__":
    main()
