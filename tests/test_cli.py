"""The command line as a stranger uses it: exit codes, one line, help without torch."""

import csv
import io
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from conftest import noisy_picture
from nunbit import api
from nunbit.cli import dispatch, main
from nunbit.cli.app import CALLED_AT
from nunbit.cli.words import split_settings
from nunbit.errors import UsageError

COMMANDS = (
    "train",
    "predict",
    "evaluate",
    "explain",
    "export",
    "import",
    "lr-find",
    "models",
    "preview",
    "recipes",
    "report",
    "settings",
)
QUICK = ["--train.epochs", "1", "--model", "net", "--train.threads=1", "--train.device=cpu"]


def test_settings_are_taken_out_of_the_words() -> None:
    words = ["birds/net", "--optim.lr", "-1", "--json", "--data.flip", "--train.epochs=3"]
    rest, given = split_settings(words)
    assert rest == ["birds/net", "--json"]
    assert given == {"optim.lr": "-1", "data.flip": "true", "train.epochs": "3"}
    with pytest.raises(UsageError, match="did you mean 'optim'"):
        split_settings(["--optin.lr", "3"])
    behind = ["--", "--a.jpg", "--optim.lr", "3"]
    assert split_settings(["r", "--data.flip", *behind]) == (["r", *behind], {"data.flip": "true"})


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_has_an_example_and_imports_no_torch(command: str) -> None:
    code = (
        "import sys\nfrom nunbit.cli import main\n"
        "try:\n    main(sys.argv[1:])\nfinally:\n    assert 'torch' not in sys.modules"
    )
    words = [command, "--help"] if command else ["--help"]
    done = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "nunbit train" in done.stdout if not command else f"nunbit {command}" in done.stdout


def test_help_breaks_lines_where_the_terminal_ends(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not where the source does too, which left half lines."""
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["predict", "--help"]) == 0
    line = "named, the others are classified all the same, and the exit code is 65.\n"
    assert line in capsys.readouterr().out
    assert main(["lr-find", "--help"]) == 0
    below = capsys.readouterr().out.partition("Examples:\n")[2]
    assert below.startswith("  nunbit lr-find birds/net\n  nunbit lr-find --data photos/")
    assert "one to try first, and the peak of a schedule. It depends" in below


@pytest.mark.parametrize("command", COMMANDS)
def test_every_commands_help_shows_an_example(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, "--help"]) == 0
    shown = capsys.readouterr().out
    assert "Examples:" in shown
    assert f"  nunbit {command}" in shown


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate "
                     "memory: you tried to allocate 99 bytes"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 99 GiB"),
    ],
)  # fmt: skip
def test_too_little_memory_is_one_line(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def train(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(api, "train", train)
    assert main(["train"]) == 2
    line = capsys.readouterr().err
    assert line.startswith(
        "nunbit: there is too little memory for this: close other programs, or choose"
    )
    error = RuntimeError("a bug")
    with pytest.raises(RuntimeError, match="a bug"):
        main(["train"])


def test_help_may_be_asked_for_behind_a_setting(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "birds/net", "--optim.lr", "0.1", "--help"]) == 0
    assert "Usage: nunbit train" in capsys.readouterr().out


def test_a_stream_that_was_closed_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """As `nunbit ... 2>&-` starts it."""
    for closed, words, code in (
        ("stderr", ["train", *QUICK, "--run-dir", "r"], 0),
        ("stderr", ["predict", "r", "nowhere.png"], 66),
        ("stdout", ["predict", "r", "nowhere.png"], 66),
        ("stdin", ["predict", "r", "-"], 65),
    ):
        with monkeypatch.context() as patched:
            patched.setattr(sys, closed, None)
            assert main(words) == code


def test_a_budget_begins_with_the_command_and_not_with_the_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A program that had run for a minute left nothing of a budget of a minute."""
    budgets: list[str] = []
    monkeypatch.setattr(api, "train", lambda *_, **given: budgets.append(given["budget"]))
    CALLED_AT.set(time.perf_counter() - 1000)
    with pytest.raises(AttributeError, match="to_dict"):  # what replaces `train` gives no result
        main(["train", "--budget", "60s"])
    assert 55 < float(budgets[0].removesuffix("s")) <= 60


def test_a_program_around_it_may_end_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "split_settings", lambda _words: sys.exit(3))
    with pytest.raises(SystemExit, match="3"):
        main(["models"])


