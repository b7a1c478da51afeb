"""The wheel in an empty environment, outside the checkout."""

import json
import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from conftest import write_classes

ROOT = Path(__file__).parents[1]


def run(*words: str | Path, cwd: Path) -> str:
    """Run a command without this checkout on its path and return its standard output."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    done = subprocess.run(
        [str(w) for w in words], cwd=cwd, env=clean, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_wheel_trains_predicts_and_evaluates_elsewhere(tmp_path: Path) -> None:
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", tmp_path, ROOT,
        cwd=tmp_path)  # fmt: skip  # one command, one line
    wheel = next(tmp_path.glob("nunbit-*.whl"))
    # The environment is empty but for the wheel; torch and the other dependencies, gigabytes that
    # this interpreter has already, are lent to it by a path file.
    home = tmp_path / "venv"
    venv.create(home, with_pip=True)
    python = home / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", "--no-deps", wheel, cwd=tmp_path)
    site = next((home / "lib").glob("python*/site-packages"))
    lent = [p for p in sys.path if p.endswith("site-packages")]
    (site / "lent.pth").write_text("\n".join(lent) + "\n")
    where = run(python, "-c", "import nunbit; print(nunbit.__file__)", cwd=tmp_path)
    assert str(home) in where

    nunbit = home / "bin" / "nunbit"
    settings = ("--train.epochs", "3", "--data.size", "16", "--train.batch_size", "16")
    write_classes(tmp_path / "colours", 12)
    out = run(nunbit, "train", "--data", "colours", *settings, "--run-dir", "r", "--json",
              cwd=tmp_path)  # fmt: skip
    assert json.loads(out)["test"]["n"] == 6
    assert (tmp_path / "r" / "report.html").stat().st_size > 10_000
    out = run(nunbit, "predict", "r", "colours/red/000.png", "--json", cwd=tmp_path)
    assert json.loads(out)["predictions"][0]["label"] in ("red", "green", "blue")
    out = run(nunbit, "evaluate", "r", "--data", "colours", "--json", cwd=tmp_path)
    assert json.loads(out)["n"] == 6
