"""What is seen while nunbit works: on a terminal of any width, in a pipe, in a notebook."""

import io
import os
import re
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest
import rich.console
import torch

from nunbit import liveline, progress
from nunbit.cli import main
from nunbit.config import RunConfig
from nunbit.finished import Finished
from nunbit.liveline import LiveLine, Sums, Trend, clock, fitting, sparkline
from nunbit.progress import Display
from nunbit.run import train_run

CELLS = [("epoch  3/15", 0), ("loss 0.4123", 1), ("running 87.10%", 3), ("val 88.20%", 2)]
ESCAPE = re.compile(r"\x1b\[([?\d;]*)([a-zA-Z])")


def unpublished(_finished: Finished) -> None:
    """Draw no page: these tests look elsewhere."""


class Screen:
    """The few terminal codes that rich uses for a live line, and how wide a row ever was."""

    def __init__(self, text: str) -> None:
        self.rows, self.at, self.widest_live = [""], 0, 0
        self.codes = ESCAPE.findall(text)
        at = 0
        while at < len(text):
            found = ESCAPE.match(text, at)
            if found:
                self._control(found[1], found[2])
                at = found.end()
                continue
            self._write(text[at])
            at += 1

    def _control(self, number: str, letter: str) -> None:
        if letter == "K":
            assert number == "2"
            self.rows[self.at] = ""
        elif letter == "A":
            self.at -= int(number or 1)
        else:
            assert letter in "mhl", f"unknown code {letter}"

    def _write(self, char: str) -> None:
        if char == "\n":
            self.at += 1
            self.rows += [""] * (self.at == len(self.rows))
        elif char != "\r":
            self.rows[self.at] += char
            if " left" in self.rows[self.at]:
                self.widest_live = max(self.widest_live, len(self.rows[self.at]))


@contextmanager
def terminal(monkeypatch: pytest.MonkeyPatch, columns: int) -> Iterator[Callable[[], Screen]]:
    """Make stderr a terminal of a width; give a function that ends it and returns its screen."""
    pty, fcntl, termios = map(pytest.importorskip, ("pty", "fcntl", "termios"))
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    seen = bytearray()

    def read() -> None:
        while True:
            try:
                seen.extend(os.read(master, 4096))
            except OSError:  # the other end was closed
                return

    reader = threading.Thread(target=read)
    reader.start()
    stream = os.fdopen(slave, "w", encoding="utf-8")
    for name, value in (("TERM", "xterm-256color"), ("COLUMNS", str(columns))):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "stderr", stream)

    def end() -> Screen:
        stream.close()
        reader.join()
        return Screen(seen.decode())

    try:
        yield end
    finally:
        stream.close()
        reader.join()
        os.close(master)


class FakeTraining:
    """Counts updates and sums as a training does, without one."""

    def __init__(self, steps_per_epoch: int) -> None:
        self.steps_per_epoch, self.step, self.looks = steps_per_epoch, 0, 0
        self.loss = self.correct = self.images = 0.0

    def look(self) -> Sums:
        self.looks += 1
        return Sums(self.step, self.loss, self.correct, self.images)

    def epoch(self, follow: Callable[..., Iterator[int]], label: str) -> None:
        for _ in follow(range(self.steps_per_epoch), label):
            self.step += 1
            self.loss += 64 * 2.3 / self.step
            self.correct += 64 * (1 - 1 / self.step)
            self.images += 64
        self.loss = self.correct = self.images = 0.0


def test_a_narrow_line_keeps_what_matters_most() -> None:
    assert fitting(CELLS, 80) == [text for text, _ in CELLS]
    assert fitting(CELLS, 40) == ["epoch  3/15", "loss 0.4123", "val 88.20%"]
    assert fitting(CELLS, 11 + 2 + 11) == ["epoch  3/15", "loss 0.4123"]
    assert fitting(CELLS, 1) == ["epoch  3/15"]


def test_sparklines_and_clocks() -> None:
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7]) == "▁▂▃▄▅▆▇█"
    assert sparkline([0.5, 0.5]) == "▁▁"
    assert sparkline([]) == ""
    assert [clock(s) for s in (4.6, 754, 7510)] == ["0:05", "12:34", "2:05:10"]


def test_a_trend_of_any_length_shows_the_whole_run() -> None:
    trend = Trend()
    assert trend.sparklines(8) == ("", "")
    for i in range(10_000):
        trend.add(64 * 2.0 ** (-i / 1000), 64 * i / 10_000, 64)
    loss, accuracy = trend.sparklines(8)
    assert loss == "█▇▆▅▄▃▂▁", "an exponential is a straight line on a scale of factors"
    assert accuracy == "▁▂▃▄▅▆▇█"
    assert len(trend._parts) <= liveline.MAX_PARTS
    assert sum(images for _, _, images in trend._parts) == 640_000
    trend.add(float("inf"), 0, 64)  # what a GPU says before it is stopped
    trend.add(float("nan"), 0, 64)
    assert len(trend.sparklines(16)[0]) == 16


@pytest.mark.parametrize("columns", [10, 20, 40, 60, 80, 120, 300])
@pytest.mark.parametrize("label", ["epoch 1/2", "epoch 99999/100000"])
def test_the_live_line_is_narrower_than_the_terminal(columns: int, label: str) -> None:
    training = FakeTraining(40)
    line = LiveLine(80, training.look, lambda: None)
    line._due = float("-inf")
    training.epoch(line.watch, label)
    text = line.text(columns - 1).plain
    assert len(text) < max(columns, len(label) + 1)
    assert text.startswith(label[:columns])
    if columns >= 120:
        assert re.fullmatch(
            rf"{label}  loss \d\.\d{{3}} [▁-█]+ *  accuracy \d\d\.\d% [▁-█]+ *  "
            r"[\d,]+ images/s  \d+:\d\d left",
            text,
        ), text
    if columns >= 40:
        assert "loss" in text
    assert all(ord(char) < 128 for char in line.text(columns - 1, has_blocks=False).plain)


