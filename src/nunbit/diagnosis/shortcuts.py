"""Shortcuts: cues beside the subject that give the class away (Geirhos et al., arXiv 2004.07780).

One small classifier per group of cues is trained and measured across folds. If the size of the
file alone tells the classes apart, a network may learn the camera and not the object.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from nunbit.data.pictures import Track
from nunbit.diagnosis.examination import Examination, Floats, Ints
from nunbit.diagnosis.findings import Finding
from nunbit.diagnosis.folds import out_of_fold
from nunbit.language import mark, tr
from nunbit.metrics import Z_95

TREES = {"n_estimators": 40, "max_depth": 8, "min_samples_leaf": 5, "random_state": 0}
LEAST_SIDE = 32  # pixels; the border of a smaller picture is its subject
# Cues of files and of pictures: colour belongs to the subject too, so that more is asked of it.
FILE_SKILL, PICTURE_SKILL = 0.25, 0.50  # share of the way from guessing to always right
GIVEN_AWAY = 0.90  # F1 of a single class
BATCH = 512


@dataclass(frozen=True)
class Cue:
    """How well one group of cues predicts the class."""

    name: str
    accuracy: float
    """Balanced accuracy (the mean of the classes' recalls), out of fold."""
    ci95: tuple[float, float]
    chance: float
    """1 / K: what guessing gets."""
    given_away: tuple[str, ...]
    """Classes that the cue alone recognises."""
    is_shortcut: bool
    """Whether it predicts so well that a network may learn it."""

    def to_dict(self) -> dict[str, Any]:
        """Return the cue for JSON."""
        return {
            "cue": self.name,
            "balanced_accuracy": round(self.accuracy, 4),
            "ci95": [round(end, 4) for end in self.ci95],
            "chance": round(self.chance, 4),
            "given_away": list(self.given_away),
            "is_shortcut": self.is_shortcut,
        }


def measure_cues(pictures: Examination, rows: Ints, folds: Ints, track: Track) -> list[Cue]:
    """Measure every group of cues that varies.

    Args:
        pictures: the whole examination.
        rows: (J,) which of the readable pictures are used.
        folds: (J,).
        track: shows progress, (items, total, label) -> items.
    """
    from sklearn.ensemble import RandomForestClassifier

    labels = pictures.labels[pictures.readable[rows]]
    names, labels = np.unique(labels, return_inverse=True)
    class_names = [pictures.source.class_names[k] for k in names]
    cues = []
    if len(names) > 1:
        groups = list(_cue_groups(pictures, rows))
        for name, least, values in track(groups, len(groups), tr("looking for shortcuts")):
            if (values == values[:1]).all():
                continue
            said = out_of_fold(
                values,
                labels,
                folds,
                lambda: RandomForestClassifier(**TREES, class_weight="balanced"),
            )
            cues.append(_cue(name, least, labels, said.argmax(axis=1), class_names))
    return sorted(cues, key=lambda cue: -cue.accuracy)


def check_cues(cues: list[Cue]) -> list[Finding]:
    """Return a warning for each cue that is a shortcut."""
    found = []
    for cue in cues:
        if cue.is_shortcut:
            low, high = cue.ci95
            gives = (
                tr(" and gives away {classes}", classes=", ".join(map(repr, cue.given_away)))
                if cue.given_away
                else ""
            )
            message = tr(
                "the {name} alone predicts the class with {accuracy:.0%} ({low:.0%} to "
                "{high:.0%}; guessing: {chance:.0%}){gives}",
                name=tr(cue.name),
                accuracy=cue.accuracy,
                low=low,
                high=high,
                chance=cue.chance,
                gives=gives,
            )
            advice = tr(
                "a network may learn this and not the subject: make the classes alike in it"
            )
            found.append(
                Finding(f"shortcut-{cue.name.replace(' ', '-')}", "warning", message, advice)
            )
    return found


def _cue(name: str, least: float, labels: Ints, said: Ints, class_names: list[str]) -> Cue:
    count = len(class_names)
    right = np.array([(said[labels == k] == k).mean() for k in range(count)])
    sizes = np.bincount(labels, minlength=count)
    # A mean of K independent shares: its variance is the mean of theirs, divided by K.
    half = Z_95 * float(np.sqrt((right * (1 - right) / sizes).sum())) / count
    accuracy, chance = float(right.mean()), 1 / count
    found = np.bincount(said, minlength=count)
    f1 = 2 * right * sizes / np.maximum(sizes + found, 1)
    given_away = tuple(class_names[k] for k in range(count) if f1[k] >= GIVEN_AWAY)
    skill = (accuracy - half - chance) / (1 - chance)
    ends = (max(0.0, accuracy - half), min(1.0, accuracy + half))
    return Cue(name, accuracy, ends, chance, given_away, skill >= least or bool(given_away))


def _cue_groups(pictures: Examination, rows: Ints) -> Iterator[tuple[str, float, Floats]]:
    """Yield the name, the skill from which it is a shortcut, and the values (J, F) of each."""
    files = [pictures.files[i] for i in pictures.readable[rows]]
    facts = [file for file in files if file is not None]
    if len(facts) == len(files):
        yield mark("file size"), PICTURE_SKILL, _table([np.log(f.num_bytes)] for f in facts)
        yield (
            mark("shape"),
            FILE_SKILL,
            _table([np.log(f.width), np.log(f.height), np.log(f.width / f.height)] for f in facts),
        )
        kinds = sorted({(f.kind, f.mode) for f in facts})
        yield (
            mark("file type"),
            FILE_SKILL,
            _table(
                [float((f.kind, f.mode) == kind) for kind in kinds] + [f.is_turned] for f in facts
            ),
        )
        yield mark("JPEG quality"), FILE_SKILL, _table([f.jpeg_quality] for f in facts)
    images = pictures.images
    batches = [rows[i : i + BATCH] for i in range(0, len(rows), BATCH)]
    means = [images[at].mean(axis=(1, 2), dtype=np.float32) for at in batches]
    yield mark("mean colour"), PICTURE_SKILL, np.concatenate(means)
    if min(images.shape[1:3]) >= LEAST_SIDE:
        borders = np.concatenate([_border(images[at].astype(np.float32)) for at in batches])
        yield mark("border"), PICTURE_SKILL, borders


def _table(rows: Iterator[list[float]]) -> Floats:
    return np.array(list(rows), dtype=np.float32)


def _border(images_BHWC: Floats) -> Floats:
    """Return mean and spread of the four outermost strips and their step to the next, (B, F)."""
    width = max(1, images_BHWC.shape[1] // 64)
    columns = images_BHWC.transpose(0, 2, 1, 3)
    found = []
    for image in (images_BHWC, images_BHWC[:, ::-1], columns, columns[:, ::-1]):
        strip, inner = image[:, :width], image[:, 2 * width : 3 * width]
        mean = strip.mean(axis=(1, 2))
        found += [mean, strip.std(axis=(1, 2)), np.abs(mean - inner.mean(axis=(1, 2)))]
    return np.concatenate(found, axis=1)
