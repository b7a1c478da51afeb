"""The lesson `basics/convolution`: what a convolution and a pooling do to one picture.

Every example is a function; the page shows its source, its docstring, and what it gave.

Source of the examples: Stevens, Antiga and Viehmann, Deep Learning with PyTorch (2020), section
8.2. Differences: any picture in place of one bird; the averaging kernel divides by 27 = 3 x 3
pixels x 3 channels, where the text divides by 9, so that here it is a mean; stride is added.

Shapes: B batch (here 1), C channels, H and W pixels.
"""

import ast
import inspect
import io
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor, nn

from nunbit.explaining.drawing import Pixels, to_png
from nunbit.explaining.explanation import Drawn
from nunbit.language import tr
from nunbit.runtime import seeded

SIDE = 32  # pixels, as in the text
FACTOR = 8  # each pixel is drawn as a square of this side
COLUMNS = 4
SAMPLE = "flower.jpg"  # inside scikit-learn; no download


@dataclass(frozen=True)
class Example:
    """One operation on the picture."""

    name: str
    title: str
    caption: str
    """The title in English, for the figure: its font has no Hangul."""
    said: str
    code: str
    output: Tensor
    """float (1, C, H, W)."""

    @property
    def shape(self) -> str:
        """The output's shape as PyTorch prints it."""
        return str(list(self.output.shape))


def the_picture(x: Tensor) -> Tensor:
    """The picture.

    Three channels (red, green, blue) of numbers from 0 to 1; the first dimension is the batch.
    """
    return x


def no_padding(x: Tensor) -> Tensor:
    """Convolution without padding.

    Sixteen kernels give sixteen channels, of which the first is drawn. A kernel of 3 x 3 fits into
    32 pixels at 30 places only: the border is lost. The weights are random, as before a training.
    """
    conv = nn.Conv2d(3, 16, kernel_size=3)
    y: Tensor = conv(x)
    return y


def padding(x: Tensor) -> Tensor:
    """Convolution with padding.

    A border of zeros around the picture, one pixel wide, keeps its size.
    """
    conv = nn.Conv2d(3, 16, kernel_size=3, padding=1)
    y: Tensor = conv(x)
    return y


def averaging(x: Tensor) -> Tensor:
    """The averaging kernel.

    All 27 weights are 1/27: each output is the mean of its neighbourhood, and the picture is
    blurred. The border is darker, since the padding is black.
    """
    conv = nn.Conv2d(3, 1, kernel_size=3, padding=1, bias=False)
    nn.init.constant_(conv.weight, 1 / 27)
    y: Tensor = conv(x)
    return y


def vertical_edges(x: Tensor) -> Tensor:
    """The vertical-edge kernel.

    Right column minus left column: 0 (grey) on even areas, bright where it gets lighter to the
    right, dark where it gets darker. At the sides it answers to the black padding.
    """
    conv = nn.Conv2d(3, 1, kernel_size=3, padding=1, bias=False)
    row = torch.tensor([-1.0, 0.0, 1.0])
    conv.weight = nn.Parameter(row.expand(1, 3, 3, 3).clone())
    y: Tensor = conv(x)
    return y


def max_pooling(x: Tensor) -> Tensor:
    """Max pooling.

    The largest of each 2 x 2 pixels, channel by channel: half as high and half as wide. It has no
    weights.
    """
    pool = nn.MaxPool2d(2)
    y: Tensor = pool(x)
    return y


def average_pooling(x: Tensor) -> Tensor:
    """Average pooling.

    The mean of each 2 x 2 pixels. Compare with max pooling: bright points fade.
    """
    pool = nn.AvgPool2d(2)
    y: Tensor = pool(x)
    return y


def stride(x: Tensor) -> Tensor:
    """Convolution with stride 2.

    The averaging kernel at every other place only: a convolution that also halves.
    """
    conv = nn.Conv2d(3, 1, kernel_size=3, padding=1, stride=2, bias=False)
    nn.init.constant_(conv.weight, 1 / 27)
    y: Tensor = conv(x)
    return y


