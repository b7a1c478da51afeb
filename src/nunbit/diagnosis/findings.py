"""What a diagnosis says: one finding for each kind of fault, with the pictures that it concerns."""

from dataclasses import dataclass
from typing import Any, Literal

from nunbit.diagnosis.examination import Examination
from nunbit.language import trn

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")


@dataclass(frozen=True)
class Finding:
    """One kind of fault.

    An error is certain, and refuses or falsifies a training; a warning is probable, or harms some
    uses; a note is worth knowing.
    """

    kind: str
    """For programs: unreadable, exact-duplicates, shortcut-border, ..."""
    severity: Severity
    message: str
    """One sentence: what was found, and what it means."""
    advice: str = ""
    """What to do about it."""
    groups: tuple[tuple[int, ...], ...] = ()
    """Positions of pictures; those of one group belong together. The worst come first."""
    notes: tuple[str, ...] = ()
    """What is to be said of each group; as many as groups, or none."""

    @property
    def count(self) -> int:
        """Number of pictures."""
        return sum(map(len, self.groups))

    def to_dict(self, pictures: Examination) -> dict[str, Any]:
        """Return the finding for JSON, each picture with its path, label and part."""
        notes = self.notes or ("",) * len(self.groups)
        rows = [
            {**pictures.describe(i), "group": number, "note": note}
            for number, (group, note) in enumerate(zip(self.groups, notes, strict=True))
            for i in group
        ]
        return {
            "kind": self.kind,
            "severity": self.severity,
            "message": self.message,
            "advice": self.advice,
            "count": self.count,
            "pictures": rows,
        }


def singles(positions: list[int]) -> tuple[tuple[int, ...], ...]:
    """Return groups of one picture each."""
    return tuple((i,) for i in positions)


def some_pictures(count: int) -> str:
    """Return a number with its noun: 1 picture, 2,000 pictures."""
    return trn("{count} picture", "{count} pictures", count)
