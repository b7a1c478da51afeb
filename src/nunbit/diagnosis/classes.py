"""Classes that are empty, tiny, unbalanced, or missing where they are measured."""

import numpy as np

from nunbit.diagnosis.examination import Examination
from nunbit.diagnosis.findings import Finding
from nunbit.errors import listed
from nunbit.language import tr

LEAST = 3  # one for training, validation and test each: train refuses fewer
FEW = 20  # of 20, the default split tests 4: one mistake more is 25 points less
UNBALANCED, VERY_UNBALANCED = 3, 10  # largest class over smallest


def check_classes(pictures: Examination) -> list[Finding]:
    """Return what is wrong with the classes; unreadable pictures count as missing."""
    counts = pictures.class_counts
    found = []
    if len(counts) < 2:
        found.append(
            Finding("one-class", "error", tr("there is only one class"), tr("add a second one"))
        )
    tiny = {name: n for name, n in pictures.training_counts.items() if n < LEAST}
    if tiny:
        said = tr(
            "classes with fewer than {least} readable pictures to train on: {named}",
            least=LEAST,
            named=_named(tiny),
        )
        advice = tr("train needs {least} pictures or more of each class", least=LEAST)
        found.append(Finding("tiny-class", "error", said, advice))
    few = {name: n for name, n in counts.items() if n < FEW and name not in tiny}
    if few:
        said = tr(
            "classes with fewer than {high} readable pictures: {named}",
            high=FEW,
            named=_named(few),
        )
        advice = tr("its accuracy cannot be measured well: add more")
        found.append(Finding("small-class", "warning", said, advice))
    filled = sorted((n, name) for name, n in counts.items() if n)  # empty ones are named above
    ratio = filled[-1][0] / filled[0][0] if filled else 1
    if ratio >= UNBALANCED:
        (fewest, small), (most, large) = filled[0], filled[-1]
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
                    most=most,
                    fewest=fewest,
                ),
                tr(
                    "look at each class's accuracy, not only at the mean; --train.class-weight "
                    "balanced lets each class count the same"
                ),
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
        gone = [name for name, n in zip(names, counts, strict=True) if not n]
        if gone:
            said = tr(
                "{part} has no readable picture of {classes}",
                part=part,
                classes=listed(map(repr, gone)),
            )
            found.append(Finding(f"missing-in-{part}", "warning", said, tr("add some")))
    return found


def _named(counts: dict[str, int]) -> str:
    return listed(f"'{name}' ({n})" for n, name in sorted((n, name) for name, n in counts.items()))
