"""The page of a run: its numbers, its pictures, and that it can be written again."""

import json
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from PIL import Image

import nunbit
from fake_runs import fake_run, logits_of, pictures_of
from nunbit.cli import main
from nunbit.config import DataConfig, ModelConfig, OptimConfig, RunConfig, TrainConfig
from nunbit.errors import DataError, MissingInputError, NunbitError
from nunbit.finished import Finished
from nunbit.progress import Display
from nunbit.reporting import confusions, dots, saliency, svg
from nunbit.reporting.calibration import calibrate
from nunbit.reporting.confusions import PER_CELL, confusion_cells
from nunbit.reporting.gallery import Gallery
from nunbit.reporting.page import run_page
from nunbit.reporting.render import NBSP, duration, embedded, percent, percents
from nunbit.reporting.reopen import reopened
from nunbit.reporting.slices import drops, light, sides, slices
from nunbit.reporting.verdicts import dealt, judge

HTTP = re.compile(r"https?://")


VOID = {"meta", "link", "img", "br"}  # elements that are never closed


class Reader(HTMLParser):
    """Collects what a test asks of a page, and checks that elements are closed in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(page)
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def all(self, tag: str, name: str) -> list[str]:
        """Return one attribute of all elements of a kind that have it."""
        return [attrs[name] or "" for found, attrs in self.tags if found == tag and name in attrs]


def data_of(page: str) -> dict[str, Any]:
    """Return the JSON that a page carries."""
    body: dict[str, Any] = json.loads(page.split('id="nunbit-data">')[1].split("</script>")[0])
    return body


def write_colours(root: Path) -> Path:
    """Write blue and red pictures of two sizes; training picture 7 of each is under the other."""
    generator = np.random.default_rng(0)
    for part, count in (("train", 20), ("test", 12)):
        for name, other, colour in (("blue", "red", (40, 60, 200)), ("red", "blue", (210, 50, 40))):
            for i in range(count):
                is_swapped = part == "train" and i == 7
                folder = root / part / (other if is_swapped else name)
                folder.mkdir(parents=True, exist_ok=True)
                side = 16 if i % 2 else 32
                noise = generator.integers(-40, 40, (side, side, 3))
                pixels = (np.array(colour) + noise).clip(0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{name}-{i:02}.png")
    return root


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A trained run, whose folder tests copy before they change it."""
    root = tmp_path_factory.mktemp("colours")
    config = RunConfig(
        recipe="two/colours",
        data=DataConfig(source=str(write_colours(root / "data")), size=16, val_fraction=0.2),
        model=ModelConfig(name="net", args={"width": 4}),
        optim=OptimConfig(name="adamw", lr=5e-3),
        train=TrainConfig(epochs=8, batch_size=16, threads=1, device="cpu", precision="fp32"),
    )
    return nunbit.train(config, run_dir=root / "run", quiet=True)


@pytest.fixture
def run(finished: Finished, tmp_path: Path) -> Path:
    """A copy of the run's folder."""
    return Path(shutil.copytree(finished.run_dir, tmp_path / "run"))


def test_the_page_says_the_result_and_loads_nothing(finished: Finished) -> None:
    page = (finished.run_dir / "report.html").read_text()
    reader = Reader(page)
    accuracy = percent(finished.test.accuracy)
    assert f"<title>two/colours: {accuracy} of 24 test pictures right</title>" in page
    assert percents(finished.test.ci95) in page
    assert "learned 2 classes from 32 pictures of <b>data</b> in 8 epochs" in page
    assert f"8 more pictures chose the epoch that was kept, number {finished.kept_epoch}." in page
    assert "Wilson" in page
    assert not HTTP.search(page)
    assert all(uri.startswith("data:image/") for uri in reader.all("img", "src"))
    assert reader.all("script", "type") == ["application/json"]
    assert "default-src 'none'" in page
    assert f"--config {finished.run_dir}/config.json" in page


def test_seconds_an_epoch_leave_the_start_out(finished: Finished) -> None:
    epochs = tuple(replace(epoch, seconds=2.0) for epoch in finished.epochs)
    page = run_page(replace(finished, epochs=epochs, start_seconds=60.0))
    assert f"{duration(76.0)}<" in page
    assert f"{duration(2.0)} an epoch" in page


