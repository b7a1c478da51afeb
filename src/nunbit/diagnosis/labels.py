"""Wrong labels, found by probabilities out of fold (Northcutt et al., arXiv 1911.00068).

Every picture is judged by a logistic regression that was trained on other pictures. Where another
class is many times as probable as the label, the label is suspect. The paper compares with a
threshold for each class instead, the mean probability of its own pictures: on flowers with 30
swapped labels, the first 60 suspects then held 21, 20 and 16 of them, and by odds 21, 22 and 21.
"""

from dataclasses import dataclass

import numpy as np

from nunbit.diagnosis.examination import Examination, Floats, Ints
from nunbit.diagnosis.features import Features
from nunbit.diagnosis.findings import Finding, singles
from nunbit.diagnosis.folds import out_of_fold
from nunbit.language import tr, trn

COMPONENTS = 256  # principal components
PENALTY = 2.0  # inverse, as scikit-learn's C, for features of mean length 1; measured on flowers
ITERATIONS = 300
LEAST = 1e-9  # probability, so that odds are finite
SUSPECT_ODDS = 10.0  # how many times as probable as the label another class is
# Balanced accuracy above guessing, as a share of the way to 1, below which nothing is judged.
LEAST_SKILL = 0.2


@dataclass(frozen=True)
class Suspect:
    """A picture whose label is probably wrong."""

    position: int
    proposed: int
    """The class that it looks like."""
    own: float
    """Probability of the label that it has."""
    other: float
    """Probability of the proposed class."""


@dataclass(frozen=True)
class Judgement:
    """What classifiers that did not see a picture say of its label."""

    features: str
    """What they looked at."""
    count: int
    """Pictures judged."""
    accuracy: float
    """Balanced accuracy of the classifiers."""
    suspects: tuple[Suspect, ...]
    """The worst odds first."""


def judge_labels(
    pictures: Examination, judged: Ints, folds: Ints, features: Features
) -> Judgement | None:
    """Find improbable labels; None where the features do not tell the classes apart.

    Args:
        pictures: the whole examination.
        judged: positions of the J pictures with features.
        folds: (J,).
        features: (J, F).
    """
    from sklearn.decomposition import PCA
    from sklearn.linear_model import LogisticRegression

    present, labels = np.unique(pictures.labels[judged], return_inverse=True)
    count = min(COMPONENTS, *features.rows.shape)
    main = PCA(count, random_state=0).fit_transform(features.rows)
    main = (main / np.sqrt((main**2).sum(axis=1).mean())).astype(np.float32)
    found = out_of_fold(
        main, labels, folds, lambda: LogisticRegression(C=PENALTY, max_iter=ITERATIONS)
    )
    # A class of one burst lies in one fold: the classifiers that judge it have never seen it.
    known = [k for k in range(len(present)) if len(np.unique(folds[labels == k])) > 1]
    if len(known) < 2:
        return None
    right = found.argmax(axis=1) == labels
    accuracy = float(np.mean([right[labels == k].mean() for k in known]))
    chance = 1 / len(known)
    if accuracy < chance + LEAST_SKILL * (1 - chance):
        return None
    rows = np.flatnonzero(np.isin(labels, known))
    suspects = tuple(
        Suspect(int(judged[rows[j]]), int(present[k]), own, other)
        for j, k, own, other in _suspects(found[rows], labels[rows])
    )
    return Judgement(features.name, len(rows), accuracy, suspects)


def check_labels(pictures: Examination, judgement: Judgement) -> list[Finding]:
    """Return the finding that shows the suspects."""
    if not judgement.suspects:
        return []
    names = pictures.source.class_names
    return [
        Finding(
            "label-suspect",
            "warning",
            trn(
                "{count} label is probably wrong",
                "{count} labels are probably wrong",
                len(judgement.suspects),
            ),
            tr(
                "look at them: the classifiers are right for {accuracy:.0%}, each class counting "
                "the same",
                accuracy=judgement.accuracy,
            ),
            singles([suspect.position for suspect in judgement.suspects]),
            tuple(
                tr("looks like {name} ({other:.0%})", name=names[s.proposed], other=s.other)
                for s in judgement.suspects
            ),
        )
    ]


def _suspects(probabilities_JK: Floats, labels_J: Ints) -> list[tuple[int, int, float, float]]:
    """Return (row, class it looks like, probability of its own and of that class), sorted."""
    rows = np.arange(len(labels_J))
    own = np.maximum(probabilities_JK[rows, labels_J], LEAST)
    others = probabilities_JK.copy()
    others[rows, labels_J] = 0.0
    best = others.argmax(axis=1)
    odds = others[rows, best] / own
    order = np.argsort(-odds, kind="stable")
    order = order[odds[order] >= SUSPECT_ODDS]
    return [(int(j), int(best[j]), float(own[j]), float(others[j, best[j]])) for j in order]
