"""Figures of pages: where things stand on them, and that their numbers can be read."""

import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg

from fake_runs import fake_comparison
from nunbit.data.pictures import ImageSet
from nunbit.metrics import measure
from nunbit.reporting import charts, dots, figures
from nunbit.reporting.comparison import accuracy_comparison, comparison_page, losses
from nunbit.reporting.render import JOINER, NB_HYPHEN, NBSP, glued
from nunbit.reporting.slices import Slice
from nunbit.reporting.svg import CHAR, LEFT, RIGHT, WIDTH
from nunbit.reporting.verdicts import judge
from nunbit.training.loop import EpochResult

NAMES = {"a": 0.8, "b": 0.6, "c": 0.5}


@pytest.mark.parametrize(
    ("costs", "gains", "expected"),
    [
        ((1, 2, 3), (0.5, 0.6, 0.7), [0, 1, 2]),
        ((3, 2, 1), (0.5, 0.6, 0.7), [2]),  # the cheapest is the best
        ((1, 1, 2), (0.5, 0.6, 0.6), [1]),  # equal gains for more cost are no gain
    ],
)
def test_the_front_is_what_nothing_cheaper_equals(
    costs: tuple[float, ...], gains: tuple[float, ...], expected: list[int]
) -> None:
    assert charts.front(costs, gains) == expected


def test_bars_have_whiskers_where_their_spread_is_known(tmp_path: Path) -> None:
    rows = fake_comparison(tmp_path, NAMES).rows
    for shown in (rows, [replace(row, train_ci95=None) for row in rows]):  # as of one seed
        axes = accuracy_comparison(shown, 0.1).axes[0]
        ends = [tuple(line.get_xdata()) for line in axes.lines if line.get_marker() == "None"]
        wanted = [pair for row in shown for pair in (row.test_ci95, row.train_ci95) if pair]
        assert ends == wanted


@pytest.mark.parametrize("high", [1.05, 1.6, 3, 10, 200, 1e5, 1e9])
@pytest.mark.parametrize("low", [0.4, 1, 1_622, 36_000_000])
def test_ticks_of_factors_are_in_range_and_do_not_touch(low: float, high: float) -> None:
    found = charts.log_ticks(low, low * high)
    assert len(found) >= 2 or high < 1.2, "one cannot read a scale off one number"
    assert all(low <= tick <= low * high * (1 + 1e-9) for tick in found)
    if high >= 3:
        room = (WIDTH - LEFT - RIGHT) / len(found)
        assert room > 4 * CHAR


def test_bars_begin_at_guessing_unless_a_recipe_is_worse(tmp_path: Path) -> None:
    rows = fake_comparison(tmp_path, NAMES).rows
    scale = charts.track(rows, 0.1)
    assert scale.low == 0.1
    assert (scale.at(0.1), scale.at(0.55), scale.at(1.0)) == ("0.00%", "50.00%", "100.00%")
    assert scale.span((0.1, 0.55)) == "left:0.00%;width:50.00%"
    assert scale.span((0.0, 0.55)) == "left:0.00%;width:50.00%", (
        "as of two seeds, which tell little"
    )
    assert scale.ticks[-1] == 1
    assert charts.track(rows, 0.55).low == 0


def test_bars_of_the_figure_begin_where_those_of_the_page_do(tmp_path: Path) -> None:
    rows = fake_comparison(tmp_path, NAMES).rows
    below = [replace(row, tests=(0.05, *row.tests[1:])) for row in rows]
    for shown, low in ((rows, 0.1), (below, 0.0)):
        figure = accuracy_comparison(shown, 0.1)
        assert figure.axes[0].get_xlim()[0] == charts.track(shown, 0.1).low == low