def test_every_text_of_the_page_is_finished(finished: Finished) -> None:
    text = re.sub(
        r"<script.*?</script>|<style>.*?</style>|<[^>]+>", " ", run_page(finished), flags=re.S
    )
    for sign in ("{{", "{%", "%(", "%%", "None,", "[]", "nan"):
        assert sign not in text, f"{sign} is left in the page"
    assert not re.search(r"[.,;:][A-Z]", text.replace(NBSP, " ")), "a space is missing"


def test_the_data_of_the_page_is_what_the_training_returned(finished: Finished) -> None:
    data = data_of((finished.run_dir / "report.html").read_text())
    assert {key: data[key] for key in finished.to_dict()} == finished.to_dict()
    assert [row["epoch"] for row in data["log"]] == list(range(1, 9))
    assert sum(cell["count"] for cell in data["confusion"]) == 24
    assert {part["property"] for part in data["slices"]} == {"brightness", "contrast", "size"}
    assert sum(part["n"] for part in data["slices"]) == 3 * 24
    assert sum(b["n"] for b in data["calibration"]["bins"]) == 24


def test_swapped_labels_are_the_first_suspects(finished: Finished) -> None:
    suspects = data_of((finished.run_dir / "report.html").read_text())["suspicious_labels"]
    assert {row["picture"] for row in suspects[:2]} == {
        "train/red/blue-07.png",
        "train/blue/red-07.png",
    }
    for row in suspects[:2]:
        assert row["predicted"] == row["picture"].split("/")[2].split("-")[0] != row["label"]
        assert row["confidence"] > 0.5 > row["label_confidence"]


def test_a_report_is_written_again_byte_for_byte(run: Path, finished: Finished) -> None:
    before = (run / "report.html").read_text()
    (run / "report.html").unlink()
    shutil.rmtree(run / "figures")
    assert nunbit.report(run, quiet=True) == run / "report.html"
    again = (run / "report.html").read_text()
    assert again.replace(str(run), str(finished.run_dir)) == before
    figures = {path.name for path in (run / "figures").iterdir()}
    assert {"curves.png", "confusion.png"} <= figures


