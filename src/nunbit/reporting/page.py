"""The page of a run: one HTML file that needs nothing else, and the figures beside it."""

import json
import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from nunbit.asked import spelled
from nunbit.data.named import NAMED
from nunbit.finished import Finished
from nunbit.metrics import ClassMetrics, wilson_interval
from nunbit.places import make_folder
from nunbit.reporting import figures
from nunbit.reporting.calibration import Calibration, calibrate
from nunbit.reporting.confusions import MAX_MATRIX, Cell, confusion_cells
from nunbit.reporting.dots import Dot
from nunbit.reporting.gallery import Gallery, Shown
from nunbit.reporting.render import embedded, render
from nunbit.reporting.saliency import saliency_maps
from nunbit.reporting.slices import Slice, drops, light, sides, slices
from nunbit.reporting.verdicts import Verdicts, judge
from nunbit.runfolder import CONFIG_FILE
from nunbit.runtime import versions
from nunbit.storage import atomic_write
from nunbit.training.loop import EpochResult

REPORT_FILE = "report.html"
SHOWN = 16  # pictures of a kind: two rows on a screen, four on a phone
MAX_ROWS = 30  # classes that a table shows at once
CURVES = ("train_loss", "running_accuracy", "val_loss", "val_accuracy")
WORST_ROWS = 15  # of more classes; the others are folded away
MOST_CONFUSED = 6  # confusions that stand beside the matrix
PICTURES = ("uri", "saliency")  # fields of `Shown` that hold pictures
MOST = 1000  # classes or epochs that the page lists: a row takes 1 kB


@dataclass(frozen=True)
class ClassRow:
    """One line of the table of classes."""

    metrics: ClassMetrics
    ci95: tuple[float, float] | None
    """Of the recall (Wilson); None for a class without pictures."""


def write_report(finished: Finished) -> Path:
    """Write `figures/*.png` and `report.html` into the run folder; return the page's path.

    Raises:
        StorageError: they cannot be written.
    """
    folder = finished.run_dir / "figures"
    make_folder(folder)
    epochs, verdicts = finished.epochs, _verdicts(finished)
    drawn = {
        "curves": figures.curves(epochs, finished.kept_epoch) if epochs else None,
        "confusion": figures.confusion(finished.test),
        "mistakes": figures.mistakes(finished.dataset.test, verdicts, finished.dataset.class_names),
    }
    for name, figure in drawn.items():
        if figure is not None:
            atomic_write(folder / f"{name}.png", figures.to_png(figure))
    path = finished.run_dir / REPORT_FILE
    atomic_write(path, _page(finished, verdicts).encode())
    return path


def run_page(finished: Finished) -> str:
    """Return the page of a run as HTML."""
    return _page(finished, _verdicts(finished))


def _verdicts(finished: Finished) -> Verdicts:
    return judge(finished.test_logits, finished.dataset.test.labels)


def _page(finished: Finished, verdicts: Verdicts) -> str:
    test, classes = finished.dataset.test, finished.dataset.class_names
    gallery = Gallery(test, verdicts, classes)
    correct_N = verdicts.predicted == verdicts.labels
    surest = verdicts.surest_mistakes(SHOWN)
    are_all = len(surest) == len(verdicts.wrong)
    least_sure = [] if are_all else verdicts.least_sure_mistakes(SHOWN)
    saliency = saliency_maps(finished, [*surest, *least_sure])
    cells = confusion_cells(finished.test.confusion, verdicts, gallery)
    calibration = calibrate(verdicts.confidence, correct_N)
    parts = slices(_properties(finished), correct_N)
    suspects = _suspects(finished)
    return render(
        "run.html",
        **_facts(finished),
        **_class_facts(finished),
        cells={(cell.label, cell.predicted): cell for cell in cells},
        confused=_most_confused(cells),
        is_matrix=len(classes) <= MAX_MATRIX,
        show=gallery.show,
        surest=gallery.show(surest, saliency),
        least_sure=gallery.show(least_sure, saliency),
        suspects=suspects,
        calibration=calibration,
        dots=[
            Dot(b.confidence, b.accuracy, *b.ci95, share=b.n / len(test)) for b in calibration.bins
        ],
        sliced_by=_by_property(parts),
        drops=drops(parts, finished.test.accuracy),
        parts=parts,
        data=embedded(_data(finished, cells, calibration, parts, suspects)),
    )