def test_a_curve_of_one_epoch_is_seen() -> None:
    epoch = EpochResult(1, 10, 0.1, 1.0, 0.5, 0.9, 0.6, 100, 2.0, 100.0)
    both = figures.curves([epoch], 0).axes
    assert [line.get_marker() for axes in both for line in axes.lines] == ["o"] * 4
    for axes in both:
        low, high = axes.get_xlim()
        assert [tick for tick in axes.get_xticks() if low <= tick <= high] == [1], "of epoch 0.95?"


@pytest.mark.parametrize(
    ("least", "scale"),
    [(0, 1e-6), (0, 1e-4), (0, 1.0), (0, 1e5), (2.30257, 1e-5), (2.302584, 1e-6), (0.693146, 1e-6)],
)
def test_no_label_of_the_curves_is_cut_off(least: float, scale: float) -> None:
    """Their places are fixed, as a layout that looks for room takes twice as long."""
    losses = [least + scale / i for i in range(1, 9)]  # also of runs that learn nothing
    epochs = [
        EpochResult(i, i, 0.1, loss, 0.99995 + 3e-6 * i, loss, 0.99991, 100, 2.0, 100.0)
        for i, loss in enumerate(losses, 1)
    ]
    figure = figures.curves(epochs, 3)
    renderer = FigureCanvasAgg(figure).get_renderer()
    drawn = [axes.get_tightbbox(renderer) for axes in figure.axes]
    width, height = figure.bbox.width, figure.bbox.height
    for box in drawn:
        assert 0 <= box.x0 < box.x1 <= width
        assert 0 <= box.y0 < box.y1 <= height
    assert drawn[0].x1 <= drawn[1].x0, "the labels of one lie over the other"


def test_the_sheet_of_mistakes_has_the_order_of_the_page() -> None:
    logits = torch.tensor([[0.0, 20.0], [0.0, 30.0]])  # both certain in single precision
    pixels = torch.tensor([1, 2], dtype=torch.uint8)[:, None, None, None].expand(2, 4, 4, 1)
    pictures = ImageSet(pixels, torch.tensor([0, 0]), ["a", "b"], ["a", "b"])
    figure = figures.mistakes(pictures, judge(logits, pictures.labels), ("a", "b"))
    assert figure is not None
    (axes,) = figure.axes
    assert [image.get_array().max() for image in axes.images] == [2, 1]
    first, second = (image.get_extent() for image in axes.images)
    assert 0 < first[0] < first[1] < second[0], "one beside the other, in the order of the page"
    assert [text.get_text() for text in axes.texts] == ["b 100%\nis a"] * 2


def test_the_sheet_of_mistakes_keeps_the_shape_of_pictures() -> None:
    pixels = torch.zeros(8, 10, 20, 3, dtype=torch.uint8)
    labels = torch.zeros(8, dtype=torch.int64)
    pictures = ImageSet(pixels, labels, list("abcdefgh"), list("abcdefgh"))
    verdicts = judge(torch.tensor([[0.0, 1.0]] * 8), labels)
    figure = figures.mistakes(pictures, verdicts, ("a", "b"))
    assert figure is not None
    (axes,) = figure.axes
    width, height = figure.get_size_inches()
    assert (axes.get_xlim(), axes.get_ylim()) == ((0, width), (height, 0)), "in inches"
    for image in axes.images:
        left, right, bottom, top = image.get_extent()
        assert right - left == pytest.approx(2 * (bottom - top))
        assert 0 <= left < right <= width
        assert 0 < top < bottom <= height
    assert len({round(image.get_extent()[3], 6) for image in axes.images}) == 2, "two rows"


def test_twelve_recipes_are_told_apart() -> None:
    assert len({charts.tone(i) for i in range(30)}) == 30


def test_the_losses_carry_the_range_of_their_seeds(tmp_path: Path) -> None:
    (line, *_) = charts.loss_lines(fake_comparison(tmp_path, NAMES).rows)
    assert line.points[0] == (1, pytest.approx((1 + 2 / 3 + 0.5) / 3))
    assert line.band[0] == (1, 0.5, 1.0)
    (single, *_) = charts.loss_lines(fake_comparison(tmp_path, NAMES, seeds=1).rows)
    assert single.band == (), "one seed has no range"