def test_the_command_names_the_files(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = str(run / "report.html")
    assert main(["report", str(run), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"file": page, "files": [page]}
    assert main(["report", str(run), str(run / "nothing")]) == 66
    out, err = capsys.readouterr()
    assert out == f"{page}\n", "what was written before the mistake is named"
    assert err.count("\n") == 1
    assert "is no run folder" in err
    assert main(["report"]) == 2


def test_a_report_measures_the_training_pictures_that_the_training_measured(run: Path) -> None:
    config = json.loads((run / "config.json").read_text())
    config["eval"]["train_pictures"] = 10
    (run / "config.json").write_text(json.dumps(config))
    with reopened(run, Display(quiet=True)) as again:
        assert again.train.n == 10
        assert again.train_logits is None, "as after the training: no suspicious labels"


def test_the_result_of_an_older_nunbit_is_read_or_refused_in_one_line(run: Path) -> None:
    result = json.loads((run / "result.json").read_text())
    for key in ("kept_epoch", "test"):
        less = {name: value for name, value in result.items() if name != key}
        (run / "result.json").write_text(json.dumps(less))
        with pytest.raises(DataError, match=f"result.json of .* has no '{key}'"):
            nunbit.report(run, quiet=True)
    # A last layer alone, fitted before the start's seconds were recorded.
    del result["start_seconds"]
    (run / "result.json").write_text(json.dumps({**result, "epochs": 0, "seconds": 2.5}))
    for name in ("metrics.jsonl", "timings.jsonl"):
        (run / name).write_text("")
    with reopened(run, Display(quiet=True)) as again:
        assert again.to_dict()["seconds"] == 2.5


def test_what_is_gone_or_changed_is_one_clear_line(run: Path, tmp_path: Path) -> None:
    config = json.loads((run / "config.json").read_text())
    data = shutil.copytree(config["data"]["source"], tmp_path / "moved")
    config["data"]["source"] = str(data)
    (run / "config.json").write_text(json.dumps(config))
    page = (run / "report.html").read_bytes()

    def refuses(kind: type[NunbitError], match: str) -> None:
        with pytest.raises(kind, match=match):
            nunbit.report(run, quiet=True)
        assert (run / "report.html").read_bytes() == page

    Image.new("RGB", (16, 16)).save(data / "test" / "red" / "red-01.png")
    refuses(DataError, r"the data of .*run changed since it began: test/red/red-01.png changed")
    shutil.rmtree(data)
    refuses(MissingInputError, "the data of .*run is gone: no data")
    (run / "metrics.jsonl").write_text("")
    refuses(DataError, "the records of .* cannot be read: 0 of 8 epochs")
    (run / "result.json").unlink()
    refuses(MissingInputError, "has not ended; go on with: nunbit resume")


def test_cells_hold_the_pictures_behind_them(tmp_path: Path) -> None:
    labels = [0, 0, 0, 1, 1, 1, 2, 2]
    predicted = [0, 1, 1, 1, 1, 0, 2, 2]
    confidence = [0.9, 0.6, 0.8, 0.99, 0.55, 0.7, 0.9, 0.8]
    made = fake_run(tmp_path, ("a", "b", "c"), labels, logits_of(predicted, confidence, 3))
    verdicts = judge(made.test_logits, made.dataset.test.labels)
    gallery = Gallery(made.dataset.test, verdicts, made.dataset.class_names)
    cells = {
        (c.label, c.predicted): c for c in confusion_cells(made.test.confusion, verdicts, gallery)
    }
    assert {pair: cell.shown for pair, cell in cells.items()} == {
        (0, 0): (0,),
        (0, 1): (2, 1),  # the surest mistake first
        (1, 1): (4, 3),  # of what is right, the least sure first
        (1, 0): (5,),
        (2, 2): (7, 6),
    }
    assert cells[0, 1].share == pytest.approx(2 / 3)
    assert cells[0, 1].tint == 1
    assert cells[1, 0].tint == pytest.approx(0.5**0.5)
    assert verdicts.surest_mistakes(9) == [2, 5, 1]
    assert verdicts.least_sure_mistakes(2) == [1, 5]
    (shown,) = gallery.show([2], {2: "data:here"})
    assert (shown.picture, shown.label, shown.predicted) == ("test/2.png", "a", "b")
    assert shown.confidence == pytest.approx(0.8)
    assert shown.label_confidence == pytest.approx(0.1)
    assert shown.saliency == "data:here"

    page = run_page(made)
    links = {link for link in Reader(page).all("a", "href") if link.startswith("#cell")}
    assert links == {f"#{cell.id}" for cell in cells.values()}
    assert "a taken for b" in page


def test_many_classes_become_their_confused_pairs(tmp_path: Path) -> None:
    k = 40
    labels = [i % k for i in range(4 * k)]
    predicted = [3 if label == 5 else label for label in labels]
    predicted[7] = 8
    logits = logits_of(predicted, [0.9] * len(labels), k)
    made = fake_run(tmp_path, [f"class {i}" for i in range(k)], labels, logits)
    page = run_page(made)
    reader = Reader(page)
    cells = [link for link in reader.all("a", "href") if link.startswith("#cell")]
    assert cells == ["#cell-5-3", "#cell-7-8"], "the most frequent first"
    assert "The 15 with the lowest recall" in page
    assert "25 more" in page
    first = page.index('scope="row">class 5<')
    assert first < page.index('scope="row">class 7<') < page.index('scope="row">class 0<')


def test_classes_without_test_pictures_are_not_called_the_worst(tmp_path: Path) -> None:
    k = 40
    labels = [label for label in range(k) if label % 2]
    made = fake_run(tmp_path, [f"class {i}" for i in range(k)], labels,
                    logits_of(labels, [0.9] * len(labels), k))  # fmt: skip  # two lines
    page = run_page(made)
    assert max(page.index(f'scope="row">class {i}<') for i in labels) < min(
        page.index(f'scope="row">class {i}<') for i in range(0, k, 2)
    )


def test_a_perfect_result_has_a_page_too(tmp_path: Path) -> None:
    labels = [0, 1, 2] * 4
    made = fake_run(tmp_path, ("a", "b", "c"), labels, logits_of(labels, [1 - 1e-12] * 12, 3))
    page = run_page(made)
    assert "None: every test picture was classified right." in page
    assert "None: the finished network agrees with every training label." in page
    assert "Nowhere, as far as these numbers of pictures can tell." in page


def test_pictures_are_dealt_out_until_the_budget_is_spent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    groups = [[0, 1, 2], [3], [4, 5]]
    assert dealt(groups, 9, lambda _: 1, 100) == [3, 1, 2]
    assert dealt(groups, 2, lambda _: 1, 100) == [2, 1, 2]
    assert dealt(groups, 9, lambda _: 10, 45) == [2, 1, 1]
    labels = [0] * 100 + [1] * 100
    made = fake_run(tmp_path, ("a", "b"), labels, logits_of([1, 0] * 100, [0.9] * 200, 2))
    whole = run_page(made)
    assert f"the {PER_CELL} surest" in whole
    monkeypatch.setattr(confusions, "BUDGET", 10_000)
    assert len(run_page(made)) < len(whole) - 10_000


def test_calibration_is_that_of_the_paper() -> None:
    confidence = torch.tensor([0.95, 0.97, 0.55, 0.56, 0.2, 1.0], dtype=torch.float64)
    correct = torch.tensor([True, False, True, True, False, True])
    found = calibrate(confidence, correct)
    # Bins of 1/15: (0.133, 0.2], (0.533, 0.6] and (0.933, 1].
    assert [b.n for b in found.bins] == [1, 2, 3]
    assert [b.accuracy for b in found.bins] == [0, 1, pytest.approx(2 / 3)]
    gaps = [0.2, 1 - 0.555, (0.95 + 0.97 + 1.0) / 3 - 2 / 3]
    assert found.error == pytest.approx((gaps[0] + 2 * gaps[1] + 3 * gaps[2]) / 6)
    assert found.confidence == pytest.approx(float(confidence.mean()))
    assert calibrate(torch.ones(4, dtype=torch.float64), torch.ones(4, dtype=torch.bool)).error == 0


def test_slices_find_where_accuracy_drops() -> None:
    values = torch.arange(500) / 500
    correct = torch.ones(500, dtype=torch.bool)
    correct[:60] = False  # of the darkest hundred
    found = slices({"brightness": values}, correct)
    assert [part.n for part in found] == [100] * 5
    assert [part.accuracy for part in found] == [0.4, 1, 1, 1, 1]
    assert (found[1].low, found[1].high) == (pytest.approx(0.2), pytest.approx(0.398))
    (drop,) = drops(found, 440 / 500)
    assert drop == found[0]
    equal = slices({"contrast": torch.tensor([1.0] * 70 + [2.0] * 30)}, correct[:100])
    assert [(part.low, part.n) for part in equal] == [(1, 70), (2, 30)], "ties stay together"


def test_brightness_contrast_and_size(tmp_path: Path) -> None:
    images = torch.zeros(3, 4, 4, 3, dtype=torch.uint8)
    images[1] = 255
    images[2, :2] = 255
    found = light(images)
    assert found["brightness"].tolist() == pytest.approx([0, 1, 0.5], abs=1e-6)
    assert found["contrast"].tolist() == pytest.approx([0, 0, 0.5], abs=1e-6)
    assert light(images[..., :1])["brightness"].tolist() == pytest.approx([0, 1, 0.5], abs=1e-6)
    Image.new("L", (10, 40)).save(tmp_path / "a.png")
    Image.new("L", (30, 30)).save(tmp_path / "b.png")
    assert (size := sides(["a.png", "b.png"], tmp_path)) is not None
    assert size.tolist() == [20, 30]
    assert sides(["a.png", "a.png"], tmp_path) is None, "one size says nothing"
    assert sides(["digits/test/0"], tmp_path) is None


def test_saliency_lights_the_region_up() -> None:
    heat = torch.zeros(4, 4)
    heat[:2] = 3.0
    shown = np.asarray(saliency.lit(Image.new("RGB", (32, 16), (100, 100, 100)), heat)).astype(int)
    assert shown.shape == (48, 96, 3)
    assert np.abs(shown[2, 50] - (0.8 * np.array(saliency.AMBER) + 20)).max() <= 1
    assert (shown[-2] == 100).all()


def test_a_network_that_is_large_or_cannot_be_traced_gets_no_saliency(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = fake_run(tmp_path, ("a", "b"), [0, 1], logits_of([1, 1], [0.9, 0.8], 2))
    assert list(saliency.saliency_maps(made, [0])) == [0]
    assert saliency.saliency_maps(made, []) == {}
    with monkeypatch.context() as patch:
        patch.setattr(saliency, "MOST_MULTIPLY_ADDS", 1)
        assert saliency.saliency_maps(made, [0]) == {}

    for kind in (RuntimeError, TypeError, ValueError):

        def fails(*_: object, kind: type[Exception] = kind) -> None:
            raise kind("an operation without a name")

        monkeypatch.setattr(saliency, "trace", fails)
        assert saliency.saliency_maps(made, [0]) == {}
    assert "Grad-CAM" not in run_page(made)


def test_charts_are_well_formed_and_escape_texts() -> None:
    line = svg.Line([(i, 1 / i) for i in range(1, 2001)])
    mark = (2000, "kept: 2000")
    chart = svg.line_chart([line], label='"<&', x_label="<epoch>", mark=mark)
    root = ElementTree.fromstring(chart)
    assert root.get("aria-label") == '"<&'
    assert "&lt;epoch&gt;" in chart
    (path,) = root.findall("polyline")
    points = (path.get("points") or "").split()
    assert len(points) <= svg.MAX_POINTS + 1
    assert points[-1].split(",")[0] == f"{svg.WIDTH - svg.RIGHT}"
    assert "1,500" in [text.text for text in root.iter("text")]
    ends = [t for t in root.findall("text") if t.text == "kept: 2000"]
    assert ends[0].get("text-anchor") == "end"
    one = svg.line_chart([svg.Line([(1, 0.5)])], label="", x_label="", percent=True)
    assert len(ElementTree.fromstring(one).findall("circle")) == 1
    ElementTree.fromstring(dots.dot_chart([dots.Dot(0.9, 0.8, 0.7, 0.9, 1)], label="", x_label=""))
    small = ElementTree.fromstring(dots.interval(0.5, 0.25, 0.75, reference=0.6))
    assert len(small.findall("circle")) == 1
    band = [(1, 0.2, 0.4), (2, 0.1, 0.3)]
    lines = [svg.Line([(1, 0.3), (2, 0.2)], "hue-0", band)]
    chart = ElementTree.fromstring(svg.line_chart(lines, label="", x_label=""))
    assert len((chart.findall("polygon")[0].get("points") or "").split()) == 4


@pytest.mark.parametrize(
    ("ends", "whole", "expected"),
    [
        ((0, 1), False, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        ((0.43, 0.83), False, [0.5, 0.6, 0.7, 0.8]),
        ((1, 3), True, [1, 2, 3]),
        ((0, 34), True, [0, 10, 20, 30]),
    ],
)
def test_ticks_are_round(ends: tuple[float, float], whole: bool, expected: list[float]) -> None:
    assert svg.ticks(*ends, whole=whole) == expected


def test_numbers_are_written_as_people_write_them() -> None:
    assert percent(0.8776) == f"87.8{NBSP}%"
    assert percents((0.862, 0.8907)) == f"86.2{NBSP}–{NBSP}89.1{NBSP}%"
    times = {0.42: "0.42 s", 35.4: "35 s", 125: "2 min 5 s", 3600: "60 min", 8000: "2 h 13 min"}
    for seconds, text in times.items():
        assert duration(seconds).replace(NBSP, " ") == text
    assert embedded({"a": "</script><b>"}) == '{"a":"\\u003c/script>\\u003cb>"}'


def test_pictures_are_small_and_keep_their_colour() -> None:
    pictures = pictures_of([0, 0], "test", side=200)
    logits = logits_of([0, 0], [0.9, 0.9], 2)
    gallery = Gallery(pictures, judge(logits, pictures.labels), ("a", "b"))
    assert gallery.uri(0).startswith("data:image/jpeg;base64,")
    assert len(gallery.uri(0)) < 3000
