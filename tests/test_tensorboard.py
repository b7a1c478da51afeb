"""TensorBoard events, read back as TensorBoard reads them."""

import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

import nunbit.training.loop as loop
from nunbit.cli import main
from nunbit.config import RunConfig
from nunbit.data.pictures import ImageSet
from nunbit.data.preprocess import Preprocess
from nunbit.errors import UsageError
from nunbit.events import CURVES, Events, draw
from nunbit.finished import Finished
from nunbit.progress import Display
from nunbit.run import resume_run, train_run
from nunbit.runfolder import EVENTS

QUIET = Display(quiet=True)


def trained(config: RunConfig, folder: Path, *, tensorboard: bool = True) -> Finished:
    """Train without drawing a page."""
    return train_run(config, folder, QUIET, lambda _finished: None, tensorboard=tensorboard)


def events_of(run_dir: Path) -> Any:
    """Read a run's events."""
    pytest.importorskip("tensorboard", reason='needs pip install "nunbit[tensorboard]"')
    from tensorboard.backend.event_processing import event_accumulator

    read = event_accumulator.EventAccumulator(str(run_dir / EVENTS), {"scalars": 0, "images": 0})
    read.Reload()
    return read


def curve(read: Any, tag: str) -> dict[int, float]:
    """Return the values by step, each of which occurs once."""
    events = read.Scalars(tag)
    steps = [event.step for event in events]
    assert steps == sorted(set(steps)), tag
    return {event.step: event.value for event in events}


def test_a_run_writes_curves_graph_pictures_and_hyper_parameters(
    quick: RunConfig, tmp_path: Path
) -> None:
    pytest.importorskip("tensorboard")
    finished = trained(quick, tmp_path / "r")
    read = events_of(tmp_path / "r")
    assert set(read.Tags()["scalars"]) >= set(CURVES)
    for tag, name in CURVES.items():
        expected = {e.step: getattr(e, name) for e in finished.epochs}
        assert curve(read, tag) == pytest.approx(expected, rel=1e-6), tag
    final = {finished.epochs[-1].step: finished.test.accuracy}
    assert curve(read, "hparam/test_accuracy") == pytest.approx(final)
    (picture,) = read.Images("test/predictions")
    assert picture.encoded_image_string.startswith(b"\x89PNG")
    assert picture.width > 500
    names = {node.name for node in read.Graph().node}
    assert any("Conv2d[conv1]" in name for name in names)

    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    content = read.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    given = HParamsPluginData.FromString(content).session_start_info.hparams
    assert given["optim.lr"].number_value == quick.optim.lr
    assert given["model.width"].number_value == 4
    assert given["recipe"].string_value == "quick"


def test_events_do_not_change_a_bit_and_are_not_written_unasked(
    quick: RunConfig, tmp_path: Path
) -> None:
    pytest.importorskip("tensorboard")
    config = quick.override({"model.name": "net-dropout", "train.epochs": 1})
    with_events = trained(config, tmp_path / "a").classifier.module.state_dict()
    without = trained(config, tmp_path / "b", tensorboard=False).classifier.module
    for name, tensor in without.state_dict().items():
        assert torch.equal(tensor, with_events[name]), name
    assert not (tmp_path / "b" / EVENTS).exists()


