"""Classes that are empty, tiny, unbalanced, or missing where they are measured."""

import numpy as np

from nunbit.diagnosis.examination import Examination
from nunbit.diagnosis.findings import Finding
from nunbit.language import tr

LEAST = 3  # one for training, validation and test each: train refuses fewer
FEW = 20  # of 20, the default split tests 4: one mistake more is 25 points less
UNBALANCED, VERY_UNBALANCED = 3, 10  # largest class over smallest
NAMED = 5


def check_classes(pictures: Examination) -> list[Finding]:
    """Return what is wrong with the classes; unreadable pictures count as missing."""
    counts = pictures.class_counts
    found = []
    if len(counts) < 2:
        found.append(
            Finding("one-class", "error", tr("there is only one class"), tr("add a second one"))
        )
    needed = tr("train needs {least} pictures or more of each class", least=LEAST)
    wanted = tr("its accuracy cannot be measured well: add more")
    for kind, low, high, severity, advice in (
        ("tiny-class", 0, LEAST, "error", needed),
        ("small-class", LEAST, FEW, "warning", wanted),
    ):
        few = {name: n for name, n in counts.items() if low <= n < high}
        if few:
            said = tr(
                "classes with fewer than {high} readable pictures: {named}",
                high=high,
                named=_named(few),
            )
            found.append(Finding(kind, severity, said, advice))  # type: ignore[arg-type]  # literals
    filled = [n for n in counts.values() if n]
    ratio = max(filled, default=1) / min(filled, default=1)
    if ratio >= UNBALANCED:
        large, small = max(counts, key=lambda k: counts[k]), min(counts, key=lambda k: counts[k])
        found.append(
            Finding(
                "unbalanced",
                "warning" if ratio >= VERY_UNBALANCED else "note",
                tr(
                    "'{large}' has {ratio:.0f} times as many pictures as '{small}' ({most:,} "
                    "and {fewest:,})",
                    large=large,
                    ratio=ratio,
                    small=small,
                    most=counts[large],
                    fewest=counts[small],
                ),
                tr("look at each class's accuracy, not only at the mean"),
            )
        )
    return found + _missing_in_a_part(pictures)


def _missing_in_a_part(pictures: Examination) -> list[Finding]:
    """Find classes that a validation or test part lacks: they are trained and never measured."""
    names = pictures.source.class_names
    parts = np.array(pictures.parts)[pictures.readable]
    found = []
    for part in ("val", "test"):
        if part not in pictures.source.parts:
            continue
        labels = pictures.labels[pictures.readable][parts == part]
        counts = np.bincount(labels, minlength=len(names))
        gone = {name: 0 for name, n in zip(names, counts, strict=True) if not n}
        if gone:
            said = tr(
                "{part} has no readable picture of {classes}",
                part=part,
                classes=", ".join(map(repr, gone)),
            )
            found.append(Finding(f"missing-in-{part}", "warning", said, tr("add some")))
    return found


def _named(counts: dict[str, int]) -> str:
    rows = sorted(counts.items(), key=lambda row: row[1])
    more = tr(" and {count} more", count=len(rows) - NAMED) if len(rows) > NAMED else ""
    return ", ".join(f"'{name}' ({n})" for name, n in rows[:NAMED]) + more
