"""What a comparison shows, pair by pair and in sentences that one may believe."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from nunbit.comparison.statistics import difference_interval, holm, mcnemar, spread_test
from nunbit.comparison.table import Row
from nunbit.language import tr, trn

LEVEL = 0.05  # chance of any false finding among all pairs


@dataclass(frozen=True)
class Difference:
    """Two recipes, the better one first; accuracies are fractions."""

    better: str
    worse: str
    difference: float
    ci95: tuple[float, float]
    """Of the difference, over other pictures and other seeds; not corrected for other pairs."""
    p: float
    """The larger of McNemar's test and of the test that counts the seeds' spread."""
    p_corrected: float
    """Holm's correction for the number of pairs."""
    real: bool
    """p_corrected is below 5 %."""
    sentence: str

    def to_dict(self) -> dict[str, Any]:
        """Return the fields for JSON."""
        return asdict(self)


def find_differences(rows: Sequence[Row], pictures: int) -> list[Difference]:
    """Return every pair of recipes; real differences first, then by size."""
    pairs = [
        (a, b) if a.test_mean >= b.test_mean else (b, a) for a, b in itertools.combinations(rows, 2)
    ]
    tests = (mcnemar, spread_test)  # the pictures that decide, and the seeds that might have been
    p_values = [max(test(a.correct, b.correct) for test in tests) for a, b in pairs]
    found = [
        _difference(a, b, p, corrected, pictures)
        for (a, b), p, corrected in zip(pairs, p_values, holm(p_values), strict=True)
    ]
    return sorted(found, key=lambda d: (not d.real, -d.difference))


def _difference(a: Row, b: Row, p: float, corrected: float, pictures: int) -> Difference:
    low, high = difference_interval(a.correct, b.correct)
    real = corrected < LEVEL
    points = 100 * (a.test_mean - b.test_mean)
    seeds = trn("{count} seed", "{count} seeds", a.seeds)
    if real:
        sentence = tr(
            "{recipe} is {points:.1f} points better than {other} (95 % interval "
            "{low:.1f} to {high:.1f}; {p})",
            recipe=a.recipe,
            points=points,
            other=b.recipe,
            low=100 * low,
            high=100 * high,
            p=_p(corrected),
        )
    else:
        sentence = tr(
            "{recipe} and {other} differ by {points:.1f} points: not distinguishable "
            "with {pictures:,} pictures and {seeds}",
            recipe=a.recipe,
            other=b.recipe,
            points=points,
            pictures=pictures,
            seeds=seeds,
        )
    mean = a.test_mean - b.test_mean
    return Difference(a.recipe, b.recipe, mean, (low, high), p, corrected, real, sentence)


def _p(value: float) -> str:
    return (
        f"p = {value:.2g}"
        if value >= 1e-3
        else f"p < 1e{math.floor(math.log10(value or 1e-300)) + 1}"
    )


def summarize_findings(
    rows: Sequence[Row], differences: Sequence[Difference], pictures: int
) -> list[str]:
    """Return what to remember: the best, what equals it, the spread, the texts' ranking."""
    best = max(rows, key=lambda row: row.test_mean)
    if len(rows) == 1:
        return [_one_recipe(best, pictures), _spread(rows)]
    beaten = {d.worse for d in differences if d.better == best.recipe and d.real}
    equal = [row.recipe for row in rows if row is not best and row.recipe not in beaten]
    first = tr(
        "{recipe} is best with {test_mean:.1f} % of {pictures:,} test pictures right",
        recipe=best.recipe,
        test_mean=100 * best.test_mean,
        pictures=pictures,
    )
    if equal:
        first += tr("; not distinguishable from it: {equal}", equal=", ".join(equal))
    elif len(rows) > 2:
        first += tr(", and better than each of the others beyond chance")
    found = [first]
    real = sum(d.real for d in differences)
    found.append(
        tr(
            "{real} of {count} pairs differ beyond chance (McNemar's test and one that counts "
            "the seeds' spread, with Holm's correction)",
            real=real,
            count=len(differences),
        )
    )
    if best.seeds == 1:
        found.append(
            tr(
                "one seed each: this tells these trained networks apart, not yet the "
                "recipes; the spread between seeds is unknown (--seeds 3)"
            )
        )
    else:
        found.append(_spread(rows))
    ranking = _texts_ranking(rows, differences)
    return [*found, ranking] if ranking else found


def _one_recipe(row: Row, pictures: int) -> str:
    return tr(
        "{recipe} has {test_mean:.1f} % of {pictures:,} test pictures right, mean of {seeds} seeds",
        recipe=row.recipe,
        test_mean=100 * row.test_mean,
        pictures=pictures,
        seeds=row.seeds,
    )


def _spread(rows: Sequence[Row]) -> str:
    spread = float(np.sqrt(np.mean([(row.test_std or 0.0) ** 2 for row in rows])))
    said = tr(
        "another seed alone moves an accuracy by {spread:.2f} points (std)", spread=100 * spread
    )
    if max(row.seeds for row in rows) == 2:  # one degree of freedom: t is 12.7 in place of 4.3
        said += tr("; two seeds hardly tell that, so that even many points may not pass: --seeds 3")
    return said


def _texts_ranking(rows: Sequence[Row], differences: Sequence[Difference]) -> str:
    """Say how many of the orders that the texts' figures suggest hold here."""
    texts = {row.recipe: row.text.test for row in rows if row.text and row.classic}
    verdicts: list[Literal["supported", "contradicted", "undecided"]] = []
    for d in differences:
        if d.better not in texts or d.worse not in texts or texts[d.better] == texts[d.worse]:
            continue
        if not d.real:
            verdicts.append("undecided")
        else:
            verdicts.append("supported" if texts[d.better] > texts[d.worse] else "contradicted")
    if not verdicts:
        return ""
    s, c, u = (verdicts.count(v) for v in ("supported", "contradicted", "undecided"))
    judged = tr("is supported") if s == len(verdicts) else tr("is not supported as a whole")
    return tr(
        "the texts' ranking {judged}: of the {count} pairs that their figures order, "
        "{s} hold here, {c} are the other way round, {u} cannot be told apart",
        judged=judged,
        count=len(verdicts),
        s=s,
        c=c,
        u=u,
    )
