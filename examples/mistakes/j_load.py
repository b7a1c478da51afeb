"""(j) `torch.load` without `map_location` or `weights_only`.

    python examples/mistakes/j_load.py

A file remembers the device of its tensors: weights saved on a GPU do not load where there is none.
And a file of `torch.save` is a pickle, so reading all of it runs whatever program was put into it.
Here the program creates an empty file.
"""

from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import torch
from plain import Data, Row, error_of, main, network


class Program:
    """An object whose unpickling creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.path,)


def measure(data: Data, _seeds: int, _epochs: int) -> list[Row]:
    """Load a file from a GPU and a file with a program in it; nothing here is random."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        from_gpu, hostile = folder / "gpu.pt", folder / "hostile.pt"
        # Written as a machine with a GPU writes it; the numbers themselves lie on the CPU.
        with patch.object(torch.serialization, "location_tag", lambda _storage: "cuda:0"):
            torch.save(network(data, 0).state_dict(), from_gpu)
        torch.save({"weight": torch.zeros(1), "extra": Program(folder / "ran")}, hostile)
        loads = [
            error_of(torch.load, from_gpu, weights_only=True),
            error_of(torch.load, from_gpu, weights_only=True, map_location="cpu"),
        ]
        said, ran = [], []
        for weights_only in (False, True):
            said.append(error_of(torch.load, hostile, weights_only=weights_only))
            ran.append("yes" if (folder / "ran").exists() else "no")
            (folder / "ran").unlink(missing_ok=True)
    return [
        Row("a program in the file ran", *ran),
        Row("what `torch.load` said", *said),
        Row("weights of a GPU, on a machine without one", *loads),
    ]


if __name__ == "__main__":
    main(__doc__, measure)
