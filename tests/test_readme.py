"""What the README shows works as it stands there."""

import re
import runpy
import shlex
from pathlib import Path

import pytest

import nunbit
from conftest import noisy_picture
from nunbit.cli import app
from nunbit.config import split_settings

README = Path(__file__).parents[1] / "README.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README.read_text(), flags=re.S)


def test_the_python_example_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    noisy_picture((30, 30, 30), 0, (12, 12)).save(tmp_path / "new.jpg")
    code = "\n".join(blocks("python")).replace("epochs=3", "epochs=2, train__threads=1")
    exec(compile(code, "README.md", "exec"), {})
    assert "of 359 test pictures" in capsys.readouterr().out


def test_every_command_shown_is_one_that_nunbit_takes() -> None:
    lines = [line.split("#")[0] for block in blocks("sh") for line in block.splitlines()]
    commands = [line.partition("nunbit ")[2] for line in lines if "nunbit " in line]
    assert len(commands) >= 5
    for command in commands:
        words, _ = split_settings(shlex.split(command))
        app.parse_args(words, exit_on_error=False, print_error=False)


def test_every_link_leads_to_a_file() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README.read_text()):
        assert (README.parent / target).exists(), target


def test_the_example_of_an_own_loop_makes_a_model(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(README.parent / "examples" / "own_loop.py"), run_name="__main__")
    assert "validation 9" in capsys.readouterr().out
    found = nunbit.load("digits.safetensors").evaluate("digits")
    assert found.accuracy > 0.9
