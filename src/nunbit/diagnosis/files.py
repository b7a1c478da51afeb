"""Faults of single files: unreadable, named as what they are not, of a mode that is rare."""

from collections import Counter
from pathlib import Path

from nunbit.diagnosis.examination import Examination
from nunbit.diagnosis.findings import Finding, singles
from nunbit.errors import listed
from nunbit.language import tr, trn

KINDS = {
    ".jpg": "JPEG", ".jpeg": "JPEG", ".jpe": "JPEG", ".jfif": "JPEG",
    ".png": "PNG", ".webp": "WEBP", ".gif": "GIF", ".bmp": "BMP",
}  # fmt: skip  # a table reads better in columns
PLAIN_MODES = ("RGB", "L")
NAMED = 3


def check_files(pictures: Examination) -> list[Finding]:
    """Return what is wrong with single files."""
    found = (_unreadable(pictures), _wrong_names(pictures), _odd_modes(pictures))
    return [finding for finding in (*found, _ignored(pictures)) if finding is not None]


def _unreadable(pictures: Examination) -> Finding | None:
    if not pictures.faults:
        return None
    return Finding(
        "unreadable",
        "error",
        trn("{count} file cannot be read", "{count} files cannot be read", len(pictures.faults)),
        tr(
            "a training refuses to start with them: remove them, or use --data.skip_bad or the "
            "overrides"
        ),
        singles(sorted(pictures.faults)),
        tuple(pictures.faults[i] for i in sorted(pictures.faults)),
    )


def _wrong_names(pictures: Examination) -> Finding | None:
    """Find files whose content is of another kind than their name says."""
    wrong = {
        i: tr("a {kind} file", kind=facts.kind)
        for i, (item, facts) in enumerate(zip(pictures.items, pictures.files, strict=True))
        if isinstance(item, Path)
        and facts is not None
        and i not in pictures.faults
        and KINDS.get(item.suffix.lower(), facts.kind) != facts.kind
    }
    if not wrong:
        return None
    return Finding(
        "wrong-name",
        "note",
        trn(
            "{count} file is of another kind than its name says",
            "{count} files are of another kind than their names say",
            len(wrong),
        ),
        tr("nunbit goes by the content; other programs may fail"),
        singles(list(wrong)),
        tuple(wrong.values()),
    )


def _odd_modes(pictures: Examination) -> Finding | None:
    """Find files that are converted before use: palettes, transparency, CMYK, 16 bits, frames."""
    odd = {}
    for i, facts in enumerate(pictures.files):
        if facts is None or i in pictures.faults:
            continue
        if facts.num_frames > 1:
            odd[i] = tr(
                "{num_frames} frames, of which the first is used", num_frames=facts.num_frames
            )
        elif facts.mode not in PLAIN_MODES:
            odd[i] = tr("mode {mode}", mode=facts.mode)
    if not odd:
        return None
    kinds = Counter(odd.values()).most_common()
    named = ", ".join(
        tr("{count} of {kind}", count=count, kind=kind) for kind, count in kinds[:NAMED]
    )
    return Finding(
        "odd-mode",
        "note",
        trn(
            "{count} picture is not plain RGB or grey: {named}",
            "{count} pictures are not plain RGB or grey: {named}",
            len(odd),
            named=named,
        ),
        tr("nunbit converts them (transparent parts become white, 16 bits become 8)"),
        singles(list(odd)),
        tuple(odd.values()),
    )


def _ignored(pictures: Examination) -> Finding | None:
    ignored = pictures.source.ignored
    if not ignored:
        return None
    return Finding(
        "ignored",
        "note",
        trn(
            "{count} file is no picture by its name or in no class, and not used: {named}",
            "{count} files are no pictures by their names or in no class, and not used: {named}",
            len(ignored),
            named=listed(ignored, NAMED),
        ),
    )