def _facts(finished: Finished) -> dict[str, Any]:
    """Return what the page says of the run itself, for the template."""
    dataset, config = finished.dataset, finished.config
    splits = {"train": dataset.train, "val": dataset.val, "test": dataset.test}
    source = config.data.source
    kept = [epoch for epoch in finished.epochs if epoch.epoch == finished.kept_epoch]
    return {
        "result": finished.to_dict(),
        "averaged": bool(config.train.ema),
        "config_json": config.to_json(),
        "source": source if source in NAMED else Path(source).name or source,
        "test": finished.test,
        "classes": dataset.class_names,
        "counts": {name: len(part) if part else 0 for name, part in splits.items()},
        "preprocess": dataset.preprocess,
        "is_small": max(dataset.preprocess.height, dataset.preprocess.width) <= 32,
        "curves": {name: _curve(finished.epochs, name) for name in CURVES},
        "kept": kept[0] if kept else None,
        "epoch_seconds": fmean(e.seconds for e in finished.epochs) if finished.epochs else None,
        "skipped": dataset.skipped,
        "leaks": dataset.leaks,
        "repeat": f"nunbit train --config {shlex.quote(str(finished.run_dir / CONFIG_FILE))}",
        "spelled": spelled(config),
        "computed": finished.runtime.describe(),
        "versions": _versions(finished),
    }


def _versions(finished: Finished) -> dict[str, str]:
    """Return the versions that the model was trained with, in the order of a stored card."""
    return dict(sorted((finished.classifier.card.get("versions") or versions()).items()))


def _curve(epochs: Sequence[EpochResult], name: str) -> list[tuple[float, float]]:
    """Return the points of one curve; epochs that were not validated have none."""
    values = [(epoch.epoch, getattr(epoch, name)) for epoch in epochs]
    return [(number, value) for number, value in values if value is not None]


def _class_facts(finished: Finished) -> dict[str, Any]:
    """Return what the table of classes shows, for the template."""
    rows = _class_rows(finished)
    folded = WORST_ROWS if len(rows) > MAX_ROWS else len(rows)
    return {
        "rows": rows[:folded],
        "more_rows": rows[folded:MOST],
        "unlisted": max(0, len(rows) - MOST),
        # Intervals share a scale that begins at the tenth below the lowest.
        "domain_low": min(int(10 * row.ci95[0]) / 10 for row in rows if row.ci95),
    }


def _class_rows(finished: Finished) -> list[ClassRow]:
    """Return the classes in their order, or the worst first where there are many.

    Those without test pictures, whose recall is unknown, come last then.
    """
    confusion = finished.test.confusion
    rows = [
        ClassRow(row, wilson_interval(confusion[i][i], row.n) if row.n else None)
        for i, row in enumerate(finished.test.per_class)
    ]
    if len(rows) <= MAX_ROWS:
        return rows
    return sorted(rows, key=lambda row: (row.ci95 is None, row.metrics.recall))


def _properties(finished: Finished) -> dict[Any, Any]:
    """Return what the test pictures are sliced by; the size only where files differ in it."""
    test, source = finished.dataset.test, finished.config.data.source
    root = Path(source) if Path(source).is_dir() else Path(source).parent
    size = None if source in NAMED else sides(test.names, root)
    return light(test.images) | ({} if size is None else {"size": size})


def _by_property(parts: Sequence[Slice]) -> dict[str, list[Slice]]:
    """Return the slices of each property, in their order."""
    found: dict[str, list[Slice]] = {}
    for part in parts:
        found.setdefault(part.property, []).append(part)
    return found


def _most_confused(cells: Sequence[Cell]) -> list[Cell]:
    """Return the confusions with the most pictures, most first."""
    wrong = [cell for cell in cells if cell.label != cell.predicted]
    return sorted(wrong, key=lambda cell: -cell.count)[:MOST_CONFUSED]


def _suspects(finished: Finished) -> list[Shown] | None:
    """Return training pictures whose label the finished model contradicts, surest first."""
    if finished.train_logits is None:
        return None
    train = finished.dataset.train
    verdicts = judge(finished.train_logits, train.labels)
    gallery = Gallery(train, verdicts, finished.dataset.class_names)
    return gallery.show(verdicts.surest_mistakes(SHOWN))


def _data(
    finished: Finished,
    cells: Sequence[Cell],
    calibration: Calibration,
    parts: Sequence[Slice],
    suspects: Sequence[Shown] | None,
) -> dict[str, Any]:
    """Return the numbers of the page for programs; `nunbit train --json` has the first of them."""
    classes = finished.dataset.class_names
    return {
        **finished.to_dict(),
        "config": json.loads(finished.config.to_json()),
        "log": [asdict(epoch) for epoch in finished.epochs[:: len(finished.epochs) // MOST + 1]],
        "per_class": [
            {**asdict(row.metrics), "recall_ci95": row.ci95} for row in _class_rows(finished)[:MOST]
        ],
        "confusion": [
            {"label": classes[c.label], "predicted": classes[c.predicted], "count": c.count}
            for c in cells
        ],
        "calibration": asdict(calibration),
        "slices": [asdict(part) for part in parts],
        "suspicious_labels": [
            {key: value for key, value in asdict(suspect).items() if key not in PICTURES}
            for suspect in suspects or ()
        ],
        "versions": _versions(finished),
    }