@pytest.mark.parametrize("encoding", ["ascii", "cp949", "utf-8"])
def test_what_an_output_cannot_encode_is_escaped(
    encoding: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `PYTHONIOENCODING=ascii nunbit ...` begins: one name ended a whole batch."""
    assert main(["train", *QUICK, "--run-dir", "r", "--quiet"]) == 0
    name = "사진-é.png"
    noisy_picture((9, 9, 9), 0, (8, 8)).save(tmp_path / name)
    lines = []
    for words in (["predict", "r", name], ["predict", "r", name, "--json"]):
        written = io.BytesIO()
        with monkeypatch.context() as patched:
            patched.setattr(sys, "stdout", io.TextIOWrapper(written, encoding))
            assert main(words) == 0
            lines.append(written.getvalue().decode(encoding))
    shown = {"ascii": r"\uc0ac\uc9c4-\xe9.png", "cp949": r"사진-\xe9.png", "utf-8": name}[encoding]
    assert lines[0].startswith(f"{shown}: ")
    assert json.loads(lines[1])["predictions"][0]["path"] == name
    assert (name in lines[1]) == (encoding == "utf-8")


def test_another_way_with_what_cannot_be_encoded_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    output = io.TextIOWrapper(io.BytesIO(), "ascii", "replace")
    monkeypatch.setattr(sys, "stdout", output)
    assert main(["recipes"]) == 0
    assert output.errors == "replace"


def test_a_reader_that_went_away_is_no_fault_where_rich_prints() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        command = [sys.executable, "-m", "nunbit", "train", "--help"]
        done = subprocess.run(
            command, stdout=writer, stderr=subprocess.PIPE, text=True, check=False
        )
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


def test_train_evaluate_predict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", *QUICK, "--run-dir", "r", "--json"]) == 0
    out, err = capsys.readouterr()
    result = json.loads(out.splitlines()[-1])
    assert len(out.splitlines()) == 1
    assert set(result) >= {
        "run_dir", "recipe", "model", "parameters", "epochs", "steps", "seconds",
        "images_per_second", "final_loss", "train", "test", "model_file",
    }  # fmt: skip  # the design's list
    assert set(result["test"]) == {"accuracy", "n", "ci95"}
    assert "epoch 1/1" in err
    noisy_picture((9, 9, 9), 0, (8, 8)).save(tmp_path / "a.png")
    assert main(["predict", "r", "a.png", "--top", "3", "--json"]) == 0
    prediction = json.loads(capsys.readouterr().out)["predictions"][0]
    assert prediction["path"] == "a.png"
    assert len(prediction["top"]) == 3
    assert main(["predict", result["model_file"], "a.png", "--quiet"]) == 0
    assert capsys.readouterr().out == ""
    assert main(["evaluate", "r", "--json"]) == 0
    measured = json.loads(capsys.readouterr().out)
    assert measured["accuracy"] == result["test"]["accuracy"]
    assert main(["train", "--config", "r/config.json", "--run-dir", "again", "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert again["final_loss"] == result["final_loss"]


def test_predict_names_what_it_cannot_read_and_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", *QUICK, "--run-dir", "r", "--quiet"]) == 0
    for name in ("a", "c"):
        noisy_picture((9, 9, 9), 0, (8, 8)).save(tmp_path / f"{name}.png")
    (tmp_path / "b.png").write_bytes(b"")
    (tmp_path / "d.heic").write_bytes(b"new")
    (tmp_path / "new").mkdir()
    for name in ("a.png", "b.png", "c.png", "d.heic"):
        (tmp_path / name).rename(tmp_path / "new" / name)
    capsys.readouterr()
    assert main(["predict", "r", "new", "--json"]) == 65
    out, err = capsys.readouterr()
    said = json.loads(out)
    assert [one["path"] for one in said["predictions"]] == ["new/a.png", "new/c.png"]
    unreadable = {"new/b.png": "the file is empty", "new/d.heic": "not a picture: text"}
    assert {one["path"]: one["reason"] for one in said["unreadable"]} == unreadable
    assert err.splitlines() == [
        f"nunbit: {name} cannot be read: {reason}" for name, reason in unreadable.items()
    ]
    assert main(["predict", "r", "new"]) == 65
    assert len(capsys.readouterr().out.splitlines()) == 2
    assert main(["predict", "r", "new/a.png"]) == 0


def test_predict_writes_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", *QUICK, "--run-dir", "r", "--quiet"]) == 0
    for name in ("a", "b, or c"):
        noisy_picture((9, 9, 9), 0, (8, 8)).save(tmp_path / f"{name}.png")
    (tmp_path / "bad.png").write_bytes(b"")
    capsys.readouterr()
    words = ["predict", "r", "a.png", "bad.png", "b, or c.png", "--json"]
    assert main([*words, "--output", "new.csv"]) == 65
    (first, last), rows = json.loads(capsys.readouterr().out)["predictions"], []
    with Path("new.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["picture", "predicted", "probability", "verdict", "answer"]
    for said, row in ((first, rows[1]), (last, rows[3])):
        wanted = [
            said["path"],
            said["label"],
            f"{said['probability']:.4f}",
            "label",
            said["answer"],
        ]
        assert row == wanted
    assert rows[2] == ["bad.png", "", "", "unreadable", "the file is empty"]
    before = Path("new.csv").read_bytes()
    assert main([*words, "--output", "new.csv"]) == 73
    assert "new.csv exists already; choose another --output" in capsys.readouterr().err
    assert Path("new.csv").read_bytes() == before


def test_a_table_is_whole_though_nobody_reads_the_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`nunbit predict RUN folder/ --output all.csv | head` left a part of it, with exit code 0."""
    assert main(["train", *QUICK, "--run-dir", "r", "--quiet"]) == 0
    (tmp_path / "new").mkdir()
    for i in range(3):
        noisy_picture((9, 9, 9), i, (8, 8)).save(tmp_path / "new" / f"{i}.png")
    (tmp_path / "new" / "4.png").write_bytes(b"")
    for words, code in ((["--output", "all.csv"], 65), ([], 0)):
        reader, writer = os.pipe()
        os.close(reader)
        with open(writer, "w") as nobody, monkeypatch.context() as patched:
            patched.setattr(sys, "stdout", nobody)
            assert main(["predict", "r", "new", *words]) == code
    assert len((tmp_path / "all.csv").read_text().splitlines()) == 5


def test_names_of_pictures_may_begin_with_hyphens(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", *QUICK, "--run-dir", "r", "--quiet"]) == 0
    names = ["-IMG_1.jpg", "--holiday.jpg", "--jsn"]
    for name in names[:2]:
        noisy_picture((9, 9, 9), 0, (8, 8)).save(tmp_path / name)
    for verb in ("predict", "explain"):
        assert main([verb, "r", names[0]]) == 0
        assert main([verb, "r", "--", *names[:2]]) == 0
        capsys.readouterr()
        assert main([verb, "r", *names[::2]]) == 2, "a misspelt option is none"
        said = "no option --jsn, and no picture of that name; did you mean '--json'?"
        assert capsys.readouterr().err == f"nunbit: {said}\n"


@pytest.mark.slow
def test_predict_reads_standard_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", *QUICK, "--run-dir", "r", "--quiet"]) == 0
    noisy_picture((9, 9, 9), 0, (8, 8)).save(tmp_path / "a.png")
    assert main(["predict", "r", "a.png", "--json"]) == 0
    by_file = json.loads(capsys.readouterr().out.splitlines()[-1])["predictions"][0]
    done = subprocess.run(
        [sys.executable, "-m", "nunbit", "predict", "r", "-", "--json"],
        stdin=(tmp_path / "a.png").open("rb"),
        capture_output=True,
        check=True,
    )
    by_stdin = json.loads(done.stdout)["predictions"][0]
    assert by_stdin["label"] == by_file["label"]
    assert by_stdin["probability"] == pytest.approx(by_file["probability"], abs=1e-5)


def test_models_lists_and_summarises(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "--json"]) == 0
    names = [row["name"] for row in json.loads(capsys.readouterr().out)["models"]]
    assert {"net", "cnn", "mnist-cnn"} <= set(names)
    assert main(["models", "net", "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["parameters"] == 18_090
    assert summary["parameter_sizes"] == [432, 16, 1152, 8, 16384, 32, 64, 2]
    assert main(["models", "net", "--model.width", "32"]) == 0
    assert "38,386 parameters" in capsys.readouterr().out


def test_models_does_what_its_errors_advise(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "net", "--data.size", "8", "--data.channels", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["layers"][0]["output_shape"] == [16, 8, 8]
    assert main(["models", "torchvision:alexnet", "--channels", "1"]) == 2
    assert "add --data.channels 3" in capsys.readouterr().err
    assert main(["models", "torchvision:alexnet", "--data.channels", "3", "--json"]) == 0
    shapes = [layer["output_shape"] for layer in json.loads(capsys.readouterr().out)["layers"]]
    assert shapes[0] == [64, 55, 55], "networks of the zoos are shown 224 pixels"


def wrong_inputs(tmp_path: Path) -> dict[str, tuple[list[str], int, str]]:
    """Name each mistake with its words, exit code and hint."""
    one = tmp_path / "one" / "cats"
    one.mkdir(parents=True)
    noisy_picture((1, 2, 3), 0, (8, 8)).save(one / "a.png")
    (tmp_path / "empty").mkdir()
    bad = tmp_path / "bad"
    for name in ("cats", "dogs"):
        (bad / name).mkdir(parents=True)
        for i in range(4):
            noisy_picture((i, 2, 3), i + len(name) * (name == "dogs"), (8, 8)).save(
                bad / name / f"{i}.png"
            )
    (bad / "dogs" / "x.jpg").write_text("I am a text")
    (tmp_path / "file").write_text("x")
    shutil.copytree(bad, tmp_path / "bad2")
    (tmp_path / "bad2" / "dogs" / "x.jpg").unlink()
    return {
        "no such data": (["train", "--data", "nowhere"], 66, "no such path"),
        "empty folder": (["train", "--data", "empty"], 65, "folder of its own"),
        "one class": (["train", "--data", "one"], 65, "at least two classes"),
        "bad picture": (["train", "--data", "bad"], 65, "dogs/x.jpg (not a picture: text)"),
        "unknown recipe": (["train", "birds/nett"], 2, "did you mean 'birds/net'"),
        "misspelt setting": (["train", "--train.epoch", "3"], 2, "did you mean 'epochs'"),
        "negative rate": (["train", "--optim.lr", "-1"], 2, "above 0"),
        "unwritable": (["train", *QUICK, "--run-dir", "file/run"], 73, "cannot write into"),
        "occupied": (["train", *QUICK, "--run-dir", "bad"], 73, "not empty"),
        "unknown command": (["trian"], 2, "trian"),
        "unknown option": (["train", "--dta", "x"], 2, "--dta"),
        "no pictures": (["predict", "run"], 2, "no pictures given"),
        "no run": (["predict", "run", "a.png"], 66, "no file run"),
        "no config": (["train", "--config", "none.json"], 66, "none.json"),
        "recipe and config": (["train", "birds/net", "--config", "c"], 2, "choose one"),
        "no settings here": (["recipes", "--train.epochs", "3"], 2, "takes no settings"),
        "no such device": (["train", "--train.device", "tpu"], 2, "cannot be used"),
        "no top": (["predict", "run", "a.png", "--top", "0"], 66, "no file run"),
        "no patience": (
            ["train", "birds/net", "--train.patience", "2", "--data", "bad2"],
            2,
            "needs validation pictures",
        ),
        "huge seed": (["train", "--data.split_seed", "9" * 30], 2, "2^63"),
        "batch of one": (["train", "--train.batch_size", "1"], 2, "2 to 65536"),
        "two sizes": (["explain", "net", "--size", "8", "--data.size", "9"], 2, "is given twice"),
        "two sets": (["train", "--data", "bad2", "--data.source", "x"], 2, "is given twice"),
        "two networks": (["train", "--model", "net", "--model.name", "cnn"], 2, "is given twice"),
        "two tables": (["train", "--overrides", "a", "--data.overrides", "b"], 2, "is given twice"),
        "two weights": (
            ["finetune", "bad2", "--weights", "a", "--model.weights", "b"],
            2,
            "'model.weights' is given twice",
        ),
        "two sizes of an import": (
            ["import", "w.pt", "--model", "net", "--size", "28", "--data.size", "32"],
            2,
            "'data.size' is given twice",
        ),
        "two sets to compare": (
            ["compare", "digits", "--data", "digits", "--data.source", "bad2"],
            2,
            "'data.source' is given twice",
        ),
        "two sizes of a network": (
            ["models", "net", "--size", "8", "--data.size", "9"],
            2,
            "'data.size' is given twice",
        ),
        "huge size": (["models", "net", "--size", "2000"], 2, "size is 2000; allowed: 1 to 1024"),
        "two channels": (["models", "net", "--channels", "2"], 2, "is 2; allowed: 1 or 3"),
        "no classes": (["models", "net", "--classes", "0"], 2, "is 0; allowed: 1 to 100000"),
        "unused epochs": (["models", "net", "--train.epochs", "3"], 2, "not used by models"),
        "unused name": (["models", "net", "--model.name", "cnn"], 2, "allowed: data.size"),
        "unused init": (["explain", "net", "--model.init", "xavier"], 2, "not used by explain"),
        "empty run": (["evaluate", ""], 2, "run is empty"),
        "empty run to resume": (["resume", ""], 2, "run is empty"),
        "empty run to report": (["report", ""], 2, "run is empty"),
        "empty run dir": (["train", *QUICK, "--run-dir", ""], 2, "--run-dir is empty"),
        "empty weights": (["import", "", "--model", "net"], 2, "weights is empty"),
        "a folder of weights": (["import", ".", "--model", "net"], 65, ". is a folder"),
        "long data": (["train", "--data", "x" * 300], 66, "File name too long"),
        "long run": (["evaluate", "x" * 300], 74, "File name too long"),
        "long run to resume": (["resume", "x" * 300], 66, "is no run folder"),
        "long run dir": (["train", *QUICK, "--run-dir", "x" * 300], 73, "File name too long"),
        "bad size": (["models", "net", "--size", "2"], 2, "needs 4 pixels"),
    }


def test_wrong_input_is_one_line_with_its_exit_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, (words, code, hint) in wrong_inputs(tmp_path).items():
        assert main(words) == code, name
        out, err = capsys.readouterr()
        assert out == "", name
        assert err.count("\n") == 1, f"{name}: {err}"
        assert err.startswith("nunbit: "), name
        assert hint in err, f"{name}: {err}"
    assert not (tmp_path / "runs").exists(), "no training was begun"


def test_skip_bad_lists_what_it_skipped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrong_inputs(tmp_path)
    assert main(["train", "--data", "bad", "--skip-bad", *QUICK, "--run-dir", "r"]) == 0
    assert "dogs/x.jpg" in capsys.readouterr().err
    assert (tmp_path / "r" / "skipped.txt").read_text() == "dogs/x.jpg\tnot a picture: text\n"


def test_a_bug_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_words: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(dispatch, "split_settings", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        main(["recipes"])


def test_an_output_that_cannot_be_written_is_no_bug(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # Closing the file fails where something is left to write.
    with open("/dev/full", "w") as full, monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", full)
        assert main(["recipes"]) == 74
    assert capsys.readouterr().err == "nunbit: No space left on device\n"


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (FileNotFoundError(2, "No such file", "a"), 66, "a: No such file"),
        (PermissionError(13, "Permission denied", "a"), 66, "a: Permission denied"),
        (OSError(5, "Input/output error", "a"), 74, "a: Input/output error"),
        (OSError("odd"), 74, "odd"),
    ],
)
def test_an_error_of_the_system_is_one_line(
    error: OSError, code: int, line: str, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip  # one fixture a line would say no more
    def failing(_words: object) -> None:
        raise error

    monkeypatch.setattr(dispatch, "split_settings", failing)
    assert main(["recipes"]) == code
    assert capsys.readouterr().err == f"nunbit: {line}\n"


def test_a_reader_that_goes_away_is_no_error() -> None:
    command = f"{sys.executable} -m nunbit settings | head -n 1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert os.linesep in done.stdout


@pytest.mark.parametrize(
    "words",
    [
        ["train", "--optim.lr", "1", "--optim.lr", "2"],
        ["compare", "digits/cnn:optim.lr=1,optim.lr=2", "digits/cnn"],
    ],
)
def test_a_setting_is_given_once(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    assert "'optim.lr' is given twice" in capsys.readouterr().err


def test_a_list_takes_no_options_of_a_network(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "--size", "64"]) == 2
    assert main(["models", "--model.width", "3"]) == 2
    assert "write: nunbit models NAME" in capsys.readouterr().err


def test_a_closed_output_is_no_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)  # as Python has it after `>&-`
    assert main(["recipes", "--json"]) == 0
