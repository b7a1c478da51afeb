"""A sample of every campaign of `make torture`; the whole of it is in docs/reliability.md."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from torture.seeded import DEFECTS, Defect, source_of

CAMPAIGNS = (
    "random-kills", "command-line-kills", "operation-kills", "failing-writes", "positions",
    "matrix", "damaged-files", "power-loss", "signals", "simultaneous",
)  # fmt: skip  # importing the list would import torch with this process's threads


@pytest.mark.slow
@pytest.mark.parametrize("name", CAMPAIGNS)
def test_nothing_is_lost(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "torture", name],
        cwd=Path(__file__).parent,
        env=dict(os.environ, OMP_NUM_THREADS="1"),
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr[-3000:]}"


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda defect: defect.name)
def test_a_seeded_defect_still_has_its_line(defect: Defect) -> None:
    assert source_of(defect).suffix == ".py"