EXAMPLES: tuple[Callable[[Tensor], Tensor], ...] = (
    the_picture, no_padding, padding, averaging, vertical_edges, max_pooling, average_pooling,
    stride,
)  # fmt: skip  # a list of names


def draw_convolution(image: Image.Image | None, name: str | None) -> Drawn:
    """Run all examples on one picture and draw them side by side.

    Args:
        image: RGB of any size, the middle of which is taken; None for a picture of scikit-learn's.
        name: of the picture.
    """
    x = _input(image or _sample())
    with torch.no_grad(), seeded("basics/convolution"):
        examples = [_run(function, x) for function in EXAMPLES]
    drawn = Drawn(files={"convolution.png": _sheet(examples)})
    for example in examples:
        drawn.files[f"{example.name}.png"] = to_png(_drawn(example.output))
    drawn.facts = {"shapes": {example.name: list(example.output.shape) for example in examples}}
    width = max(len(example.title) for example in examples)
    drawn.lines = [f"{example.title:<{width}}  {example.shape}" for example in examples]
    drawn.add_page(
        "convolution.html", examples=examples, picture=Path(name or SAMPLE).name, side=SIDE
    )
    return drawn


def _run(function: Callable[[Tensor], Tensor], x: Tensor) -> Example:
    text = inspect.cleandoc(function.__doc__ or "")
    title, _, said = tr(text).partition("\n")
    return Example(
        name=function.__name__,
        title=title.rstrip("."),
        caption=text.partition("\n")[0].rstrip("."),
        said=" ".join(said.split()),
        code=source(function),
        output=function(x),
    )


def source(function: Callable[..., object]) -> str:
    """Return what a function does as a reader would type it: no docstring, types or last return."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
    assert isinstance(tree, ast.FunctionDef)
    has_docstring = ast.get_docstring(tree) is not None
    lines = [line for line in tree.body[has_docstring:] if ast.unparse(line) != "return y"]
    return "\n".join(ast.unparse(line) for line in lines).replace("y: Tensor =", "y =")


def _sample() -> Image.Image:
    from sklearn.datasets import load_sample_image

    return Image.fromarray(load_sample_image(SAMPLE))


def _input(image: Image.Image) -> Tensor:
    """Return the middle of a picture as float (1, 3, 32, 32) from 0 to 1."""
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    box = (left, top, left + side, top + side)
    small = image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR, box=box)
    return torch.from_numpy(np.array(small)).permute(2, 0, 1)[None] / 255


def _drawn(output: Tensor) -> Pixels:
    """Return an output as a picture: three channels in colour, others the first one in grey."""
    shown = output[0] if output.shape[1] == 3 else _levels(output[0, :1]).expand(3, -1, -1)
    pixels = (shown.permute(1, 2, 0).clamp(0, 1) * 255).byte().numpy()
    return pixels.repeat(FACTOR, axis=0).repeat(FACTOR, axis=1)


def _levels(values: Tensor) -> Tensor:
    """Return values from 0 to 1: 0 becomes black, or middle grey where there are negative ones."""
    most = values.abs().max().clamp(min=1e-12)
    return 0.5 + 0.5 * values / most if values.min() < 0 else values / most


def _sheet(examples: list[Example]) -> bytes:
    """Draw all outputs at one scale, so that a smaller one is smaller."""
    rows = -(-len(examples) // COLUMNS)
    figure = Figure(figsize=(2.5 * COLUMNS, 3.0 * rows), layout="constrained")
    grid = figure.subplots(rows, COLUMNS, squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    for axes, example in zip(grid.flat, examples, strict=False):
        height, width = example.output.shape[2:]
        axes.imshow(_drawn(example.output), extent=(0, width, height, 0))
        axes.set(xlim=(0, SIDE), ylim=(SIDE, 0))
        axes.set_title(f"{example.caption}\n{example.shape}", fontsize=9)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=110, facecolor="white")
    return stream.getvalue()
