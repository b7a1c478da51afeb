"""The page in a real browser: cells open their pictures, and nothing is loaded or complained of."""

import base64
import io
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import chromium
import nunbit
from chromium import Page
from fake_runs import fake_comparison, fake_run, logits_of
from nunbit.finished import Finished
from nunbit.reporting.comparison import comparison_page
from nunbit.reporting.page import run_page

pytestmark = pytest.mark.skipif(
    chromium.PROGRAM is None, reason="needs a browser: chromium or google-chrome on the PATH"
)

# Shown pictures, as the reader sees them: only what has a place on the screen counts.
SEEN = """[...document.querySelectorAll('.sheet img')].filter(e => e.checkVisibility())
  .map(e => ({name: e.title, src: e.src, loaded: e.naturalWidth > 0}))"""
OPEN = """[...document.querySelectorAll('.sheet')].filter(e => e.checkVisibility())
  .map(e => e.querySelector('b').innerText)"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A run of three classes whose first class is twice taken for the second."""
    labels, predicted = [0, 0, 0, 1, 1, 2], [0, 1, 1, 1, 1, 2]
    logits = logits_of(predicted, [0.9, 0.6, 0.8, 0.7, 0.95, 0.99], 3)
    folder = tmp_path_factory.mktemp("run")
    made = fake_run(folder, ("cat", "dog", "<b>horse</b>"), labels, logits)
    (folder / "report.html").write_text(run_page(made), encoding="utf-8")
    return made


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """One browser for all tests."""
    with chromium.browser(tmp_path_factory.mktemp("profile")) as page:
        yield page


@contextmanager
def visited(browser: Page, path: Path) -> Iterator[None]:
    """Open a page; afterwards there was no error, and no request but for the file itself."""
    browser.requests.clear()
    browser.complaints.clear()
    browser.open(path)
    yield
    assert browser.complaints == []
    loaded = {url.split("#")[0] for url in browser.requests if not url.startswith("data:")}
    assert loaded == {path.as_uri()}


@pytest.fixture
def page(browser: Page, made: Finished) -> Iterator[Page]:
    """The report, opened anew."""
    with visited(browser, made.run_dir / "report.html"):
        yield browser


def colour_of(uri: str) -> Any:
    """Return the mean colour of a picture in a data address."""
    image = Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1])))
    return np.asarray(image.convert("RGB"), dtype=float).mean((0, 1))


def test_a_click_on_a_cell_shows_the_pictures_behind_it(page: Page, made: Finished) -> None:
    assert page.run(OPEN) == []
    page.click("#from-cell-0-1")
    assert page.run(OPEN) == ["cat taken for dog"]
    seen = page.run(SEEN)
    assert [it["name"] for it in seen] == ["test/2.png", "test/1.png"], "the surest first"
    assert all(it["loaded"] for it in seen)
    for it, index in zip(seen, (2, 1), strict=True):
        true_colour = made.dataset.test.images[index][0, 0].numpy()
        assert np.abs(colour_of(it["src"]) - true_colour).max() < 3, "it is that picture"
    page.click("#from-cell-2-2")
    assert page.run(OPEN) == ["<b>horse</b>, classified right"], "another replaces it; escaped"
    page.click("#cell-2-2 header a")
    assert page.run(OPEN) == []


def test_the_keyboard_opens_and_closes_a_cell(page: Page) -> None:
    page.run("document.querySelector('#from-cell-0-1').focus()")
    page.press("Enter")
    assert page.run(OPEN) == ["cat taken for dog"]
    page.press("Tab")
    assert page.run("document.activeElement.innerText") == "close"
    page.press("Enter")
    assert page.run(OPEN) == []
    page.press("Tab")
    assert page.run("document.activeElement.id") == "from-cell-1-1", "on with the next cell"


def test_it_works_without_scripts(page: Page, made: Finished) -> None:
    page.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        page.open(made.run_dir / "report.html")
        page.click("#from-cell-0-1")
        assert page.run(OPEN) == ["cat taken for dog"]
    finally:
        page.call("Emulation.setScriptExecutionDisabled", value=False)


@pytest.mark.parametrize("width", [320, 390, 1200])
def test_nothing_is_wider_than_the_screen(page: Page, made: Finished, width: int) -> None:
    page.open(made.run_dir / "report.html", width=width)
    assert page.run("document.documentElement.scrollWidth") == width


