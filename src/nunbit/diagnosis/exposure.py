"""Pictures that show little: of one colour, too dark, or out of focus."""

import numpy as np

from nunbit.data.duplicates import GREY
from nunbit.diagnosis.examination import Examination, Floats
from nunbit.diagnosis.findings import Finding, singles, some_pictures
from nunbit.language import mark, tr

BLANK_STD = 3.0  # levels of 255: noise of a covered camera
DARK_LEVEL = 60.0  # levels; 99 % of a dark picture's pixels lie below
# Crete et al., "The blur effect", 2007, formulas 1 to 6: the share of the neighbouring differences
# that survives when a picture is blurred once more. 0 is sharp, 1 is blurred.
BLUR_TAPS = 9
BLURRED = 0.80
LEAST_SIDE = 64  # pixels; below it blur cannot be told from size
BATCH = 256


def check_exposure(pictures: Examination) -> list[Finding]:
    """Return pictures that a network learns little from."""
    if not len(pictures.readable):
        return []
    stds, brights, blurs = _measure(pictures)
    blank = stds < BLANK_STD
    dark = ~blank & (brights < DARK_LEVEL)
    blurred = ~blank & ~dark & (blurs > BLURRED)
    found = []
    for kind, severity, is_so, said, by in (
        ("blank", "warning", blank, mark("{pictures}: one colour only"), stds),
        ("dark", "note", dark, mark("{pictures}: very dark"), brights),
        ("blurred", "note", blurred, mark("{pictures}: out of focus"), -blurs),
    ):
        rows = np.flatnonzero(is_so)
        rows = rows[np.argsort(by[rows], kind="stable")]  # the worst first
        if len(rows):
            message = tr(said, pictures=some_pictures(len(rows)))
            at = singles(pictures.readable[rows].tolist())
            found.append(Finding(kind, severity, message, tr("look at them"), at))  # type: ignore[arg-type]  # literals
    return found


def _measure(pictures: Examination) -> tuple[Floats, Floats, Floats]:
    """Return contrast, the 99 % quantile of brightness, both in levels, and blur in [0, 1]."""
    images = pictures.images
    stds, brights, blurs = (np.zeros(len(images), dtype=np.float32) for _ in range(3))
    for start in range(0, len(images), BATCH):
        at = slice(start, start + BATCH)
        part = images[at].astype(np.float32)
        grey = part @ GREY if part.shape[3] == 3 else part[..., 0]
        stds[at] = part.std(axis=(1, 2)).max(axis=1)
        brights[at] = np.quantile(grey, 0.99, axis=(1, 2))
        if min(grey.shape[1:]) >= LEAST_SIDE:
            blurs[at] = np.maximum(_blur(grey), _blur(grey.transpose(0, 2, 1)))
    return stds, brights, blurs


def _blur(grey_BHW: Floats) -> Floats:
    """Return the blur along the last axis, (B,)."""
    sums = np.cumsum(np.pad(grey_BHW, ((0, 0), (0, 0), (1, 0))), axis=2)
    smooth = (sums[:, :, BLUR_TAPS:] - sums[:, :, :-BLUR_TAPS]) / BLUR_TAPS
    margin = BLUR_TAPS // 2
    sharp = grey_BHW[:, :, margin:-margin]
    before, after = np.abs(np.diff(sharp, axis=2)), np.abs(np.diff(smooth, axis=2))
    lost = np.maximum(0.0, before - after).sum(axis=(1, 2))
    total = before.sum(axis=(1, 2))
    share: Floats = (total - lost) / np.maximum(total, 1e-6)
    return share
