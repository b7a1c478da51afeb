"""A trace as a learner reads it: steps joined to cards, modules as boxes, repeats folded.

A hundred equal blocks become one box with "× 100". Steps that keep the shape (norm, activation,
dropout) join the card of the step before them.
"""

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from nunbit.explaining.trace import Frame, Step, Trace
from nunbit.language import tr

MAX_DEPTH = 2  # boxes inside boxes; more is no diagram to look at
MAX_CARDS = 60  # above this the innermost boxes are drawn as one card each
JOINING = ("norm", "activation")


@dataclass(frozen=True)
class Card:
    """Steps that are drawn as one block."""

    positions: tuple[int, ...]
    """In the trace: the step that names the card, then those that joined it."""
    summary: str = ""
    """The text of a box that is not opened; the positions are the steps of its first copy."""
    parameters: int = 0
    """Of all copies of that box."""


@dataclass(frozen=True)
class Box:
    """A module with several cards, perhaps several times in a row."""

    kind: str
    children: tuple["Card | Box", ...]
    repeats: int
    positions: tuple[int, ...]
    """Of the first copy only."""
    parameters: int
    """Of all copies, shared ones counted once."""
    is_shared: bool
    """The copies use the same weights."""


Node = Card | Box


@dataclass(frozen=True)
class Folded:
    """The whole network."""

    nodes: tuple[Node, ...]
    shown: tuple[int, ...]
    """For each step the step of the first copy that stands for it."""


def fold(trace: Trace) -> Folded:
    """Return the boxes and cards of a trace, folded until they fit a page."""
    folder = _Folder(trace)
    nodes = folder.group(range(len(trace.steps)), 0)
    for depth in range(MAX_DEPTH, 0, -1):
        if len(cards(nodes)) > MAX_CARDS:
            nodes = tuple(_closed(node, depth, trace) for node in nodes)
    return Folded(nodes, tuple(folder.shown))


def cards(nodes: Sequence[Node]) -> list[Card]:
    """Return all cards in order."""
    found: list[Card] = []
    for node in nodes:
        found += [node] if isinstance(node, Card) else cards(node.children)
    return found


class _Folder:
    def __init__(self, trace: Trace) -> None:
        self._steps = trace.steps
        self.shown = list(range(len(trace.steps)))
        self._uses = Counter(i for step in trace.steps for i in step.inputs)
        sizes = Counter(frame.call for step in trace.steps for frame in step.frames)
        # A module with one step needs no box, and the network itself is the whole diagram.
        self._boxes = [
            [f for f in step.frames[1:] if sizes[f.call] > 1 and not f.is_container]
            for step in trace.steps
        ]

    def group(self, positions: Sequence[int], depth: int) -> tuple[Node, ...]:
        """Return the nodes of steps that follow each other."""
        nodes: list[Node] = []
        for frame, run in groupby(positions, lambda at: self._frame(at, depth)):
            steps = tuple(run)
            if frame is None:
                nodes += [Card((at,)) for at in steps]
                continue
            inside = self.group(steps, depth + 1)
            nodes += inside if len(inside) == 1 else [self._box(frame, steps, inside)]
        return self._folded(self._joined(nodes))

    def _frame(self, at: int, depth: int) -> Frame | None:
        boxes = self._boxes[at]
        return boxes[depth] if depth < min(len(boxes), MAX_DEPTH) else None

    def _box(self, frame: Frame, positions: tuple[int, ...], inside: tuple[Node, ...]) -> Box:
        steps = [self._steps[at] for at in positions]
        return Box(frame.kind, inside, 1, positions, counted(steps), False)

    def _joined(self, nodes: Sequence[Node]) -> list[Node]:
        """Put steps that keep the shape onto the card before them."""
        kept: list[Node] = []
        for node in nodes:
            last = kept[-1] if kept else None
            if (
                isinstance(node, Card)
                and isinstance(last, Card)
                and self._joins(node.positions[0], last.positions[-1])
            ):
                kept[-1] = Card(last.positions + node.positions)
            else:
                kept.append(node)
        return kept

    def _joins(self, at: int, before: int) -> bool:
        step, previous = self._steps[at], self._steps[before]
        follows = step.inputs == (before,) and self._uses[before] == 1
        return follows and step.shape == previous.shape and step.operation.role in JOINING

    def _folded(self, nodes: Sequence[Node]) -> tuple[Node, ...]:
        """Put equal boxes that follow each other into one."""
        kept: list[Node] = []
        for node in nodes:
            last = kept[-1] if kept else None
            if not (isinstance(node, Box) and isinstance(last, Box)) or (
                self._signature(node) != self._signature(last)
            ):
                kept.append(node)
                continue
            for mine, first in zip(node.positions, last.positions, strict=True):
                self.shown[mine] = first
            kept[-1] = replace(
                last,
                repeats=last.repeats + 1,
                parameters=last.parameters + node.parameters,
                is_shared=node.parameters < counted([self._steps[at] for at in last.positions]),
            )
        return tuple(kept)

    def _signature(self, box: Box) -> Hashable:
        steps = [self._steps[at] for at in box.positions]
        start = box.positions[0]
        return box.kind, tuple(
            (s.operation.label, s.shape, s.parameters, tuple(max(i - start, -1) for i in s.inputs))
            for s in steps
        )


def counted(steps: Sequence[Step]) -> int:
    """Return the parameters of steps, leaving out weights that an earlier step used."""
    return sum(step.parameters for step in steps if not step.is_repeated)


def _closed(node: Node, depth: int, trace: Trace) -> Node:
    """Return a node with its boxes at a depth (1 is outermost) drawn as one card each."""
    if isinstance(node, Card):
        return node
    if depth > 1:
        children = tuple(_closed(child, depth - 1, trace) for child in node.children)
        return replace(node, children=children)
    nothing = tr("no weights")
    roles = Counter(str(trace.steps[at].operation.role) for at in node.positions)
    parts = [f"{roles[role]} {role}" for role in ("conv", "linear") if roles[role]]
    text = f"{node.kind}: {', '.join(parts or [nothing])}"
    times = f", × {node.repeats}" if node.repeats > 1 else ""
    return Card(node.positions, text + times, node.parameters)
