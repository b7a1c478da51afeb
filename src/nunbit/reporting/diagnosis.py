"""The page of a diagnosis, with the pictures that it speaks of, and the table of proposals."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from nunbit.data.decode import BadPictureError, Mode, decode, quiet_pillow
from nunbit.data.overrides import write_overrides
from nunbit.data.pictures import array_to_image
from nunbit.data.sources import absolute, refuse_inside
from nunbit.diagnosis.doctor import Diagnosis
from nunbit.diagnosis.examination import Examination
from nunbit.diagnosis.findings import Finding
from nunbit.places import claim_folder, free_folder
from nunbit.reporting.gallery import SIDE, thumbnail
from nunbit.reporting.render import embedded, render
from nunbit.runtime import versions
from nunbit.storage import atomic_write

FOLDER = Path("doctor")  # in the current folder
PAGE, FIXES = "report.html", "fixes.csv"
MAX_SHOWN = 60  # pictures of a finding; a page with ten findings stays below 2 MB
MAX_IN_GROUP = 6
SMALL = 64  # pixels; pictures below it are shown with their pixels


@dataclass(frozen=True)
class Shown:
    """A picture of a finding, ready for the page."""

    name: str
    label: str
    part: str
    """Empty where there is only one."""
    uri: str
    """A thumbnail as a data address; empty where the file cannot be read."""


@dataclass(frozen=True)
class ShownFinding:
    """A finding with as many of its pictures as the page has room for."""

    finding: Finding
    groups: list[tuple[list[Shown], int, str]]
    """Pictures, how many more there are in the group, and the group's note."""
    left_out: int
    """Groups that are not shown."""

    @property
    def has_pictures(self) -> bool:
        """Whether there is anything to see; files that cannot be read have only names."""
        return any(it.uri for pictures, _, _ in self.groups for it in pictures)

    @property
    def place(self) -> str:
        """The section of the page that shows it, or nothing."""
        if self.finding.kind.startswith("shortcut-"):
            return "cues"
        return self.finding.kind if self.finding.groups else ""


def report_folder(spec: str, out: Path | None) -> Path:
    """Return a folder for the report that is new or empty and not inside the data.

    Args:
        spec: the data's name or path.
        out: the folder that was asked for; None takes the next free one.

    Raises:
        CannotCreateError: it holds something, or nothing could be written there.
        UsageError: it lies inside the data, where it would become a class.
    """
    path = Path(absolute(spec))
    folder = free_folder(out, FOLDER / (path.stem if path.is_file() else path.name))
    refuse_inside(folder, spec, "--out")
    return folder


def write_diagnosis(diagnosis: Diagnosis, folder: Path, *, is_asked: bool) -> Diagnosis:
    """Write the page, and the proposals if there are any; return the diagnosis with their paths.

    Raises:
        CannotCreateError: the folder cannot be written.
        StorageError: the files cannot be written.
    """
    folder = claim_folder(folder, is_asked=is_asked)
    fixes = folder / FIXES if diagnosis.fixes else None
    written = replace(diagnosis, report=folder / PAGE, fixes_file=fixes)
    if fixes is not None:
        # A spreadsheet takes a table for UTF-8, and saves it so, by its byte order mark only.
        atomic_write(fixes, write_overrides(list(diagnosis.fixes)).encode("utf-8-sig"))
    images = diagnosis.pictures.images
    page = render(
        "doctor.html",
        it=written,
        result=written.to_dict(),
        shown=[_shown(finding, diagnosis.pictures) for finding in diagnosis.findings],
        is_small=images.shape[1] < SMALL,
        versions=versions(),
        data=embedded(written.to_dict()),
    )
    atomic_write(folder / PAGE, page.encode())
    return written


def _shown(finding: Finding, pictures: Examination) -> ShownFinding:
    rows = list(_groups(finding, pictures))
    return ShownFinding(finding, rows, len(finding.groups) - len(rows))


def _groups(finding: Finding, pictures: Examination) -> Iterator[tuple[list[Shown], int, str]]:
    notes, room = finding.notes or ("",) * len(finding.groups), MAX_SHOWN
    for group, note in zip(finding.groups, notes, strict=True):
        first = group[:MAX_IN_GROUP]
        if len(first) > room:
            return
        room -= len(first)
        yield [_picture(pictures, i) for i in first], len(group) - len(first), note


def _picture(pictures: Examination, i: int) -> Shown:
    facts = pictures.describe(i)
    is_only_part = len(pictures.source.parts) == 1
    part = "" if is_only_part else facts["part"]
    return Shown(facts["path"], facts["label"], part, _thumbnail(pictures, i))


def _thumbnail(pictures: Examination, i: int) -> str:
    """Return a picture in its own shape; the examination's are squashed."""
    item = pictures.items[i]
    mode: Mode = "L" if pictures.source.channels == 1 else "RGB"
    try:
        with quiet_pillow():
            image = (
                array_to_image(item) if isinstance(item, np.ndarray) else decode(item, mode, SIDE)
            )
    except BadPictureError:
        return ""
    return thumbnail(image)