def test_a_comparison_is_one_page_without_pictures_from_elsewhere(tmp_path: Path) -> None:
    for seeds in (1, 3):
        page = comparison_page(fake_comparison(tmp_path, NAMES, seeds=seeds))
        assert "<img" not in page, "figures are drawn, so that they follow the reader's colours"
        for figure in re.findall(r"<svg.*?</svg>", page, re.DOTALL):
            ElementTree.fromstring(figure)


def test_slices_below_all_pictures_stand_out() -> None:
    parts = [
        Slice("brightness", 0.1, 0.3, 100, 0.5, (0.4, 0.6)),
        Slice("brightness", 0.3, 0.6, 100, 0.8, (0.7, 0.9)),
    ]
    root = ElementTree.fromstring(dots.slice_chart(parts, 0.75, label="l", x_label="x"))
    circles = root.findall("circle")
    assert [circle.get("class") for circle in circles] == ["accent", "soft"]
    assert float(circles[0].get("cy") or 0) > float(circles[1].get("cy") or 0), "lower is worse"
    assert {"10–30", "30–60"} <= {text.text for text in root.iter("text")}


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("about 95 % of it", f"about 95{NBSP}% of it"),
        ("right for 82%", f"right for 82{NBSP}%"),
        ("52.2%p 높습니다", "52.2%p 높습니다"),
        ("96.9 %를", f"96.9{NBSP}%{JOINER}를"),
        ("(p < 1e-57)", f"(p{NBSP}<{NBSP}1e{NB_HYPHEN}57)"),
    ],
)
def test_numbers_of_messages_stay_whole(message: str, expected: str) -> None:
    assert glued(message) == expected


def test_a_comparison_of_fitted_heads_has_no_losses(tmp_path: Path) -> None:
    made = fake_comparison(tmp_path, {"a": 0.8, "b": 0.9})
    rows = tuple(replace(row, epochs=0, losses=((), (), ())) for row in made.rows)
    page = comparison_page(replace(made, rows=rows))
    assert "Loss over the epochs" not in page
    assert "Loss over the epochs" in comparison_page(made)
    assert figures.to_png(losses(rows)).startswith(b"\x89PNG")


@pytest.mark.parametrize("shape", [(1, 64, 1), (64, 1, 1), (1, 1, 1), (1, 64, 3)])
def test_mistakes_of_one_pixel_a_side_keep_their_shape(shape: tuple[int, int, int]) -> None:
    pixels = torch.zeros(1, *shape, dtype=torch.uint8)
    pictures = ImageSet(pixels, torch.tensor([0]), ["a"], ["a"])
    verdicts = judge(torch.tensor([[0.0, 1.0]]), pictures.labels)
    figure = figures.mistakes(pictures, verdicts, ("a", "b"))
    assert figure is not None
    (drawn,) = figure.axes[0].images
    assert drawn.get_array().shape == (shape if shape[2] == 3 else shape[:2])


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("names", [("고양이", "개"), ("x" * 200, "y" * 200), ("犬", "猫" * 80)])
def test_figures_take_names_of_any_length_and_language(names: tuple[str, str]) -> None:
    logits = torch.tensor([[2.0, 1.0], [2.0, 1.0], [0.0, 1.0]])
    labels = torch.tensor([0, 1, 1])
    pixels = torch.zeros(3, 8, 8, 3, dtype=torch.uint8)
    pictures = ImageSet(pixels, labels, ["a", "b", "c"], ["a", "b", "c"])
    for figure in (
        figures.confusion(measure(logits, labels, names)),
        figures.mistakes(pictures, judge(logits, labels), names),
    ):
        assert figure is not None
        assert figures.to_png(figure).startswith(b"\x89PNG")
