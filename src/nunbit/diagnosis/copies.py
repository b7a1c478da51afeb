"""Pictures that occur more than once: exactly or nearly, under two labels, in two parts."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch

from nunbit.data.duplicates import group_near_duplicates
from nunbit.diagnosis.examination import Examination, Ints
from nunbit.diagnosis.findings import Finding, Severity, some_pictures
from nunbit.language import mark, tr

Groups = list[tuple[int, ...]]


@dataclass(frozen=True)
class Copies:
    """Groups of two or more positions each, by what they share."""

    equal: Groups
    """The same pixels."""
    near: Groups
    """One of each distinct picture of a group that looks alike, in each part that has it."""
    group_of: Ints
    """int64 (R,): a number per readable picture; those that look alike share it."""


def find_copies(pictures: Examination) -> Copies:
    """Group the readable pictures."""
    group_of = group_near_duplicates(torch.from_numpy(pictures.images))
    positions = pictures.readable.tolist()
    equal: dict[str, list[int]] = {}
    for i, digest in zip(positions, pictures.digests, strict=True):
        equal.setdefault(digest, []).append(i)
    near: dict[int, dict[tuple[str, str], int]] = {}
    for i, digest, group in zip(positions, pictures.digests, group_of.tolist(), strict=True):
        near.setdefault(group, {}).setdefault((digest, pictures.parts[i]), i)
    alike = (list(at.values()) for at in near.values() if len({digest for digest, _ in at}) > 1)
    return Copies(_larger(equal.values()), _larger(alike), group_of)


def check_copies(pictures: Examination, copies: Copies) -> list[Finding]:
    """Return what copies do to labels and to the measured accuracy.

    A group is named once, by the worst that is true of it: two labels, two parts, being there.
    """
    severe: Severity = "warning" if pictures.source.is_published else "error"
    is_split_here = "all" in pictures.source.parts
    plain: Severity = "warning" if is_split_here else "note"
    rows: tuple[tuple[str, Severity, Groups, str, str], ...] = (
        (
            "conflicting-labels", severe, copies.equal,
            mark("{pictures} are the same in groups of two labels or more"),
            mark("one label at least is wrong: drop them or correct it"),
        ),
        (
            "leak", severe, copies.equal,
            mark("{pictures} are the same in two of train, val and test"),
            mark("the measured accuracy is too high: nunbit leaves them out of train and val"),
        ),
        (
            "exact-duplicates", plain, copies.equal,
            mark("{pictures} are the same as another of their class"),
            mark("they count more than once; nunbit keeps copies on one side of its splits"),
        ),
        (
            "near-conflict", "warning", copies.near,
            mark("{pictures} look alike in groups of two labels or more"),
            mark("look at them: one label may be wrong"),
        ),
        (
            "near-leak", "warning", copies.near,
            mark("{pictures} look alike in two of train, val and test"),
            mark("the measured accuracy may be too high: the overrides drop the training's"),
        ),
        (
            "near-duplicates", plain, copies.near,
            mark("{pictures} look like another of their class"),
            mark("keep them on one side of the split: --data.group-duplicates")
            if is_split_here else "",
        ),
    )  # fmt: skip  # a table reads better in columns
    found, named = [], set[tuple[int, ...]]()
    for kind, severity, groups, message, advice in rows:
        is_so = _tests(pictures)[kind.removeprefix("near-").removeprefix("exact-")]
        chosen = [group for group in groups if group not in named and is_so(group)]
        named |= set(chosen)
        if chosen:
            said = tr(message, pictures=some_pictures(sum(map(len, chosen))))
            found.append(Finding(kind, severity, said, advice and tr(advice), tuple(chosen)))
    return found


def _tests(pictures: Examination) -> dict[str, Callable[[tuple[int, ...]], bool]]:
    """Return what must be true of a group, by the kind of finding."""

    def in_two_classes(group: tuple[int, ...]) -> bool:
        return len({int(pictures.labels[i]) for i in group}) > 1

    def in_two_parts(group: tuple[int, ...]) -> bool:
        return len({pictures.parts[i] for i in group}) > 1

    return {
        "conflicting-labels": in_two_classes,
        "conflict": in_two_classes,
        "leak": in_two_parts,
        "duplicates": lambda _group: True,
    }


def _larger(groups: Iterable[list[int]]) -> Groups:
    return [tuple(group) for group in groups if len(group) > 1]
