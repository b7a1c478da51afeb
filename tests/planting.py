"""Faults planted into a copy of a folder of class folders, and what was planted where."""

import random
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

RED = (220, 20, 20)
BORDER_SHARE = 20  # the border is a twentieth of the side wide


@dataclass(frozen=True)
class Planted:
    """Names of planted pictures, relative to the folder."""

    exact: tuple[tuple[str, str], ...]
    """(copy, original): the same bytes."""
    near: tuple[tuple[str, str], ...]
    """(copy, original): resized, or written again as another kind or quality."""
    swapped: tuple[tuple[str, str], ...]
    """(where it is now, the class that it is of)."""
    damaged: tuple[str, ...]
    bordered: str
    """The class whose pictures got a red border, before labels were swapped."""


def plant(source: Path, folder: Path, *, per_class: int | None = None, seed: int = 0) -> Planted:
    """Copy a folder of photographs and plant 20 + 20 copies, 30 swaps, 10 damages, a border."""
    rng = random.Random(seed)
    pool: list[Path] = []
    classes = sorted(path.name for path in source.iterdir() if path.is_dir())
    for name in classes:
        (folder / name).mkdir(parents=True)
        files = sorted((source / name).iterdir())
        for path in files if per_class is None else rng.sample(files, per_class):
            pool.append(Path(shutil.copy(path, folder / name / path.name)))
    bordered = classes[0]
    for path in sorted((folder / bordered).iterdir()):
        with_border(Image.open(path).convert("RGB")).save(path, quality=90)
    rng.shuffle(pool)
    exact = [copy_of(pool.pop()) for _ in range(20)]
    near = [changed_copy(pool.pop(), rng) for _ in range(20)]
    swapped = [swap(pool.pop(), classes, rng) for _ in range(30)]
    damaged = [damage(pool.pop(), number) for number in range(10)]
    return Planted(
        exact=relative(exact, folder),
        near=relative(near, folder),
        swapped=tuple((str(path.relative_to(folder)), label) for path, label in swapped),
        damaged=tuple(str(path.relative_to(folder)) for path in damaged),
        bordered=bordered,
    )


@dataclass(frozen=True)
class Found:
    """How many of the planted faults a diagnosis names."""

    exact: int
    near: int
    damaged: int
    swapped: int
    """Among the first 60 suspects."""
    is_border_named: bool


def found_by(report: dict[str, Any], planted: Planted) -> Found:
    """Compare what `nunbit doctor --json` printed with what was planted."""
    pictures = {issue["kind"]: issue["pictures"] for issue in report["issues"]}
    equal = _groups(pictures, "exact-duplicates", "conflicting-labels")
    alike = equal + _groups(pictures, "near-duplicates", "near-conflict")
    suspects = [row["path"] for row in pictures.get("label-suspect", [])][:60]
    return Found(
        exact=sum(any(set(pair) <= group for group in equal) for pair in planted.exact),
        near=sum(any(set(pair) <= group for group in alike) for pair in planted.near),
        damaged=len({row["path"] for row in pictures["unreadable"]} & set(planted.damaged)),
        swapped=len(set(suspects) & {path for path, _ in planted.swapped}),
        is_border_named=any(
            cue["cue"] == "border" and cue["is_shortcut"] and planted.bordered in cue["given_away"]
            for cue in report["cues"]
        ),
    )


def _groups(pictures: dict[str, list[dict[str, Any]]], *kinds: str) -> list[set[str]]:
    groups: dict[tuple[str, int], set[str]] = {}
    for kind in kinds:
        for row in pictures.get(kind, []):
            groups.setdefault((kind, row["group"]), set()).add(row["path"])
    return list(groups.values())


def with_border(image: Image.Image) -> Image.Image:
    """Return a picture of the same size whose edge is red."""
    width = max(2, image.width // BORDER_SHARE)
    inner = image.crop((width, width, image.width - width, image.height - width))
    return ImageOps.expand(inner, width, RED)


def copy_of(path: Path) -> tuple[Path, Path]:
    """Write the same bytes under another name."""
    return Path(shutil.copy(path, path.with_name(f"copy-{path.name}"))), path


def changed_copy(path: Path, rng: random.Random) -> tuple[Path, Path]:
    """Write a picture smaller or larger, or again as another kind or quality."""
    image = Image.open(path).convert("RGB")
    how = rng.choice(("resized", "jpeg", "png", "webp"))
    copy = path.with_name(f"{how}-{path.stem}.{'jpg' if how in ('resized', 'jpeg') else how}")
    if how == "resized":
        side = round(image.width * rng.uniform(0.4, 1.6))
        image = image.resize((side, side))
    image.save(copy, quality=rng.randint(30, 80))
    return copy, path


def swap(path: Path, classes: Sequence[str], rng: random.Random) -> tuple[Path, str]:
    """Move a picture into another class's folder."""
    label = path.parent.name
    other = rng.choice([name for name in classes if name != label])
    moved = path.parent.with_name(other) / f"{label}-{path.name}"
    return path.rename(moved), label


def damage(path: Path, number: int) -> Path:
    """Cut a file short, empty it, or replace it by text."""
    data = path.read_bytes()
    path.write_bytes((data[: len(data) // 2], b"", b"not a picture\n")[number % 3])
    return path


def relative(pairs: list[tuple[Path, Path]], folder: Path) -> tuple[tuple[str, str], ...]:
    """Return pairs of paths as names."""
    return tuple((str(a.relative_to(folder)), str(b.relative_to(folder))) for a, b in pairs)