@pytest.mark.parametrize("columns", [40, 100])
def test_on_a_terminal_the_line_is_live_and_then_gone(
    columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(liveline, "REFRESH_SECONDS", 0.0)
    training = FakeTraining(20)
    with terminal(monkeypatch, columns) as end:
        display = Display()
        with display.live(40, training.look) as follow:
            for epoch in (1, 2):
                training.epoch(follow, f"epoch {epoch}/2")
                display.say_cells(CELLS)
        display.say("done")
        screen = end()
    said = "  ".join(fitting(CELLS, columns))
    assert [row.strip() for row in screen.rows] == [said, said, "done", ""]
    assert 0 < screen.widest_live < columns
    assert [c for c in screen.codes if c[0] == "?25"][-1] == ("?25", "h"), "the cursor is there"
    assert [c for c in screen.codes if c[0] == "?25"][:2] == [("?25", "l"), ("?25", "h")]


def test_looks_are_rare_and_a_pipe_never_looks(capsys: pytest.CaptureFixture[str]) -> None:
    training = FakeTraining(20_000)
    LiveLine(20_000, training.look, lambda: None).watch([], "")
    line = LiveLine(20_000, training.look, lambda: None)
    training.epoch(line.watch, "epoch 1/1")
    assert training.looks <= 3 + 20, "20,000 updates took well under 5 s"
    training.looks = 0
    display = Display()
    with display.live(40, training.look) as follow:
        training.epoch(follow, "epoch 1/1")
    display.say_cells(CELLS)
    assert training.looks == 0
    assert capsys.readouterr().err == "epoch  3/15  loss 0.4123  running 87.10%  val 88.20%\n"


def test_a_pipe_hears_of_long_loops_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = iter(range(1000))  # seconds: one a look
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(clock)))
    assert list(Display().track(range(60), 60, "reading")) == list(range(60))
    assert capsys.readouterr().err == "".join(f"reading: {done} of 60\n" for done in (10, 20, 40))


def test_a_pipe_gets_lines_even_where_colours_are_forced(
    quick: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip  # one fixture a line would say no more
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "40")
    train_run(quick, tmp_path / "r", Display(), unpublished)
    out, err = capsys.readouterr()
    assert out == ""
    assert "\x1b" not in err
    lines = [line for line in err.splitlines() if line.startswith("epoch")]
    number = r"\s*[\d.,]+"
    pattern = rf"epoch \d/2  loss {number}  running {number}%  val {number}%  \(loss {number}\)"
    assert all(re.fullmatch(rf"{pattern}  {number} images/s  {number} s", x) for x in lines), lines
    assert len(lines) == 2


def test_a_notebook_gets_plain_lines_on_stdout(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(rich.console, "_is_jupyter", lambda: True)
    display = Display()
    with display.live(1, lambda: Sums(0, 0, 0, 0)) as follow:
        assert list(follow([1, 2], "epoch 1/1")) == [1, 2]
    display.say("epoch 1/1")
    assert capsys.readouterr() == ("epoch 1/1\n", "")


def test_watching_does_not_change_a_bit(
    quick: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quiet = train_run(quick, tmp_path / "a", Display(quiet=True), unpublished)
    monkeypatch.setattr(liveline, "REFRESH_SECONDS", 0.0)
    with terminal(monkeypatch, 60) as end:
        watched = train_run(quick, tmp_path / "b", Display(), unpublished)
        screen = end()
    assert screen.widest_live > 0
    weights = watched.classifier.module.state_dict()
    for name, tensor in quiet.classifier.module.state_dict().items():
        assert torch.equal(tensor, weights[name]), name


def closed_pipe() -> IO[str]:
    reader, writer = os.pipe()
    os.close(reader)
    return os.fdopen(writer, "w")


def closed_terminal() -> IO[str]:
    master, slave = pytest.importorskip("pty").openpty()
    os.close(master)
    return os.fdopen(slave, "w")


@pytest.mark.parametrize("closed", [closed_pipe, closed_terminal])
def test_a_reader_that_goes_away_ends_no_training(
    closed: Callable[[], IO[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(liveline, "REFRESH_SECONDS", 0.0)
    with closed() as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        display, training = Display(), FakeTraining(5)
        display._is_live = True
        with display.live(5, training.look) as follow:
            training.epoch(follow, "epoch 1/1")
            display.say_cells(CELLS)
        assert training.step == 5
        assert list(display.track([1, 2], 2, "reading")) == [1, 2]
        assert main(["train", "--data", "nowhere"]) == 66, "what is wrong is said in the code"


def test_quiet_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    display = Display(quiet=True)
    display.say_cells(CELLS)
    with display.bar(3, "x") as show:
        show(2)
    assert list(display.track([1, 2, 3], 3, "x")) == [1, 2, 3]
    assert capsys.readouterr() == ("", "")


def test_no_colours_and_no_blocks_where_there_is_no_utf8(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    console = rich.console.Console(file=stream, force_terminal=True, width=80)
    training = FakeTraining(20)
    line = LiveLine(20, training.look, lambda: None)
    training.epoch(line.watch, "epoch 1/1")
    console.print(line)
    stream.flush()
    assert b"images/s" in stream.buffer.getvalue()  # type: ignore[attr-defined]


def test_a_line_is_said_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    """A file named scan:cat:1.png was printed with a picture of a cat."""
    line = "left out scan:cat:1.png and [bold]a:x:b.png"
    Display().say(line)
    assert capsys.readouterr().err == f"{line}\n"
