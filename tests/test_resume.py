"""Going on: what is refused, what is repaired, and what people are told."""

import errno
import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

import nunbit
from conftest import noisy_picture, write_classes
from nunbit import conclusion, signals
from nunbit.checkpoint import FOLDER, Checkpointer, _files, load_newest, read, restore
from nunbit.cli import main
from nunbit.config import RunConfig
from nunbit.errors import (
    CannotCreateError,
    DataError,
    DivergedError,
    LockedError,
    StoppedError,
    StorageError,
    UsageError,
)
from nunbit.liveline import Cell
from nunbit.lock import LOCK_FILE, locked
from nunbit.models.registry import build_model
from nunbit.progress import Display
from nunbit.run import train_run
from nunbit.runfolder import read_predictions, read_split
from nunbit.runtime import choose_runtime
from nunbit.storage import load_tensors, save_tensors, temporary_name
from nunbit.training import loop
from nunbit.training.optim import build_optimizer
from nunbit.training.state import TrainState
from nunbit.values import Interval


@pytest.fixture
def begun(colours: Path, quick: RunConfig, tmp_path: Path) -> Path:
    """A run on the colours that ended, made to look as if it was killed before it was measured."""
    config = quick.override({"train.checkpoint_every": "2steps", "train.batch_size": 16})
    nunbit.train(config, data=colours, size=16, run_dir=tmp_path / "run", quiet=True)
    (tmp_path / "run" / "result.json").unlink()
    (tmp_path / "run" / "model.safetensors").unlink()
    return tmp_path / "run"


