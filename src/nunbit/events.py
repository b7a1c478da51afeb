"""TensorBoard events of a run, in RUN/tensorboard: `tensorboard --logdir RUN`.

A run writes events if it has that folder; a resumed run therefore goes on writing them. The x axis
counts updates. What an earlier process wrote about work that is done again is taken back by
`purge_step`.
"""

import contextlib
import copy
import io
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import nn

from nunbit.config import RunConfig
from nunbit.data.preprocess import Preprocess
from nunbit.errors import UsageError
from nunbit.finished import Finished
from nunbit.language import tr
from nunbit.models.mode import eval_mode
from nunbit.runfolder import EVENTS
from nunbit.training.loop import EpochResult

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

CURVES = {
    "train/loss": "train_loss",
    "train/accuracy": "running_accuracy",
    "val/loss": "val_loss",
    "val/accuracy": "val_accuracy",
    "lr": "lr",
    "images_per_second": "images_per_second",
}
SHEET = (3, 6)  # rows and columns of test pictures


def require_tensorboard() -> None:
    """Refuse to begin what could not be written.

    Raises:
        UsageError: the extra is not installed.
    """
    try:
        import torch.utils.tensorboard  # noqa: F401  # it imports tensorboard
    except ImportError:
        raise UsageError('TensorBoard events need: pip install "nunbit[tensorboard]"') from None


@contextlib.contextmanager
def open_events(
    run_dir: Path, history: Sequence[EpochResult], say: Callable[[str], None]
) -> Iterator["Events"]:
    """Give the events of a run for the block; without the folder they are written nowhere.

    Args:
        run_dir: the run's folder.
        history: results of the epochs that are done; later events of an earlier process are void.
        say: told once if the events cannot be written.

    Raises:
        UsageError: the folder is there, but the extra is not installed.
    """
    folder = run_dir / EVENTS
    if not folder.is_dir():
        yield Events(None, say)
        return
    require_tensorboard()
    from torch.utils.tensorboard import SummaryWriter

    is_begun = any(folder.iterdir())
    done = history[-1].step if history else 0
    writer = SummaryWriter(str(folder), purge_step=done if is_begun else None)
    events = Events(writer, say, is_begun=is_begun)
    if history:  # its step is taken back too, since what ends a run has the step of the last epoch
        events.add(history[-1])
    try:
        yield events
    finally:
        events.close()


class Events:
    """Writes what a run does; a log that cannot be written is no reason to end a training."""

    def __init__(
        self, writer: "SummaryWriter | None", say: Callable[[str], None], *, is_begun: bool = False
    ) -> None:
        self._writer, self._say, self._is_begun = writer, say, is_begun

    def add_graph(self, model: nn.Module, preprocess: Preprocess) -> None:
        """Add the network as a graph, unless an earlier process did; the network is unchanged."""
        if self._writer is None or self._is_begun:
            return
        p = preprocess
        try:
            traced = copy.deepcopy(model).cpu()
            # Of a network without a graph, torch also says so on standard output.
            silent = contextlib.redirect_stdout(io.StringIO())
            with eval_mode(traced), warnings.catch_warnings(), silent:
                warnings.simplefilter("ignore")  # of the tracer, about what a graph cannot show
                picture = torch.zeros(1, p.channels, p.height, p.width)
                self._attempt(lambda writer: writer.add_graph(traced, picture))
        except Exception as error:  # noqa: BLE001  # whatever the tracer raises: it has no graph
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            self._say(tr("TensorBoard gets no graph: {reason}", reason=reason))

    def add(self, result: EpochResult) -> None:
        """Add one epoch to the curves."""
        values = {tag: getattr(result, name) for tag, name in CURVES.items()}

        def write(writer: "SummaryWriter") -> None:
            for tag, value in values.items():
                if value is not None:
                    writer.add_scalar(tag, value, result.step)

        self._attempt(write)

    def add_end(self, finished: Finished) -> None:
        """Add test pictures with their predictions, and the settings with the final metrics."""
        if self._writer is None:
            return
        step = finished.epochs[-1].step if finished.epochs else 0
        metrics: dict[str, float] = {
            "hparam/test_accuracy": finished.test.accuracy,
            "hparam/train_accuracy": finished.train.accuracy,
        }
        if finished.epochs:
            metrics["hparam/final_loss"] = finished.epochs[-1].train_loss

        def write(writer: "SummaryWriter") -> None:
            writer.add_image("test/predictions", draw(finished), step, dataformats="HWC")
            # Under this name they belong to the run itself, not to one of the time of day.
            writer.add_hparams(
                hyper_parameters(finished.config), metrics, run_name=".", global_step=step
            )

        self._attempt(write)

    def close(self) -> None:
        """Close the file."""
        self._attempt(lambda writer: writer.close(), flush=False)
        self._writer = None

    def _attempt(self, write: Callable[["SummaryWriter"], None], *, flush: bool = True) -> None:
        if self._writer is None:
            return
        try:
            write(self._writer)
            if flush:
                self._writer.flush()
        except OSError as error:
            self._say(
                tr("cannot write the TensorBoard events ({error}); training goes on", error=error)
            )
            self._writer = None


def hyper_parameters(config: RunConfig) -> dict[str, str | int | float | bool]:
    """Return the settings by dotted name, as the command line takes them, and the recipe."""
    named: dict[str, str | int | float | bool] = {"recipe": config.recipe}
    for section, fields in asdict(config).items():
        if isinstance(fields, dict):
            options = fields.pop("args", {})
            named |= {f"{section}.{name}": value for name, value in {**fields, **options}.items()}
    return {k: v if isinstance(v, str | int | float | bool) else str(v) for k, v in named.items()}


def draw(finished: Finished) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Draw test pictures from all over the split, each with what the network says of it.

    Returns:
        uint8 (H, W, 3).
    """
    test, classes = finished.dataset.test, finished.dataset.class_names
    sure_N, predicted_N = finished.test_logits.softmax(1).max(1)
    rows, columns = SHEET
    chosen = np.linspace(0, len(test) - 1, min(len(test), rows * columns)).astype(int)
    figure = Figure(figsize=(1.6 * columns, 2.0 * rows), layout="constrained")
    canvas, grid = FigureCanvasAgg(figure), figure.subplots(rows, columns)
    for axes in grid.flat:
        axes.axis("off")
    for axes, i in zip(grid.flat, chosen, strict=False):
        image = test.images[i].numpy()
        if image.shape[2] == 1:
            axes.imshow(image[:, :, 0], cmap="gray", vmin=0, vmax=255)
        else:
            axes.imshow(image)
        said, label = classes[int(predicted_N[i])], classes[int(test.labels[i])]
        wrong = "" if said == label else f"\nis {label}"
        colour = "#b91c1c" if wrong else "black"
        axes.set_title(f"{said} {sure_N[i]:.0%}{wrong}", fontsize=8, color=colour, parse_math=False)
    canvas.draw()  # type: ignore[no-untyped-call]
    pixels = canvas.buffer_rgba()  # type: ignore[no-untyped-call]
    return np.asarray(pixels)[..., :3].copy()
