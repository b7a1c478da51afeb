"""Folds for judging each picture by classifiers that did not see it, nor a copy of it."""

from collections.abc import Callable
from typing import Any

import numpy as np

from nunbit.diagnosis.examination import Floats, Ints

FOLDS = 5


def make_folds(labels: Ints, groups: Ints, seed: int = 0) -> Ints:
    """Return a fold number per picture: classes spread evenly, copies in one fold.

    Args:
        labels: (R,) class numbers.
        groups: (R,) pictures that look alike share a number.
        seed: of the order.
    """
    _, first, inverse = np.unique(groups, return_index=True, return_inverse=True)
    order = np.random.default_rng(seed).permutation(len(first))
    fold_of_group = np.zeros(len(first), dtype=np.int64)
    for label in np.unique(labels[first]):
        members = order[labels[first][order] == label]
        fold_of_group[members] = np.arange(len(members)) % FOLDS
    return fold_of_group[inverse]


def out_of_fold(features: Floats, labels: Ints, folds: Ints, make: Callable[[], Any]) -> Floats:
    """Return the probabilities (R, K) that classifiers trained on the other folds give.

    Args:
        features: (R, F).
        labels: (R,) class numbers from 0 to K-1.
        folds: (R,) as `make_folds` gives them.
        make: returns a new scikit-learn classifier.
    """
    probabilities = np.zeros((len(labels), int(labels.max()) + 1), dtype=np.float32)
    for fold in range(FOLDS):
        is_out = folds == fold
        if is_out.any() and len(np.unique(labels[~is_out])) > 1:
            classifier = make().fit(features[~is_out], labels[~is_out])
            columns = classifier.classes_  # a class that is in this fold only has no column
            probabilities[np.ix_(is_out, columns)] = classifier.predict_proba(features[is_out])
    return probabilities
