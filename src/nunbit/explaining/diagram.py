"""The architecture of a network as SVG: cards from the picture to the classes, boxes around blocks.

One column, so that it is readable on a telephone and grows downwards. The colours are CSS
variables: one file serves light and dark, in a page or alone, where it also has the page's paper.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

from nunbit.explaining.folding import Box, Card, Folded, Node, counted
from nunbit.explaining.trace import PICTURE, Step, Trace
from nunbit.language import tr, trn

WIDTH = 480
CARD_X, CARD_WIDTH = 68, 260
LABEL_X = WIDTH - 6
INSET = 10  # pixels that a box is wider than what is in it, each side
GAP = 18
LANE = 9  # pixels between two lines of skips
FILLED = ("conv", "linear", "pool", "combine")
MAX_LINES = 3  # a card with more inputs (a concatenation of twelve) says so in words
# Mean width of a character in pixels, in the widest usual typeface (DejaVu Sans).
LABEL_CHARACTER, KIND_CHARACTER, CHIP_CHARACTER = 7.7, 6.9, 6.2
HANGUL = 1.45  # times as wide

STYLE = """
.nb { --paper: #fdfdfc; --ink: #1f2937; --soft: #6b7280; --line: #94a3b8;
  --chip: #ffffff; --chip-line: #cbd5e1; --box: #f8fafc; --box-line: #cbd5e1;
  --conv: #dbeafe; --conv-line: #2563a8; --linear: #ede9fe;
  --linear-line: #7c3aed; --pool: #ffedd5; --pool-line: #d9730d; --combine: #dcfce7;
  --combine-line: #15803d; --other: #f1f5f9; --other-line: #94a3b8; --front: #bfdbfe;
  --side: #93c5fd; --top: #dbeafe; font-family: system-ui, "Noto Sans KR", sans-serif; }
@media (prefers-color-scheme: dark) { .nb { --paper: #141517; --ink: #e5e7eb;
  --soft: #9ca3af; --line: #64748b; --chip: #111827; --chip-line: #475569; --box: #172032;
  --box-line: #475569; --conv: #1e3a5f; --conv-line: #7db3ea; --linear: #3b2a63;
  --linear-line: #b69df8; --pool: #4a2f12;
  --pool-line: #f0a860; --combine: #14402a; --combine-line: #6ee7a0; --other: #1f2937;
  --other-line: #64748b; --front: #1d4ed8; --side: #1e40af; --top: #3b82f6; } }
@media print { .nb { --paper: #ffffff; --ink: #111827; --soft: #4b5563; } }
.nb:root { background: var(--paper); }
.nb text { fill: var(--ink); font-size: 12.5px; }
.nb .label { font-weight: 600; }
.nb .kind { font-size: 11.5px; font-weight: 600; }
.nb .soft { fill: var(--soft); font-size: 11px; }
.nb .chip { font-size: 10.5px; }
.nb .chips rect { fill: var(--chip); stroke: var(--chip-line); }
.nb .line { fill: none; stroke: var(--line); stroke-width: 1.4; }
.nb .head { fill: var(--line); }
.nb .box { fill: var(--box); stroke: var(--box-line); stroke-dasharray: 4 3; }
.nb .conv { fill: var(--conv); stroke: var(--conv-line); }
.nb .linear { fill: var(--linear); stroke: var(--linear-line); }
.nb .pool { fill: var(--pool); stroke: var(--pool-line); }
.nb .combine { fill: var(--combine); stroke: var(--combine-line); }
.nb .other { fill: var(--other); stroke: var(--other-line); }
.nb .cube polygon { stroke: var(--conv-line); stroke-width: .7; }
"""


@dataclass
class _Placed:
    """A card on the paper."""

    top: float
    bottom: float
    inputs: list[int]
    """Numbers of the cards that it takes from."""


@dataclass
class _Drawing:
    """What has been drawn so far, from top to bottom."""

    trace: Trace
    folded: Folded
    y: float = 0.0
    back: list[str] = field(default_factory=list)
    front: list[str] = field(default_factory=list)
    placed: list[_Placed] = field(default_factory=list)
    card_of: dict[int, int] = field(default_factory=dict)
    shape: tuple[int, ...] = ()


def draw_network(trace: Trace, folded: Folded, title: str) -> str:
    """Return the diagram as the text of an SVG file.

    Args:
        trace: one forward pass.
        folded: the same as cards and boxes.
        title: for readers who cannot see it.
    """
    drawing = _Drawing(trace, folded, y=8)
    _terminal(drawing, tr("picture"), trace.picture)
    for node in folded.nodes:
        _place(drawing, node, 0)
    _terminal(drawing, tr("one score for each class"), drawing.shape)
    lines = _straight_lines(drawing) + _skips(drawing)
    body = "\n".join([*drawing.back, *lines, *drawing.front])
    height = math.ceil(drawing.y)
    return (
        f'<svg class="nb" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        f'role="img" aria-label="{escape(title)}"><style>{STYLE}</style>\n'
        '<defs><marker id="nb-arrow" viewBox="0 0 6 6" refX="5" refY="3" markerWidth="6" '
        'markerHeight="6" orient="auto"><path class="head" d="M0 0L6 3L0 6z"/></marker></defs>\n'
        f"{body}\n</svg>\n"
    )


def _terminal(drawing: _Drawing, label: str, shape: tuple[int, ...]) -> None:
    """Draw the picture or the result, which no step makes."""
    height = 34
    drawing.front += [_rect("other", CARD_X, drawing.y, CARD_WIDTH, height, 17),
                      _text("label", CARD_X + 16, drawing.y + 21, label)]  # fmt: skip
    _beside(drawing, shape, height, "", is_map=len(shape) == 3)
    drawing.card_of.setdefault(PICTURE, 0)
    number = len(drawing.placed)
    drawing.placed.append(_Placed(drawing.y, drawing.y + height, [number - 1] if number else []))
    drawing.y += height + GAP


def _place(drawing: _Drawing, node: Node, depth: int) -> None:
    if isinstance(node, Card):
        _place_card(drawing, node)
        return
    inset = INSET * (2 - depth)
    top = drawing.y - 4
    mark = len(drawing.back)
    drawing.back.append("")  # boxes lie behind what is in them
    drawing.y += 28
    for child in node.children:
        _place(drawing, child, depth + 1)
    x, width = CARD_X - inset, CARD_WIDTH + 2 * inset
    bottom = drawing.y - GAP + 12
    drawing.back[mark] = _rect("box", x, top, width, bottom - top, 8)
    drawing.front += _box_title(node, x, top)
    drawing.y = bottom + GAP


def _box_title(box: Box, x: float, top: float) -> list[str]:
    """Write left and right of the middle, where the arrow goes."""
    found = [_text("kind", x + 10, top + 18, box.kind)]
    if box.repeats > 1:
        words = f"× {box.repeats}"
        start = x + 10 + KIND_CHARACTER * len(box.kind) + 6
        pill = KIND_CHARACTER * len(words) + 12
        found += [_rect("conv", start, top + 5, pill, 18, 9),
                  _text("kind", start + 6, top + 18, words)]  # fmt: skip
    count = tr("one set of weights") if box.is_shared else _count(box.parameters)
    return [*found, _text("soft", CARD_X + CARD_WIDTH, top + 18, count, end=True)]


def _place_card(drawing: _Drawing, card: Card) -> None:
    steps = [drawing.trace.steps[at] for at in card.positions]
    css, label, chips = _words(card, steps)
    chip_width = sum(CHIP_CHARACTER * _length(chip) + 18 for chip in chips)
    is_beside = 16 + LABEL_CHARACTER * _length(label) + chip_width < CARD_WIDTH
    height = 34 if is_beside else 54
    drawing.front.append(_rect(css, CARD_X, drawing.y, CARD_WIDTH, height, 6))
    drawing.front.append(_text("label", CARD_X + 10, drawing.y + 21, label))
    x = CARD_X + CARD_WIDTH - chip_width if is_beside else CARD_X + 10
    drawing.front += _chips(chips, x, drawing.y + (8 if is_beside else 29))
    count = card.parameters if card.summary else counted(steps)
    _beside(drawing, steps[-1].shape, height, _count(count) if count else "",
            is_map=steps[-1].is_map or steps[0].is_map)  # fmt: skip
    number = len(drawing.placed)
    given = {i for step in steps for i in step.inputs} - set(card.positions)
    sources = {drawing.card_of[at] for i in given if (at := _shown(drawing, i)) in drawing.card_of}
    drawing.placed.append(_Placed(drawing.y, drawing.y + height, sorted(sources)))
    drawing.card_of.update((at, number) for at in card.positions)
    drawing.y += height + GAP


def _words(card: Card, steps: Sequence[Step]) -> tuple[str, str, list[str]]:
    """Return the class, the label and the chips of a card: "stride 2" and "ReLU" are chips."""
    if card.summary:
        kind, _, inside = card.summary.partition(": ")
        return "combine", kind, inside.split(", ")
    role = steps[0].operation.role
    parts = steps[0].operation.label.split(", ")
    chips = [*parts[2:], *(step.operation.label for step in steps[1:])]
    return role if role in FILLED else "other", ", ".join(parts[:2]), chips


def _shown(drawing: _Drawing, at: int) -> int:
    while at != PICTURE and drawing.folded.shown[at] != at:
        at = drawing.folded.shown[at]
    return at


def _chips(labels: list[str], x: float, y: float) -> list[str]:
    found = []
    for label in labels:
        width = CHIP_CHARACTER * _length(label) + 12
        found += [f'<g class="chips">{_rect("", x, y, width, 18, 9)}</g>',
                  _text("chip", x + 6, y + 12.8, label)]  # fmt: skip
        x += width + 6
    return found


def _beside(
    drawing: _Drawing, shape: tuple[int, ...], height: float, count: str, *, is_map: bool
) -> None:
    """Draw the shape right of a card, and as a solid left of it where it changed."""
    middle = drawing.y + height / 2
    text = " × ".join(f"{n:,}" for n in shape)
    drawing.front.append(_text("", LABEL_X, middle + (-2 if count else 4), text, end=True))
    if count:
        drawing.front.append(_text("soft", LABEL_X, middle + 13, count, end=True))
    if shape != drawing.shape:
        drawing.front.append(
            _solid(shape if is_map else shape[-1:], drawing.trace.picture[1], middle)
        )
    drawing.shape = shape


def _solid(shape: tuple[int, ...], side: int, middle: float) -> str:
    """Draw channels as depth and pixels as height; a vector is a bar."""
    is_map = len(shape) == 3 and shape[1] > 1
    if is_map:
        edge, deep = 6 + 22 * math.sqrt(shape[1] / side), 2 + 1.9 * math.log2(shape[0] + 1)
    else:
        edge, deep = 8 + 2.6 * math.log2(max(shape) + 1), 3.0
    width = edge if is_map else 6.0
    left, top = 30 - (width + deep) / 2, middle - (edge - deep * 0.6) / 2
    right, bottom, shift, rise = left + width, top + edge, deep, deep * 0.6
    points = {
        "front": [(left, top), (right, top), (right, bottom), (left, bottom)],
        "top": [(left, top), (left + shift, top - rise), (right + shift, top - rise), (right, top)],
        "side": [(right, top), (right + shift, top - rise), (right + shift, bottom - rise),
                 (right, bottom)],
    }  # fmt: skip
    polygons = "".join(
        f'<polygon style="fill: var(--{face})" points="'
        + " ".join(f"{x:.1f},{y:.1f}" for x, y in corners)
        + '"/>'
        for face, corners in points.items()
    )
    return f'<g class="cube">{polygons}</g>'


def _straight_lines(drawing: _Drawing) -> list[str]:
    """Draw arrows between cards that follow each other."""
    x, pairs = CARD_X + CARD_WIDTH / 2, zip(drawing.placed, drawing.placed[1:], strict=False)
    return [
        f'<path class="line" marker-end="url(#nb-arrow)" d="M{x} {before.bottom:.1f}'
        f'V{after.top:.1f}"/>'
        for number, (before, after) in enumerate(pairs)
        if number in after.inputs
    ]


def _skips(drawing: _Drawing) -> list[str]:
    """Draw lines from cards to later cards that do not follow them, right of the column."""
    found, ends = [], list[float]()  # where each lane is free again
    edge = CARD_X + CARD_WIDTH
    for number, card in enumerate(drawing.placed):
        far = [source for source in card.inputs if source != number - 1]
        for source in far if len(card.inputs) <= MAX_LINES else ():
            start, stop = drawing.placed[source].bottom + 5, (card.top + card.bottom) / 2
            lane = next((i for i, end in enumerate(ends) if end <= start), len(ends))
            ends[lane:] = [stop, *ends[lane + 1 :]]
            x, middle = edge + 8 + LANE * lane, CARD_X + CARD_WIDTH / 2
            found.append(
                '<path class="line skip" marker-end="url(#nb-arrow)" '
                f'd="M{middle} {start:.1f}H{x - 6}q6 0 6 6V{stop - 6:.1f}q0 6 -6 6H{edge}"/>'
            )
    return found


def _count(parameters: int) -> str:
    return trn("{count} parameter", "{count} parameters", parameters)


def _length(text: str) -> float:
    """Return how many mean characters wide a text is; those of Hangul are wider."""
    return sum(HANGUL if character >= "\uac00" else 1.0 for character in text)


def _rect(css: str, x: float, y: float, width: float, height: float, radius: float) -> str:
    return (
        f'<rect class="{css}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" '
        f'rx="{radius}"/>'
    )


def _text(css: str, x: float, y: float, text: str, *, end: bool = False) -> str:
    anchor = ' text-anchor="end"' if end else ""
    return f'<text class="{css}" x="{x:.1f}" y="{y:.1f}"{anchor}>{escape(text)}</text>'