@pytest.mark.parametrize("every", ["off", "25steps"])
def test_after_a_crash_no_step_is_double_or_missing(
    every: str, quick: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorboard")
    config = quick.override({"train.epochs": 4, "train.checkpoint_every": every})
    original = loop.train_step

    def crash(state: Any, *rest: Any) -> None:
        if state.step == 70:  # in the fourth epoch of 21 steps
            raise RuntimeError("a crash")
        original(state, *rest)

    monkeypatch.setattr(loop, "train_step", crash)
    with pytest.raises(RuntimeError, match="a crash"):
        trained(config, tmp_path / "r")
    assert list(curve(events_of(tmp_path / "r"), "train/loss")) == [21, 42, 63]
    monkeypatch.setattr(loop, "train_step", original)
    # Files are read in the order of their names, which hold the second: another process starts
    # later, and has no earlier file of its own to be counted with.
    time.sleep(1)
    finished = resume_run(tmp_path / "r", QUIET, lambda _finished: None)
    assert finished is not None
    assert len(finished.epochs) == 4
    read = events_of(tmp_path / "r")
    for tag, name in CURVES.items():
        if name != "images_per_second":
            expected = {e.step: getattr(e, name) for e in finished.epochs}
            assert curve(read, tag) == pytest.approx(expected, rel=1e-6), tag
    assert len(curve(read, "images_per_second")) == 4
    assert len(read.Images("test/predictions")) == 1


def test_a_run_that_is_killed_at_its_end_ends_once(quick: RunConfig, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    finished = trained(quick, tmp_path / "r")
    (tmp_path / "r" / "result.json").unlink()
    assert resume_run(tmp_path / "r", QUIET, lambda _finished: None) is not None
    read = events_of(tmp_path / "r")
    assert len(read.Images("test/predictions")) == 1
    for tag in (*CURVES, "hparam/test_accuracy"):
        assert list(curve(read, tag))[-1] == finished.epochs[-1].step, "and each step once"


def test_a_missing_extra_is_one_line(
    quick: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip  # one fixture a line would say no more
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    assert main(["train", "--tensorboard", "--run-dir", "r"]) == 2
    expected = 'nunbit: TensorBoard events need: pip install "nunbit[tensorboard]"\n'
    assert capsys.readouterr() == ("", expected)
    assert not (tmp_path / "r").exists()
    trained(quick.override({"train.epochs": 1}), tmp_path / "r", tensorboard=False)
    (tmp_path / "r" / "result.json").unlink()
    (tmp_path / "r" / EVENTS).mkdir()
    with pytest.raises(UsageError, match="pip install"):
        resume_run(tmp_path / "r", QUIET, lambda _finished: None)


class FullDisk:
    """A writer on a disk that is full."""

    def add_graph(self, *_: object) -> None:
        raise RuntimeError("cannot be traced\nfor long reasons")

    def add_scalar(self, *_: object) -> None:
        raise OSError(28, "No space left on device")


def test_a_log_that_cannot_be_written_is_said_once(quick: RunConfig, tmp_path: Path) -> None:
    said: list[str] = []
    epoch = trained(quick.override({"train.epochs": 1}), tmp_path / "r", tensorboard=False).epochs[
        0
    ]
    events = Events(FullDisk(), said.append)  # type: ignore[arg-type]
    preprocess = Preprocess(height=8, width=8, channels=1, resize="crop", mean=(0,), std=(1,))
    events.add_graph(nn.Flatten(), preprocess)
    events.add(epoch)
    events.add(epoch)
    events.close()
    assert said == [
        "TensorBoard gets no graph: cannot be traced",
        "cannot write the TensorBoard events ([Errno 28] No space left on device); "
        "training goes on",
    ]


def test_a_network_without_a_graph_ends_no_training(
    quick: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip  # one fixture a line would say no more
    """Tracing raises what it likes; some errors ended the training before its first update."""
    pytest.importorskip("tensorboard")
    from torch.utils.tensorboard import SummaryWriter

    def untraceable(*_: object) -> None:
        print("Error occurs, No graph saved")  # noqa: T201  # as torch does
        raise torch.jit.TracingCheckError("graph differs")

    monkeypatch.setattr(SummaryWriter, "add_graph", untraceable)
    display = Display()
    config = quick.override({"train.epochs": 1})
    train_run(config, tmp_path / "r", display, lambda _finished: None, tensorboard=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert "TensorBoard gets no graph: " in err
    assert list(curve(events_of(tmp_path / "r"), "train/loss")) != []


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_of_one_row_are_drawn(channels: int) -> None:
    images = torch.randint(0, 256, (4, 1, 64, channels), dtype=torch.uint8)
    pictures = ImageSet(images, torch.tensor([0, 1, 0, 1]), list("abcd"), list("abcd"))
    dataset = SimpleNamespace(test=pictures, class_names=("a", "b"))
    drawn = draw(SimpleNamespace(dataset=dataset, test_logits=torch.zeros(4, 2)))  # type: ignore[arg-type]
    assert drawn.shape[2] == 3
