"""Proposals: which pictures to leave out or relabel, for a person to read before they are used."""

from collections.abc import Iterator, Sequence

from nunbit.data.overrides import Override
from nunbit.diagnosis.examination import Examination
from nunbit.diagnosis.findings import Finding
from nunbit.diagnosis.labels import Judgement

SURE = 0.90  # least probability of the other class for a proposal to relabel
HELD_OUT = ("test", "val")


def propose_fixes(
    pictures: Examination, findings: Sequence[Finding], judgement: Judgement | None
) -> list[Override]:
    """Return at most one proposal per picture; certain faults come before probable ones.

    Of copies, the first that is held out is kept, else the first. Pictures that look alike within
    one part are left alone: a burst may be wanted. Where one picture has two labels, all go.
    """
    chosen: dict[int, Override] = {}
    for finding in findings:
        for i, reason in _dropped(pictures, finding):
            chosen.setdefault(i, Override(pictures.names[i], "drop", "", reason))
    for suspect in judgement.suspects if judgement else ():
        if suspect.other >= SURE:
            name = pictures.source.class_names[suspect.proposed]
            reason = f"looks like {name} ({suspect.other:.0%}), not as labelled ({suspect.own:.1%})"
            row = Override(pictures.names[suspect.position], "relabel", name, reason)
            chosen.setdefault(suspect.position, row)
    return list(chosen.values())


def _dropped(pictures: Examination, finding: Finding) -> Iterator[tuple[int, str]]:
    """Yield positions of pictures to leave out, with the reason."""
    if finding.kind in ("unreadable", "blank"):
        notes = finding.notes or ("shows one colour only",) * len(finding.groups)
        yield from ((group[0], note) for group, note in zip(finding.groups, notes, strict=True))
        return
    for group in finding.groups:
        held_out = [i for i in group if pictures.parts[i] in HELD_OUT]
        kept = (held_out or list(group))[0]
        if finding.kind == "conflicting-labels":
            labels = " and ".join(sorted({pictures.describe(i)["label"] for i in group}))
            yield from ((i, f"the same picture is in {labels}") for i in group)
        elif finding.kind in ("exact-duplicates", "leak"):
            yield from ((i, f"the same as {pictures.names[kept]}") for i in group if i != kept)
        elif finding.kind == "near-leak":
            trained = (i for i in group if i not in held_out)
            yield from ((i, f"looks like {pictures.names[kept]}") for i in trained)
