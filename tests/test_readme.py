"""What the README shows works as it stands there."""

import json
import re
import runpy
import shlex
from pathlib import Path
from typing import Any

import pytest

import nunbit
from conftest import noisy_picture
from nunbit.cli import app, main
from nunbit.cli.words import split_settings
from nunbit.models.registry import BUILDERS

README = Path(__file__).parents[1] / "README.md"
KOREAN = README.with_name("README.ko.md")


def blocks(language: str, readme: Path = README) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", readme.read_text(encoding="utf-8"), flags=re.S)


def without_comments(code: str) -> list[str]:
    return [line.partition("#")[0].rstrip() for line in code.splitlines()]


def test_the_korean_readme_keeps_up() -> None:
    """The same sections, commands, pictures and links, in the same order."""
    for language in ("sh", "python"):
        english, korean = blocks(language), blocks(language, KOREAN)
        assert list(map(without_comments, english)) == list(map(without_comments, korean))
    texts = [readme.read_text(encoding="utf-8") for readme in (README, KOREAN)]
    assert texts[0].count("\n## ") == texts[1].count("\n## ")
    english, korean = (
        [target for target in re.findall(r"\]\(([^)#]+)\)", text) if "/" in target]
        for text in texts
    )
    assert set(english) - {"docs/translating.md"} == set(korean)


def test_the_python_example_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    noisy_picture((30, 30, 30), 0, (12, 12)).save(tmp_path / "new.jpg")
    code = "\n".join(blocks("python")).replace("epochs=3", "epochs=2, train__threads=1")
    exec(compile(code, "README.md", "exec"), {})
    assert "of 359 test pictures" in capsys.readouterr().out


def test_the_page_for_programs_runs_from_top_to_bottom(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    noisy_picture((30, 30, 30), 0, (12, 12)).save(tmp_path / "new.jpg")
    code = "\n".join(blocks("python", README.parent / "docs" / "python.md"))
    found: dict[str, Any] = {}
    try:
        exec(compile(code.replace("epochs=3", "epochs=1"), "python.md", "exec"), found)
    finally:
        BUILDERS.pop("mine", None)
    printed = capsys.readouterr().out
    assert "unreadable: not-there.jpg" in printed
    assert "(400, {'error':" in printed
    assert "nowhere" in printed
    assert found["answer"]((tmp_path / "new.jpg").read_bytes())[0] == 200
    assert found["logits"].shape == (1, 10)
    assert found["again"].card["model"]["args"] == {"width": 4}
    clf = found["clf"]
    label = clf.class_names[found["logits"].argmax()]
    assert clf.predict("new.jpg")[0].label == label, "the plain network says the same"


def test_every_command_shown_is_one_that_nunbit_takes() -> None:
    lines = [line.split("#")[0] for block in blocks("sh") for line in block.splitlines()]
    commands = [line.partition("nunbit ")[2] for line in lines if "nunbit " in line]
    assert len(commands) >= 5
    for command in commands:
        words, _ = split_settings(shlex.split(command))
        app.parse_args(words, exit_on_error=False, print_error=False)


@pytest.mark.parametrize(
    "page",
    [*README.parent.glob("*.md"), *(README.parent / "docs").glob("*.md")],
    ids=lambda page: page.name,
)
def test_every_link_leads_to_a_file(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_the_example_of_an_own_loop_makes_a_model(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(README.parent / "examples" / "own_loop.py"), run_name="__main__")
    assert "validation 9" in capsys.readouterr().out
    found = nunbit.load("digits.safetensors").evaluate("digits")
    assert found.accuracy > 0.9


@pytest.mark.parametrize("words", [(), ("photos/",)])
def test_an_example_without_its_words_says_how_it_is_called(
    words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = README.parent / "examples" / "unknown.py"
    monkeypatch.setattr("sys.argv", [str(file), *words])
    with pytest.raises(SystemExit, match=r"python examples/unknown.py photos/ new\.jpg"):
        runpy.run_path(str(file), run_name="__main__")


def keys_of(command: str) -> set[str]:
    """Return the keys that docs/json.md gives for a command."""
    page = (README.parent / "docs" / "json.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`.*?) \| (`.*) \|$", page, flags=re.M)
    found = [keys for commands, keys in rows if f"`{command}`" in commands]
    assert len(found) == 1, command
    return set(re.findall(r"`(\w+)`", found[0]))


@pytest.mark.slow
def test_answers_have_the_keys_that_the_page_for_programs_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    noisy_picture((30, 30, 30), 0, (12, 12)).save(tmp_path / "new.png")

    def answer(*words: str) -> dict[str, Any]:
        assert main([*words, "--json"]) == 0
        found: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
        return found

    short = ["--train.epochs", "1", "--train.threads", "1", "--quiet"]
    trained = answer("train", "digits/cnn", *short)
    assert set(trained) == keys_of("train")
    assert set(answer("resume", trained["run_dir"])) > keys_of("resume")
    said = {
        "evaluate": answer("evaluate", trained["run_dir"]),
        "predict": answer("predict", trained["run_dir"], "new.png"),
        "compare": answer("compare", "digits/cnn", "--seeds", "2", "--jobs", "1", *short),
        "doctor": answer("doctor", "digits", "--features", "none", "--sample", "100"),
        "explain net": answer("explain", "net"),
        "preview": answer("preview"),
        "lr-find": answer("lr-find", "--steps", "20", "--train.threads", "1"),
        "report": answer("report", trained["run_dir"]),
        "export": answer("export", trained["run_dir"]),
    }
    for command, found in said.items():
        assert set(found) == keys_of(command), command
    for command in ("models", "recipes", "settings"):
        assert command in answer(command)
