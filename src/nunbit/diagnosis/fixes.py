"""Proposals: which pictures to leave out or relabel, for a person to read before they are used."""

from collections.abc import Iterator, Sequence

from nunbit.data.overrides import Override
from nunbit.diagnosis.examination import Examination
from nunbit.diagnosis.findings import Finding
from nunbit.diagnosis.labels import Judgement
from nunbit.errors import listed
from nunbit.language import tr

SURE = 0.90  # least probability of the other class for a proposal to relabel
HELD_OUT = ("test", "val")


def propose_fixes(
    pictures: Examination, findings: Sequence[Finding], judgement: Judgement | None
) -> list[Override]:
    """Return at most one proposal per name; certain faults come before probable ones.

    A table names a file, so that copies that are only further lines of it are left alone. Of
    copies, the first that is held out is kept, else the first. Pictures that look alike within one
    part are left alone: a burst may be wanted. Where one picture has two labels, all go.
    """
    chosen: dict[str, Override] = {}
    for finding in findings:
        for i, reason in _dropped(pictures, finding):
            chosen.setdefault(pictures.names[i], Override(pictures.names[i], "drop", "", reason))
    for suspect in judgement.suspects if judgement else ():
        if suspect.other >= SURE:
            name = pictures.source.class_names[suspect.proposed]
            reason = tr(
                "looks like {name} ({other:.0%}), not as labelled ({own:.1%})",
                name=name,
                other=suspect.other,
                own=suspect.own,
            )
            row = Override(pictures.names[suspect.position], "relabel", name, reason)
            chosen.setdefault(row.path, row)
    return list(chosen.values())


def _dropped(pictures: Examination, finding: Finding) -> Iterator[tuple[int, str]]:
    """Yield positions of pictures to leave out, with the reason."""
    if finding.kind in ("unreadable", "blank"):
        notes = finding.notes or (tr("shows one colour only"),) * len(finding.groups)
        yield from ((group[0], note) for group, note in zip(finding.groups, notes, strict=True))
        return
    for group in finding.groups:
        held_out = [i for i in group if pictures.parts[i] in HELD_OUT]
        kept = (held_out or list(group))[0]
        others = [i for i in group if pictures.names[i] != pictures.names[kept]]
        if finding.kind == "conflicting-labels":
            labels = listed(sorted({pictures.describe(i)["label"] for i in group}))
            yield from ((i, tr("the same picture is in {labels}", labels=labels)) for i in group)
        elif finding.kind in ("exact-duplicates", "leak"):
            yield from ((i, tr("the same as {name}", name=pictures.names[kept])) for i in others)
        elif finding.kind == "near-leak":
            trained = (i for i in others if i not in held_out)
            yield from ((i, tr("looks like {name}", name=pictures.names[kept])) for i in trained)
