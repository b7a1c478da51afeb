"""What a disk may hold after a power loss, built from the operations of a real run."""

import os
import re
import shutil
from pathlib import Path

from nunbit.checkpoint import FOLDER, load_newest
from nunbit.errors import DataError

from .harness import Report, begin_or_go_on, in_child, tiny, wait


def power_loss(folder: Path, deep: bool) -> Report:
    """Every legal state of the disk after a power loss: some checkpoint always loads (F03).

    The run's operations are recorded; then, for each prefix, contents that were not synced are
    lost, halved or kept, and renames whose folder was not synced are kept or undone (Pillai et
    al., OSDI 2014).
    """
    report = Report("state after a power loss loads (F03)")
    record = folder / "operations"
    config, home = tiny(**{"train.epochs": 1}), folder / "r"

    def work() -> None:
        _record_operations(record)
        begin_or_go_on(config, home)

    assert wait(in_child(work)) == 0
    operations = [line.split("\t") for line in record.read_text().splitlines()]
    had_one = False
    for end in range(1, len(operations) + 1):
        had_one = had_one or _has_synced_checkpoint(operations[:end])
        for loss in ("lost", "half", "kept"):
            for undo in (False, True):
                state = folder / "state"
                _build_state(operations[:end], record.with_suffix(".d"), state, loss, undo)
                try:
                    newest = load_newest(state, lambda _line: None)
                    ok = newest is not None or not had_one
                except DataError:
                    ok = not had_one
                report.expect(ok, f"after operation {end}, unsynced {loss}, undone {undo}")
                shutil.rmtree(state)
    return report


def _record_operations(record: Path) -> None:
    """Note each temporary file, its contents, its sync, its rename and the folder's sync."""
    contents = record.with_suffix(".d")
    contents.mkdir()
    names: dict[int, str] = {}
    open_, fsync, replace = os.open, os.fsync, os.replace

    def note(*fields: str) -> None:
        with record.open("a") as lines:
            lines.write("\t".join(fields) + "\n")

    def opened(path: object, *args: int, **kwargs: object) -> int:
        handle: int = open_(path, *args, **kwargs)  # type: ignore[call-overload]
        names[handle] = str(path)
        return handle

    def synced(handle: int) -> None:
        path = Path(names[handle])
        if path.is_dir():
            note("syncdir", str(path))
        else:
            copy = contents / f"{len(list(contents.iterdir()))}"
            shutil.copyfile(path, copy)
            note("write", str(path), copy.name)
            note("sync", str(path))
        fsync(handle)

    def replaced(old: Path, new: Path) -> None:
        note("rename", str(old), str(new))
        replace(old, new)

    os.open, os.fsync, os.replace = opened, synced, replaced  # type: ignore[assignment]


def _is_checkpoint(path: str) -> bool:
    return re.search(r"/checkpoints/step-\d+", path) is not None


def _has_synced_checkpoint(operations: list[list[str]]) -> bool:
    """Return whether a rename to a checkpoint was followed by a sync of its folder."""
    renames = [i for i, op in enumerate(operations) if op[0] == "rename" and _is_checkpoint(op[2])]
    syncs = [i for i, op in enumerate(operations) if op[0] == "syncdir" and op[1].endswith(FOLDER)]
    return bool(renames and syncs and syncs[-1] > renames[0])


def _build_state(
    operations: list[list[str]], contents: Path, state: Path, loss: str, undo: bool
) -> None:
    """Write the checkpoints folder as a disk might hold it after these operations."""
    data, synced, pending = _replay(operations, contents)
    for old, new, before in reversed(pending) if undo else ():
        data[old] = data.pop(new)
        synced |= {old} if new in synced else set()
        data |= {new: before} if before is not None else {}
    (state / FOLDER).mkdir(parents=True)
    for path, held in data.items():
        if f"/{FOLDER}/" in path:
            kept = {"lost": b"", "half": held[: len(held) // 2], "kept": held}[loss]
            (state / FOLDER / Path(path).name).write_bytes(held if path in synced else kept)


Renames = list[tuple[str, str, bytes | None]]


def _replay(
    operations: list[list[str]], contents: Path
) -> tuple[dict[str, bytes], set[str], Renames]:
    """Return contents by path, paths whose contents are synced, and renames that are not."""
    data: dict[str, bytes] = {}
    synced: set[str] = set()
    pending: Renames = []
    for kind, path, *rest in operations:
        if kind == "write":
            data[path] = (contents / rest[0]).read_bytes()
        elif kind == "sync":
            synced.add(path)
        elif kind == "rename":
            pending.append((path, rest[0], data.get(rest[0])))
            data[rest[0]] = data.pop(path)
            synced |= {rest[0]} if path in synced else set()
        else:
            pending = [p for p in pending if str(Path(p[1]).parent) != path]
    return data, synced, pending