def test_light_and_dark_follow_the_reader(page: Page, made: Finished) -> None:
    light = {}
    for dark in (False, True):
        page.open(made.run_dir / "report.html", dark=dark)
        colour = page.run("getComputedStyle(document.body).backgroundColor")
        light[dark] = sum(map(int, re.findall(r"\d+", colour)))
    assert light[False] > 700
    assert light[True] < 100


def test_the_most_frequent_confusions_lead_to_the_same_pictures(page: Page) -> None:
    page.click('.aside ol a[href="#cell-0-1"]')
    assert page.run(OPEN) == ["cat taken for dog"]


@pytest.mark.parametrize("lang", ["en", "ko"])
def test_the_page_of_a_comparison(
    browser: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lang: str
) -> None:
    monkeypatch.setenv("NUNBIT_LANG", lang)
    names = {"birds/net": 0.8, "birds/net:optim.lr=0.01,model.width=32": 0.6, "<b>bold</b>": 0.3}
    path = tmp_path / "comparison.html"
    path.write_text(comparison_page(fake_comparison(tmp_path, names)), encoding="utf-8")
    with visited(browser, path):
        for width in (320, 390, 1200):
            browser.open(path, width=width)
            assert browser.run("document.documentElement.scrollWidth") == width
            for dark in (False, True):
                browser.open(path, width=width, dark=dark)
        shown = browser.run("[...document.querySelectorAll('.race .name')].map(e => e.innerText)")
        assert [name for name in shown if name] == list(names), "best first, and escaped"
        ends = browser.run("[...document.querySelectorAll('.race .bar + .bar')]"
                           ".map(e => e.getBoundingClientRect().right)")  # fmt: skip
        assert ends == sorted(ends, reverse=True)
        colours = browser.run("[...document.querySelectorAll('.chart circle')]"
                              ".map(e => getComputedStyle(e).stroke)")  # fmt: skip
        assert colours[:3] == colours[3:], "a recipe has one colour"
        assert len(set(colours)) == 3


def test_the_page_of_a_diagnosis(browser: Page, tmp_path: Path, colours: Path) -> None:
    for name in ("blue", "red"):
        shutil.copy(colours / "green" / "000.png", colours / name / "copy.png")
    diagnosis = nunbit.doctor(colours, features="none", quiet=True)
    assert diagnosis.report is not None
    with visited(browser, diagnosis.report.resolve()):
        browser.click('a[href="#conflicting-labels"]')
        shown = browser.run(
            "[...document.querySelectorAll('#conflicting-labels img')]"
            ".map(e => ({name: e.title, loaded: e.naturalWidth > 0}))"
        )
        copies = {"blue/copy.png", "green/000.png", "red/copy.png"}
        assert {it["name"] for it in shown} == copies
        assert all(it["loaded"] for it in shown)
        for width in (320, 390, 1200):
            browser.open(diagnosis.report.resolve(), width=width, dark=width == 390)
            assert browser.run("document.documentElement.scrollWidth") == width


def test_the_page_of_an_explanation(browser: Page, tmp_path: Path) -> None:
    explained = nunbit.explain("net", out=tmp_path / "explained", quiet=True)
    assert explained.page is not None
    with visited(browser, explained.page.resolve()):
        for width in (320, 390, 1200):
            browser.open(explained.page.resolve(), width=width, dark=width == 390)
            assert browser.run("document.documentElement.scrollWidth") == width


def test_a_diagram_by_itself_has_the_paper_that_its_ink_needs(
    browser: Page, tmp_path: Path
) -> None:
    explained = nunbit.explain("net", out=tmp_path / "explained", quiet=True)
    corners = {}
    for dark in (False, True):
        browser.open(explained.folder.resolve() / "architecture.svg", dark=dark)
        browser.screenshot(tmp_path / "shown.png", whole=False)
        with Image.open(tmp_path / "shown.png") as shown:
            corners[dark] = shown.convert("L").getpixel((2, 2))
    assert corners == {False: 253, True: 21}
    browser.open(explained.page.resolve(), dark=True)
    inside = browser.run("getComputedStyle(document.querySelector('svg.nb')).backgroundColor")
    assert inside == "rgba(0, 0, 0, 0)", "the page has paper of its own"
