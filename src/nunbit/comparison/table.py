"""The rows of a comparison: one recipe each, over its seeds, beside what the texts printed."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from nunbit.comparison.plan import PlannedRun, configure, same_settings
from nunbit.comparison.samedata import require_one_fingerprint
from nunbit.comparison.statistics import Correct, mean_interval, seeds_interval
from nunbit.errors import DataError
from nunbit.language import tr
from nunbit.recipes.texts import TEXTS, TextFigures
from nunbit.runfolder import read_losses, read_predictions, read_result


@dataclass(frozen=True)
class Row:
    """One recipe over its seeds; accuracies are fractions, losses nats."""

    recipe: str
    parameters: int
    epochs: int
    seeds: int
    train_mean: float
    train_ci95: tuple[float, float] | None
    """Over other seeds, on the same training pictures; None for one seed."""
    test_mean: float
    test_std: float | None
    """Sample standard deviation between seeds; None for one seed."""
    test_ci95: tuple[float, float]
    """Over other pictures and other seeds."""
    final_loss: float
    seconds: float
    """Mean wall time of a training, with the other trainings beside it."""
    tests: tuple[float, ...]
    """Test accuracy of each seed."""
    classic: bool
    """Trained with the settings that its name says, so that the texts' figures are comparable."""
    losses: tuple[tuple[float, ...], ...]
    """Training loss of each seed at each epoch."""
    correct: Correct
    """Which test pictures each seed got right: (S, N)."""

    @property
    def text(self) -> TextFigures | None:
        """What a tutorial printed for this recipe, if one did."""
        return TEXTS.get(self.recipe)

    def explanation(self) -> str:
        """Say why the figures differ from the texts', in one sentence; empty without a text."""
        if self.text is None:
            return ""
        low, high = self.test_ci95
        if not self.classic:
            return tr("other settings than the text's")
        notes = [tr(self.text.otherwise)] if self.text.otherwise else []
        if low <= self.text.test <= high:
            notes.append(tr("the text's figure lies within our interval"))
        elif not notes:
            side = tr("above") if self.test_mean > self.text.test else tr("below")
            notes.append(
                tr(
                    "{side} the text's one run, by more than our interval explains: one seed "
                    "there, and CIFAR-10 itself, of which a JPEG copy gives less",
                    side=side,
                )
            )
        return "; ".join(notes)

    def to_dict(self) -> dict[str, Any]:
        """Return the row for JSON and CSV."""
        names = (
            "recipe", "parameters", "epochs", "seeds", "train_mean", "train_ci95", "test_mean",
            "test_std", "test_ci95", "final_loss", "seconds", "tests",
        )  # fmt: skip  # one name a line would take ten
        text = self.text
        return {name: getattr(self, name) for name in names} | {
            "text_train": text and text.train,
            "text_test": text and text.test,
            "text_loss": text and text.loss,
            "explanation": self.explanation(),
        }


@dataclass(frozen=True)
class TestSet:
    """The pictures that all recipes are measured on."""

    pictures: int
    chance: float
    """Accuracy of always answering the most frequent class."""


def read_rows(runs: Sequence[PlannedRun]) -> tuple[list[Row], TestSet]:
    """Return a row for each label, in the order of the plan, and what they are measured on.

    Raises:
        DataError: runs were measured on other pictures than the first, or trained on other data
            than those with the same settings of it.
    """
    require_one_fingerprint(runs)
    groups: dict[str, list[PlannedRun]] = {}
    for run in runs:
        groups.setdefault(run.label, []).append(run)
    labels = {name: label for name, (label, _) in read_predictions(runs[0].run_dir).items()}
    most = Counter(labels.values()).most_common(1)[0][1]
    rows = [_row(name, group, labels) for name, group in groups.items()]
    return rows, TestSet(len(labels), most / len(labels))


def _row(name: str, runs: Sequence[PlannedRun], labels: dict[str, str]) -> Row:
    results = [read_result(run.run_dir) for run in runs]
    correct = np.array([_correct(run, labels) for run in runs])
    tests = tuple(float(accuracy) for accuracy in correct.mean(axis=1))
    trains = [float(result["train"]["accuracy"]) for result in results]
    return Row(
        recipe=name,
        parameters=results[0]["parameters"],
        epochs=max(result["epochs"] for result in results),
        seeds=len(runs),
        train_mean=float(np.mean(trains)),
        train_ci95=seeds_interval(trains),
        test_mean=float(np.mean(tests)),
        test_std=float(np.std(tests, ddof=1)) if len(tests) > 1 else None,
        test_ci95=mean_interval(correct),
        final_loss=float(np.mean([result["final_loss"] for result in results])),
        seconds=float(np.mean([result["seconds"] for result in results])),
        tests=tests,
        classic=all(is_classic(run) for run in runs),
        losses=tuple(read_losses(run.run_dir) for run in runs),
        correct=correct,
    )


def is_classic(run: PlannedRun) -> bool:
    """Return whether a run has the settings that its label names, but for its seed."""
    own = configure(run.label, None, {})
    return same_settings(
        replace(own, train=replace(own.train, seed=run.config.train.seed)), run.config
    )


def _correct(run: PlannedRun, labels: dict[str, str]) -> list[bool]:
    said = read_predictions(run.run_dir)
    if {name: label for name, (label, _) in said.items()} != labels:
        raise DataError(
            "{run_dir} was measured on other pictures than the first run", run_dir=run.run_dir
        )
    return [said[name][1] == label for name, label in labels.items()]
