"""One diagnosis from a source to findings and proposals; it reads and never writes."""

import shlex
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nunbit.data.named import NAMED
from nunbit.data.overrides import Override
from nunbit.data.pictures import Source, Track
from nunbit.diagnosis.classes import check_classes
from nunbit.diagnosis.copies import check_copies, find_copies
from nunbit.diagnosis.examination import Examination, Ints, examine
from nunbit.diagnosis.exposure import check_exposure
from nunbit.diagnosis.features import Choice, Features, compute_features
from nunbit.diagnosis.files import check_files
from nunbit.diagnosis.findings import SEVERITIES, Finding
from nunbit.diagnosis.fixes import propose_fixes
from nunbit.diagnosis.folds import FOLDS, make_folds
from nunbit.diagnosis.labels import Judgement, check_labels, judge_labels
from nunbit.diagnosis.shortcuts import Cue, check_cues, measure_cues
from nunbit.errors import DataError
from nunbit.language import tr
from nunbit.runtime import Runtime

SAMPLE = 6000  # pictures whose labels and cues are judged; more take minutes on two slow cores


@dataclass(frozen=True)
class Diagnosis:
    """Everything that was found."""

    pictures: Examination
    findings: tuple[Finding, ...]
    """Errors first."""
    cues: tuple[Cue, ...]
    """Every cue that was measured, shortcut or not."""
    judgement: Judgement | None
    """None where labels were not judged."""
    labels_note: str
    """How labels were judged, or why not."""
    fixes: tuple[Override, ...]
    seconds: float
    """Wall time."""
    report: Path | None = None
    """The page, once it is written."""
    fixes_file: Path | None = None
    """The table of proposals, once it is written."""

    @property
    def exit_code(self) -> int:
        """65 (bad data) with errors, else 0."""
        has_errors = any(finding.severity == "error" for finding in self.findings)
        return DataError.exit_code if has_errors else 0

    @property
    def next_command(self) -> str:
        """The command that trains with the proposals; empty without any."""
        if self.fixes_file is None:
            return ""
        spec = self.pictures.source.spec
        # For a known set nothing is proposed, so that this is a folder of its name.
        data = f"./{spec}" if spec in NAMED else spec
        words = ["--data", data, "--overrides", str(self.fixes_file)]
        return shlex.join(["nunbit", "train", *words])

    def to_dict(self) -> dict[str, Any]:
        """Return the diagnosis as `nunbit doctor --json` prints it."""
        severities = [finding.severity for finding in self.findings]
        return {
            "data": self.pictures.source.spec,
            "images": len(self.pictures),
            "readable": len(self.pictures.readable),
            "classes": len(self.pictures.source.class_names),
            "per_class": self.pictures.class_counts,
            "counts": {severity: severities.count(severity) for severity in SEVERITIES},
            "issues": [finding.to_dict(self.pictures) for finding in self.findings],
            "cues": [cue.to_dict() for cue in self.cues],
            "labels": self.labels_note,
            "fixes": len(self.fixes),
            "seconds": round(self.seconds, 1),
            "report": None if self.report is None else str(self.report),
            "fixes_file": None if self.fixes_file is None else str(self.fixes_file),
            "next_command": self.next_command or None,
            "exit_code": self.exit_code,
        }


def diagnose(
    source: Source, choice: Choice, sample: int, runtime: Runtime, track: Track
) -> Diagnosis:
    """Look for everything that is wrong with a source.

    Args:
        source: what to look at; nothing of it is changed.
        choice: the features by which labels are judged; "none" judges no labels.
        sample: pictures whose labels and cues are judged, evenly spread; 0 takes all.
        runtime: where to compute.
        track: shows progress, (items, total, label) -> items.

    Raises:
        MissingInputError: the pretrained network is asked for and not installed.
    """
    started = time.monotonic()
    pictures = examine(source, runtime.threads, track)
    copies = find_copies(pictures)
    rows = _judged_rows(pictures, sample)
    folds = make_folds(pictures.labels[pictures.readable[rows]], copies.group_of[rows])
    cues = measure_cues(pictures, rows, folds, track)
    judgement, note = None, tr("labels were not judged (--features none)")
    if choice != "none" and not len(rows):
        note = tr(
            "labels were not judged: fewer than two classes have {folds} readable pictures",
            folds=FOLDS,
        )
    elif choice != "none":
        features = compute_features(pictures.images[rows], choice, runtime, track)
        judgement = judge_labels(pictures, pictures.readable[rows], folds, features)
        note = _labels_note(features, judgement, len(pictures.readable))
    findings = [
        *check_files(pictures),
        *check_classes(pictures),
        *check_copies(pictures, copies),
        *check_exposure(pictures),
        *check_cues(cues),
        *(check_labels(pictures, judgement) if judgement else ()),
    ]
    findings.sort(key=lambda finding: SEVERITIES.index(finding.severity))
    return Diagnosis(
        pictures=pictures,
        findings=tuple(findings),
        cues=tuple(cues),
        judgement=judgement,
        labels_note=note,
        # Published sets are measured on by others, so that no table may change them.
        fixes=() if source.is_published else tuple(propose_fixes(pictures, findings, judgement)),
        seconds=time.monotonic() - started,
    )


def _judged_rows(pictures: Examination, sample: int) -> Ints:
    """Return which readable pictures are judged: of classes with enough, evenly spread."""
    labels = pictures.labels[pictures.readable]
    rows = _of_large_classes(np.arange(len(labels)), labels)
    if 0 < sample < len(rows):  # rare classes may have too few in it
        rows = _of_large_classes(rows[np.arange(sample) * len(rows) // sample], labels)
    return rows


def _of_large_classes(rows: Ints, labels: Ints) -> Ints:
    """Return the rows whose classes have one in each fold, none if such a class is alone."""
    counts = np.bincount(labels[rows], minlength=1)
    enough = np.flatnonzero(counts >= FOLDS)
    return rows[np.isin(labels[rows], enough)] if len(enough) > 1 else rows[:0]


def _labels_note(features: Features, judgement: Judgement | None, count: int) -> str:
    """Say how labels were judged, or why not."""
    if judgement is None:
        return tr(
            "labels were not judged: {name} do not tell the classes apart", name=features.name
        )
    which = (
        tr("all readable pictures")
        if judgement.count == count
        else tr("{judged:,} of {count:,} pictures", judged=judgement.count, count=count)
    )
    return tr(
        "labels of {which} were judged by {name}, right for {accuracy:.1%} (mean over classes)",
        which=which,
        name=features.name,
        accuracy=judgement.accuracy,
    )