def test_a_finished_run_is_left_alone(begun: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = nunbit.resume(begun, quiet=True)
    before = {p: p.read_bytes() for p in begun.rglob("*") if p.is_file() and p.name != LOCK_FILE}
    assert main(["resume", str(begun), "--json"]) == 0
    out, err = capsys.readouterr()
    assert "ended already" in err
    assert json.loads(out)["test"] == first["test"]
    after = {p: p.read_bytes() for p in begun.rglob("*") if p.is_file() and p.name != LOCK_FILE}
    assert before == after


def test_a_damaged_checkpoint_is_passed_over_and_named(
    begun: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    newest, older = _files(begun / FOLDER)
    data = bytearray(newest.read_bytes())
    data[-3] ^= 1
    newest.write_bytes(bytes(data))
    said: list[str] = []
    found = load_newest(begun, said.append)
    assert found is not None
    assert found.path == older
    assert "does not match its sha256" in said[0] or "do not match its sha256" in said[0]
    assert "falling back" in said[0]
    older.write_bytes(b"")
    assert main(["resume", str(begun)]) == 65
    assert "no checkpoint of" in capsys.readouterr().err


def test_a_checkpoint_that_cannot_be_read_is_passed_over(
    begun: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    newest, older = _files(begun / FOLDER)
    original = Path.read_bytes

    def broken(self: Path) -> bytes:
        if self == newest:
            raise OSError(errno.EIO, "Input/output error")
        return original(self)

    monkeypatch.setattr(Path, "read_bytes", broken)
    said: list[str] = []
    found = load_newest(begun, said.append)
    assert found is not None
    assert found.path == older
    assert "Input/output error; falling back" in said[0]


def test_changed_data_is_refused_with_the_first_differences(
    begun: Path, colours: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (colours / "red" / "003.png").unlink()
    noisy_picture((1, 2, 3), 77, (20, 16)).save(colours / "blue" / "new.png")
    assert main(["resume", str(begun)]) == 65
    line = capsys.readouterr().err
    assert "red/003.png is gone" in line
    assert "blue/new.png is new" in line


def test_files_of_a_run_that_cannot_be_read_are_named(
    begun: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    split, config = begun / "split.csv", begun / "config.json"
    whole, written = split.read_text(), config.read_bytes()
    for spoil in (
        lambda: split.unlink(),
        lambda: split.write_text(f"{whole}\n"),
        lambda: split.write_bytes(b"\xff"),
        lambda: config.write_bytes(b"\xff"),
    ):
        split.write_text(whole)
        config.write_bytes(written)
        spoil()
        assert main(["resume", str(begun), "--quiet"]) == 65
        assert f"cannot be read; train {begun} again" in capsys.readouterr().err


def test_a_damaged_result_is_named(begun: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (begun / "model.safetensors").touch()
    for text in ("{", "[1]"):
        (begun / "result.json").write_text(text)
        assert main(["resume", str(begun)]) == 65
        assert "result.json cannot be read" in capsys.readouterr().err


def test_a_name_with_any_character_is_known_again(begun: Path, colours: Path) -> None:
    for number, name in enumerate(("a\rb", 'a"b', "a\nb", "a,b")):
        (colours / "red" / f"{number:03}.png").rename(colours / "red" / f"{name}.png")
    run = begun.with_name("again")
    config = RunConfig.from_json((begun / "config.json").read_text())
    names = nunbit.train(config, run_dir=run, quiet=True).dataset.test.names
    assert list(read_predictions(run)) == names
    (run / "result.json").unlink()
    nunbit.resume(run, quiet=True)


def test_a_picture_that_a_table_lists_twice_counts_twice(
    begun: Path, colours: Path, tmp_path: Path
) -> None:
    rows = [f"colours/{p.parent.name}/{p.name},{p.parent.name}" for p in colours.rglob("*.png")]
    table = tmp_path / "twice.csv"
    table.write_text("\n".join(["path,label", *rows, *rows]))
    config = RunConfig.from_json((begun / "config.json").read_text())
    run = begun.with_name("again")
    finished = nunbit.train(config, data=table, run_dir=run, quiet=True)
    said = read_predictions(run)
    assert len(said) == finished.test.n
    assert len({name.removesuffix(" (2)") for name in said}) == len(said) / 2, "all are twice there"
    assert len(read_split(run)) == 120
    (run / "result.json").unlink()
    nunbit.resume(run, quiet=True)
    (run / "result.json").unlink()
    table.write_text("\n".join(["path,label", *rows, *rows[1:]]))
    with pytest.raises(DataError, match=r"png \(2\) is gone"):
        nunbit.resume(run, quiet=True)


def test_a_full_disk_tells_nobody_who_holds_a_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with locked(tmp_path), pytest.raises(LockedError), locked(tmp_path):
        pass


def test_one_changed_picture_is_named(begun: Path, colours: Path) -> None:
    noisy_picture((210, 50, 40), 4711, (20, 16)).save(colours / "red" / "003.png")
    with pytest.raises(DataError, match=r"red/003\.png changed"):
        nunbit.resume(begun, quiet=True)


def test_settings_that_changed_are_refused(begun: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = RunConfig.from_json((begun / "config.json").read_text())
    changed = config.override({"optim.lr": 0.5, "train.batch_size": 8})
    (begun / "config.json").write_text(changed.to_json())
    assert main(["resume", str(begun)]) == 65
    assert "another optim.lr, train.batch_size" in capsys.readouterr().err


def test_a_run_goes_on_where_its_data_was_moved_to(
    begun: Path, colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(begun, tmp_path / "undisturbed")
    nunbit.resume(tmp_path / "undisturbed", quiet=True)
    (tmp_path / "other").mkdir()
    colours.rename(tmp_path / "other" / "photos")
    assert main(["resume", str(begun)]) == 66
    assert "no such path" in capsys.readouterr().err
    assert main(["resume", str(begun), "--data", "other/photos"]) == 0
    first, second = (tmp_path / name / "model.safetensors" for name in ("undisturbed", "run"))
    one, two = load_tensors(first)[0], load_tensors(second)[0]
    assert all(torch.equal(one[name], two[name]) for name in one)
    written = RunConfig.from_json((begun / "config.json").read_text())
    assert written.data.source == str(tmp_path / "other" / "photos")
    assert nunbit.evaluate(begun, quiet=True).n == 12


def test_other_data_is_not_taken_for_data_that_was_moved(begun: Path, tmp_path: Path) -> None:
    before = (begun / "config.json").read_bytes()
    write_classes(tmp_path / "other", 20, first_seed=500)
    with pytest.raises(DataError, match="changed"):
        nunbit.resume(begun, data=tmp_path / "other", quiet=True)
    assert (begun / "config.json").read_bytes() == before


def test_a_run_goes_on_where_its_device_is_gone(
    begun: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = RunConfig.from_json((begun / "config.json").read_text())
    begun_elsewhere = config.override({"train.device": "cuda:7"})  # where it was fp32 too
    (begun / "config.json").write_text(begun_elsewhere.to_json())
    assert main(["resume", str(begun)]) == 0
    assert "'cuda:7', which cannot be used" in (said := capsys.readouterr().err)
    assert "computing in fp32" in said
    card = load_tensors(begun / "model.safetensors")[1]
    assert (card["config"]["train"]["device"], card["config"]["train"]["precision"]) == (
        "cpu",
        "fp32",
    )
    assert main(["resume", str(begun), "--data", "elsewhere"]) == 2
    assert "ended already; measure it with evaluate --data" in capsys.readouterr().err


def test_a_disk_without_locks_is_not_in_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", no_locks)
    with pytest.raises(CannotCreateError, match="cannot be locked: No locks available"):
        nunbit.train(run_dir=tmp_path / "runs" / "r", quiet=True)
    assert not (tmp_path / "runs").exists(), "nothing is left behind"


def test_a_moved_run_says_where_it_is(begun: Path, tmp_path: Path) -> None:
    nunbit.resume(begun, quiet=True)
    begun.rename(tmp_path / "moved")
    result = nunbit.resume(tmp_path / "moved", quiet=True)
    assert result["run_dir"] == str(tmp_path / "moved")
    assert Path(result["model_file"]).exists()


@pytest.mark.slow
def test_the_time_of_every_part_counts(quick: RunConfig, tmp_path: Path) -> None:
    config = quick.override({"train.epochs": 1, "train.checkpoint_every": "3steps"})
    code = (
        "import sys, signal, time, nunbit, nunbit.training.loop as loop\n"
        "step, done = loop.train_step, []\n"
        "def slow(*args):\n"
        "    step(*args); done.append(1); time.sleep(0.1)\n"
        "    if len(done) == 10: signal.raise_signal(signal.SIGTERM)\n"
        "loop.train_step = slow\n"
        "config = nunbit.RunConfig.from_json(open('c.json').read())\n"
        "nunbit.train(config, run_dir='r', quiet=True)"
    )
    (tmp_path / "c.json").write_text(config.to_json())
    subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    result = nunbit.resume(tmp_path / "r", quiet=True)
    assert result["steps"] == 21
    assert 1.0 < result["seconds"] < 5.0, "ten slow updates of 0.1 s came before the stop"
    assert result["images_per_second"] < 1300


def test_no_run_is_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["resume", str(tmp_path / "none")]) == 66
    assert "is no run folder" in capsys.readouterr().err


def test_a_checkpoint_of_another_network_changes_nothing(begun: Path) -> None:
    checkpoint = load_newest(begun, print)
    assert checkpoint is not None
    model = build_model("net", num_classes=3, in_channels=3, image_size=(16, 16))
    before = {k: v.clone() for k, v in model.state_dict().items()}
    optimizer = build_optimizer(model, RunConfig().optim)
    with pytest.raises(DataError, match="of another network"):
        restore(TrainState(model, optimizer), checkpoint)
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


def test_weights_that_are_not_finite_are_neither_saved_nor_loaded(
    begun: Path, tmp_path: Path
) -> None:
    path = _files(begun / FOLDER)[0]
    tensors, body = load_tensors(path)
    tensors["model/fc1.weight"][0, 0] = float("nan")
    save_tensors(path, tensors, body)
    with pytest.raises(DataError, match="not finite"):
        read(path)
    model = build_model("net", num_classes=3, in_channels=3, image_size=(16, 16))
    torch.nn.init.constant_(model.get_submodule("fc1").bias, float("inf"))  # type: ignore[arg-type]
    state = TrainState(model, build_optimizer(model, RunConfig().optim))
    checkpointer = Checkpointer(tmp_path, Interval(steps=1), {})
    with pytest.raises(DivergedError, match=r"model/fc1\.bias is not finite"):
        checkpointer.save(state, [])
    assert _files(tmp_path / FOLDER) == []


def test_a_rate_that_explodes_is_stopped_and_named(
    quick: RunConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "c.json").write_text(quick.to_json())
    words = ["--optim.name", "sgd", "--optim.lr", "100", "--optim.l2", "10", "--quiet"]
    assert main(["train", "--config", "c.json", *words, "--run-dir", "r"]) == 65
    line = capsys.readouterr().err
    assert "learning rate 100" in line
    assert "--optim.lr 10" in line
    assert "digits/all/" in line, "the batch is named"
    assert not (tmp_path / "r" / "model.safetensors").exists()


def test_only_one_process_writes_a_run(begun: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = (
        "import sys, time; from pathlib import Path; from nunbit.lock import locked\n"
        "with locked(Path(sys.argv[1])):\n    print('held', flush=True); time.sleep(60)"
    )
    words = [sys.executable, "-c", code, str(begun)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        assert main(["resume", str(begun)]) == 75
        line = capsys.readouterr().err
        assert f"process {holder.pid} on {os.uname().nodename} since 20" in line
        holder.kill()
    assert main(["resume", str(begun), "--quiet"]) == 0, "the lock went with its holder"


def test_a_process_does_not_lock_a_run_twice(tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(LockedError, match="this process"), locked(tmp_path):
        pass
    with locked(tmp_path):
        pass


def test_the_thread_count_of_a_run_is_the_one_it_began_with(begun: Path) -> None:
    config = RunConfig.from_json((begun / "config.json").read_text())
    assert config.train.threads == 1
    assert choose_runtime(config.train).threads == 1
    card = load_tensors(_files(begun / FOLDER)[0])[1]["facts"]["config"]
    assert card["train"]["threads"] == 1


def test_a_second_signal_ends_at_once_and_handlers_come_back() -> None:
    code = (
        "import os, signal, sys\nfrom nunbit.signals import stop_requests\n"
        "with stop_requests() as stop:\n"
        "    signal.raise_signal(signal.SIGTERM); print(stop.received.name, flush=True)\n"
        "    signal.raise_signal(signal.SIGTERM); print('never')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGTERM
    assert done.stdout == "SIGTERM\n"
    before = signal.getsignal(signal.SIGTERM)
    with signals.stop_requests():
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before


def test_training_in_a_thread_leaves_signals_alone(quick: RunConfig, tmp_path: Path) -> None:
    failures: list[BaseException] = []

    def work() -> None:
        try:
            nunbit.train(quick, epochs=1, run_dir=tmp_path / "r", quiet=True)
        except BaseException as error:  # noqa: BLE001  # handed to the main thread
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert failures == []


def test_a_log_that_cannot_be_written_does_not_end_the_training(
    quick: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip  # one fixture a line would say no more
    original = Path.open

    def full(self: Path, mode: str = "r", *args: object, **kwargs: object) -> object:
        if self.name == "metrics.jsonl":
            raise OSError(28, "No space left on device")
        return original(self, mode, *args, **kwargs)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", full)
    finished = nunbit.train(quick, run_dir=tmp_path / "r")
    assert len(finished.epochs) == 2
    assert capsys.readouterr().err.count("cannot write the log (No space left on device)") == 1


def test_a_run_folder_that_vanishes_is_an_error(quick: RunConfig, tmp_path: Path) -> None:
    config = quick.override({"train.checkpoint_every": "5steps"})

    def vanish() -> None:
        while not any((tmp_path / "r").glob("checkpoints/step-*")):
            pass
        shutil.rmtree(tmp_path / "r", ignore_errors=True)

    thread = threading.Thread(target=vanish)
    thread.start()
    with pytest.raises(StorageError):
        nunbit.train(config, epochs=200, run_dir=tmp_path / "r", quiet=True)
    thread.join()


def test_a_folder_killed_before_the_run_began_can_be_used(quick: RunConfig, tmp_path: Path) -> None:
    folder = tmp_path / "r"
    (folder / FOLDER).mkdir(parents=True)
    (folder / LOCK_FILE).touch()
    (folder / "split.csv").write_text("torn")
    (folder / temporary_name("config.json")).write_text("{")
    (folder / FOLDER / temporary_name("probe")).touch()
    nunbit.train(quick, epochs=1, run_dir=folder, quiet=True)
    assert not list(folder.rglob(".*.tmp"))


@pytest.mark.parametrize("name", ["split.csv", "skipped.txt", ".notes.tmp", ".a.12ab34cd.tmp"])
def test_what_no_run_left_is_somebody_elses(name: str, quick: RunConfig, tmp_path: Path) -> None:
    (tmp_path / "exp").mkdir()
    (tmp_path / "exp" / name).write_text("mine")
    with pytest.raises(CannotCreateError, match="is not empty"):
        nunbit.train(quick, run_dir=tmp_path / "exp", quiet=True)
    held = {path.name: path.read_text() for path in (tmp_path / "exp").iterdir()}
    assert held == {name: "mine"}


def test_a_file_of_the_users_beside_a_lock_is_no_litter(quick: RunConfig, tmp_path: Path) -> None:
    (tmp_path / LOCK_FILE).touch()
    (tmp_path / ".notes.tmp").write_text("mine")
    with pytest.raises(CannotCreateError, match="is not empty"):
        nunbit.train(quick, run_dir=tmp_path, quiet=True)
    assert (tmp_path / ".notes.tmp").read_text() == "mine"


def test_a_run_never_lies_beside_its_table(
    colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = colours / "split.csv"
    lines = [f"{path},{path.parent.name}\n" for path in sorted(colours.rglob("*.png"))]
    table.write_text("path,label\n" + "".join(lines))
    (colours / LOCK_FILE).touch()  # of a run that was killed
    assert main(["train", "--data", str(table), "--run-dir", str(colours)]) == 73
    assert "holds the data; choose another place with --run-dir" in capsys.readouterr().err
    assert table.read_text().startswith("path,label\n")


def test_a_start_that_fails_leaves_a_folder_of_the_users_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError):
        nunbit.train(data=tmp_path / "empty", run_dir=tmp_path / "empty2", quiet=True)
    (tmp_path / "run").mkdir()
    with pytest.raises(DataError):
        nunbit.train(data=tmp_path / "empty", run_dir=tmp_path / "run", quiet=True)
    assert list((tmp_path / "run").iterdir()) == []
    assert not (tmp_path / "empty2").exists()


@pytest.mark.parametrize("name", ["with spaces", "별 🌟", "x" * 200])
def test_any_folder_name_will_do(name: str, quick: RunConfig, tmp_path: Path) -> None:
    nunbit.train(quick, epochs=1, run_dir=tmp_path / name, quiet=True)
    assert nunbit.evaluate(tmp_path / name, quiet=True).n == 359


def test_a_failed_start_leaves_no_folder(quick: RunConfig, tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        nunbit.train(quick, model="nett", run_dir=tmp_path / "a" / "b", quiet=True)
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("30s", Interval(seconds=30)),
        ("1.5m", Interval(seconds=90)),
        ("2h", Interval(seconds=7200)),
        ("200steps", Interval(steps=200)),
        ("1 step", Interval(steps=1)),
        ("off", Interval()),
    ],
)
def test_intervals(text: str, expected: Interval) -> None:
    assert Interval.parse(text) == expected


@pytest.mark.parametrize("text", ["", "30", "0s", "-1s", "0steps", "1.5steps", "soon", "infs"])
def test_wrong_intervals_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="30s, 5m"):
        RunConfig().override({"train.checkpoint-every": text})


@pytest.mark.slow
def test_a_disk_that_is_really_full(quick: RunConfig, tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text(quick.to_json())
    disk = tmp_path / "disk"
    disk.mkdir()
    train = f"{sys.executable} -m nunbit train --config {tmp_path}/c.json --run-dir {disk}/r"
    # First a disk on which the beginning and one checkpoint fit, but not a second.
    script = (
        f"mount -t tmpfs -o size=256k none {disk} || exit 99\n"
        f"{train} --train.checkpoint-every 2steps --model cnn --model.width 8\n"
        f"code=$?; ls -A {disk}/r/checkpoints; exit $code"
    )
    flags = ["-m"] if os.geteuid() == 0 else ["-Urm"]
    done = subprocess.run(
        ["unshare", *flags, "sh", "-c", script], capture_output=True, text=True, check=False
    )
    if done.returncode in (1, 99) and "nunbit" not in done.stderr:
        pytest.skip(f"no private mounts here: {done.stderr.strip()}")
    assert done.returncode == 74, done.stderr
    assert "disk full: " in done.stderr
    assert re.search(r"needs \d+\.\d MB, \d+\.\d MB are free", done.stderr)
    left = done.stdout.split()
    assert left, "the older checkpoint is still there"
    assert not [name for name in left if name.endswith(".tmp")]


def test_a_checkpoint_that_is_written_again_is_not_both_of_the_two(begun: Path) -> None:
    """A run that was resumed and stopped at once lost its older one."""
    newest, older = _files(begun / FOLDER)
    checkpoint = load_newest(begun, pytest.fail)
    assert checkpoint is not None
    model = build_model("net", num_classes=3, in_channels=3, image_size=(16, 16), args={"width": 4})
    state = TrainState(model, build_optimizer(model, RunConfig().optim))
    state.step = int(newest.stem[5:])
    checkpointer = Checkpointer(begun, Interval.parse("off"), {})
    checkpointer.keep(older)
    checkpointer.keep(checkpoint.path)
    checkpointer.save(state, [])
    assert _files(begun / FOLDER) == [newest, older]


def test_what_a_killed_start_wrote_of_skipped_pictures_is_not_the_next_ones(
    quick: RunConfig, tmp_path: Path
) -> None:
    (tmp_path / "r" / FOLDER).mkdir(parents=True)
    (tmp_path / "r" / "tensorboard").mkdir()
    (tmp_path / "r" / LOCK_FILE).touch()
    (tmp_path / "r" / "skipped.txt").write_text("a.png\tbroken\n")
    nunbit.train(quick, epochs=1, run_dir=tmp_path / "r", quiet=True)
    for name in ("skipped.txt", "tensorboard"):
        assert not (tmp_path / "r" / name).exists()


def test_the_two_checkpoints_that_stay_are_whole(begun: Path) -> None:
    """A damaged one counted as one of the two, and a single good one was left."""
    newest, older = _files(begun / FOLDER)
    newest.write_bytes(newest.read_bytes()[:-9])
    checkpoint = load_newest(begun, lambda _line: None)
    assert checkpoint is not None
    assert checkpoint.path == older
    model = build_model("net", num_classes=3, in_channels=3, image_size=(16, 16), args={"width": 4})
    state = TrainState(model, build_optimizer(model, RunConfig().optim))
    checkpointer = Checkpointer(begun, Interval.parse("off"), {})
    checkpointer.keep(checkpoint.path)
    for step in (1, 2):
        state.step = step
        checkpointer.save(state, [])
        first = older.name if step == 1 else "step-0000000001.safetensors"
        names = {path.name for path in _files(begun / FOLDER)}
        assert names == {first, f"step-{step:010}.safetensors"}


def test_stopping_again_and_again_fills_no_disk(begun: Path) -> None:
    """Each process saves once, when it is stopped."""
    for _ in range(4):
        checkpoint = load_newest(begun, pytest.fail)
        assert checkpoint is not None
        model = build_model(
            "net", num_classes=3, in_channels=3, image_size=(16, 16), args={"width": 4}
        )
        state = TrainState(model, build_optimizer(model, RunConfig().optim))
        state.step = int(checkpoint.path.stem[5:]) + 1
        checkpointer = Checkpointer(begun, Interval.parse("off"), {})
        checkpointer.keep(checkpoint.path)
        checkpointer.save(state, [])
        assert len(_files(begun / FOLDER)) == 2


@pytest.mark.parametrize("moment", ["validation", "training pictures", "test pictures"])
def test_a_signal_after_the_last_update_is_heard(
    moment: str, quick: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was looked for between updates only: minutes of measuring went on to the end."""
    module, name = (
        (loop, "measure_briefly") if moment == "validation" else (conclusion, "collect_logits")
    )
    original, calls = getattr(module, name), []

    def signalling(*args: object) -> object:
        calls.append(True)
        if len(calls) == (2 if moment == "test pictures" else 1):
            os.kill(os.getpid(), signal.SIGTERM)
        return original(*args)

    config = quick.override({"train.epochs": 1})
    with monkeypatch.context() as patched:
        patched.setattr(module, name, signalling)
        with pytest.raises(StoppedError, match=r"after epoch 1, step .* nunbit resume") as e:
            nunbit.train(config, run_dir=tmp_path / "run", quiet=True)
    assert e.value.exit_code == 128 + signal.SIGTERM
    result = nunbit.resume(tmp_path / "run", quiet=True)
    whole = nunbit.train(config, run_dir=tmp_path / "whole", quiet=True)
    assert result["test"] == whole.to_dict()["test"]
    assert result["final_loss"] == whole.to_dict()["final_loss"]


@pytest.mark.parametrize("name", ["collect_logits", "measure_norms"])
def test_a_signal_while_an_epoch_is_measured_is_heard(
    name: str, quick: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the next batch, and not only when the whole split is measured."""
    original, calls = getattr(loop, name), []

    def signalling(*given: object) -> object:
        calls.append(True)
        if len(calls) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(*given)

    config = quick.override({"model.name": "net-batchnorm", "train.precise_bn": True})
    with monkeypatch.context() as patched:
        patched.setattr(loop, name, signalling)
        with pytest.raises(StoppedError, match=r"after epoch 1, step 42; go on with"):
            nunbit.train(config, run_dir=tmp_path / "run", quiet=True)
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 1
    nunbit.resume(tmp_path / "run", quiet=True)
    whole = nunbit.train(config, run_dir=tmp_path / "whole", quiet=True)
    assert len(whole.epochs) == 2
    for file in ("metrics.jsonl", "predictions.csv"):
        assert (tmp_path / "run" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()
    same, _ = load_tensors(tmp_path / "run" / "model.safetensors")
    for key, tensor in load_tensors(tmp_path / "whole" / "model.safetensors")[0].items():
        assert torch.equal(tensor, same[key]), key


def test_the_log_grows_with_each_epoch(quick: RunConfig, tmp_path: Path) -> None:
    counts: list[int] = []

    class Counting(Display):
        def say_cells(self, cells: Sequence[Cell]) -> None:
            lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
            counts.append(len(lines))

    train_run(quick, tmp_path / "run", Counting(quiet=True), lambda _finished: None)
    assert counts == [1, 2]


def test_a_log_that_lost_a_line_is_whole_in_the_end(quick: RunConfig, tmp_path: Path) -> None:
    whole = nunbit.train(quick, run_dir=tmp_path / "whole", quiet=True)
    stop = {"done": False}

    class Torn(Display):
        def say_cells(self, cells: Sequence[Cell]) -> None:
            if not stop["done"]:  # after the first epoch's line was written
                stop["done"] = True
                (tmp_path / "torn" / "metrics.jsonl").write_text('{"epoch": 1, "trai')

    train_run(quick, tmp_path / "torn", Torn(quiet=True), lambda _finished: None)
    logs = [(tmp_path / name / "metrics.jsonl").read_bytes() for name in ("whole", "torn")]
    assert logs[0] == logs[1]
    assert len(whole.epochs) == 2


def test_of_two_threads_one_gets_the_folder(tmp_path: Path) -> None:
    tmp_path.joinpath("run").mkdir()
    start, end, got = threading.Barrier(8), threading.Barrier(8), []

    def hold() -> None:
        start.wait()
        try:
            with locked(tmp_path / "run"):
                got.append(True)
                end.wait()  # until the others have asked
        except LockedError:
            got.append(False)
            end.wait()

    threads = [threading.Thread(target=hold) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(got) == [False] * 7 + [True]


def test_signals_that_a_shell_ignores_stay_ignored() -> None:
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "from nunbit.signals import stop_requests\n"
        "with stop_requests():\n"
        "    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN\n"
        "assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_configuration_that_is_not_understood_says_why(begun: Path) -> None:
    body = json.loads((begun / "config.json").read_text())
    for change, said in (
        ({"format_version": 2}, "configuration format 2"),
        ({"moel": {}}, "no section"),
    ):
        (begun / "config.json").write_text(json.dumps({**body, **change}))
        with pytest.raises(UsageError, match=said):
            nunbit.resume(begun, quiet=True)


def test_a_log_that_cannot_be_written_in_the_end_costs_no_result(
    quick: RunConfig, tmp_path: Path
) -> None:
    class Blocking(Display):
        def say_cells(self, cells: Sequence[Cell]) -> None:
            log = tmp_path / "run" / "metrics.jsonl"
            if log.is_file():
                log.unlink()
                log.mkdir()
                (log / "in the way").touch()

    train_run(quick, tmp_path / "run", Blocking(quiet=True), lambda _finished: None)
    assert (tmp_path / "run" / "result.json").exists()
