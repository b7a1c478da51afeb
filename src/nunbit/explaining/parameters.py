"""The lesson `basics/linear`: a linear layer by hand, and what Parameter, Buffer and tensor mean.

The table is found out by asking PyTorch: one update is made, one state dict is taken, the layer is
moved to another device, and what happened to each tensor is looked up.

Source of the layer: the Korean PyTorch tutorials on `nn.Module`. Differences: a buffer and a plain
tensor are added to its parameters, so that all three can be asked.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nunbit.explaining.convolution import source
from nunbit.explaining.explanation import Drawn
from nunbit.language import mark, tr

QUESTIONS = {
    "has_gradient": mark("has a gradient?"),
    "is_updated": mark("updated by the optimizer?"),
    "is_saved": mark("saved in state_dict()?"),
    "is_moved": mark("moved by .to()?"),
}


class Linear(nn.Module):
    """y = x W^T + b, with all weights 1, times a plain tensor and plus a buffer."""

    offset: Tensor

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(outputs, inputs))
        self.bias = nn.Parameter(torch.ones(outputs))
        self.register_buffer("offset", torch.zeros(outputs))
        self.scale = torch.ones(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, outputs) of x (B, inputs)."""
        return (x @ self.weight.T + self.bias) * self.scale + self.offset


@dataclass(frozen=True)
class Answer:
    """What PyTorch did with one kind of tensor."""

    kind: str
    has_gradient: bool
    is_updated: bool
    is_saved: bool
    is_moved: bool

    def says(self) -> list[bool]:
        """Return yes or no for each question."""
        return [getattr(self, name) for name in QUESTIONS]


KINDS = {"weight": "Parameter", "offset": "Buffer", "scale": mark("plain tensor")}


def ask() -> list[Answer]:
    """Update, save and move a layer, and see what happened to its tensors."""
    layer = Linear(3, 2)
    before = {name: getattr(layer, name).detach().clone() for name in KINDS}
    loss = layer(torch.ones(1, 3)).square().mean()
    parameters = list(layer.parameters())
    for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
        parameter.grad = gradient
    torch.optim.SGD(parameters, lr=0.1).step()
    after = {name: getattr(layer, name).detach().clone() for name in KINDS}
    gradients = {name for name in KINDS if getattr(layer, name).grad is not None}
    saved = layer.state_dict()
    layer.to("meta")  # a device that every machine has
    return [
        Answer(
            kind=kind,
            has_gradient=name in gradients,
            is_updated=not torch.equal(before[name], after[name]),
            is_saved=name in saved,
            is_moved=getattr(layer, name).is_meta,
        )
        for name, kind in KINDS.items()
    ]


def draw_linear() -> Drawn:
    """Write the lesson as a page and as Markdown, and its table for the terminal."""
    answers, x = ask(), torch.ones(1, 3)
    layer, built_in = Linear(3, 2), nn.Linear(3, 2)
    built_in.load_state_dict(dict(layer.named_parameters()))
    y = layer(x)
    run = {
        "y": str(y.detach().tolist()),
        "is_equal": torch.equal(y, built_in(x)),
        "parameters": [(name, list(p.shape)) for name, p in layer.named_parameters()],
        "saved": list(layer.state_dict()),
        "before": source(Linear.__init__), "forward": source(Linear.forward),
    }  # fmt: skip
    questions = [tr(question) for question in QUESTIONS.values()]
    words = {True: tr("yes"), False: tr("no")}
    rows = [
        ["", *questions],
        *([tr(a.kind), *(words[is_so] for is_so in a.says())] for a in answers),
    ]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    drawn = Drawn(
        files={"linear.md": _markdown(rows).encode()},
        facts={
            "table": [
                {"kind": a.kind, **{name: getattr(a, name) for name in QUESTIONS}} for a in answers
            ]
        },
        lines=["  ".join(f"{w:<{n}}" for w, n in zip(row, widths, strict=True)) for row in rows],
    )
    drawn.add_page("linear.html", answers=answers, questions=questions, run=run)
    return drawn


def _markdown(rows: list[list[str]]) -> str:
    ruled = [rows[0], ["---"] * len(rows[0]), *rows[1:]]
    return "".join("| " + " | ".join(row) + " |\n" for row in ruled)
