"""Signs that a training is set up wrongly: in its first updates, after its first epoch, at its end.

Looking changes nothing: the weights are the same with and without it, bit for bit. Each function
returns one line for the user, or None where all is well. Not every fault shows: a network learns
shuffled labels by heart as gladly as right ones.

The limits are far from what our recipes do (docs/watching.md has them all), since a
warning that is often wrong is soon read by nobody.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from nunbit.data.preprocess import Preprocess
from nunbit.data.rows import Images
from nunbit.evaluation import inputs
from nunbit.language import tr
from nunbit.metrics import wilson_interval
from nunbit.models.mode import eval_mode
from nunbit.runtime import Runtime
from nunbit.training.loss import weights_of
from nunbit.training.norms import has_running
from nunbit.training.state import TrainState

UPDATES = 10  # after which the weights are compared with the initial ones
MAX_INPUT = 10.0  # root mean square; 1 where pixels are normalised, about 100 where they are bytes
MAX_EXCESS = 10.0  # nats above ln K: logits with a standard deviation of 4.5, if they are normal
LARGEST_MOVE, LEAST_MOVE = 3.0, 1e-5  # of all weights in the first updates, over their own length
MAX_DEAD = 0.75  # share of ReLU units
MAX_FALL = 0.05  # from the accuracy of an epoch to that of its weights afterwards, in eval mode
SAMPLE = 256  # pictures
RELUS = {F.relu, F.relu_, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_, F.relu6}


def watch_start(
    batches: Iterable[tuple[Tensor, Tensor]],
    state: TrainState,
    num_classes: int,
    say: Callable[[str], None],
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the batches of an epoch; look at the first updates of a run and say what is wrong.

    Those are the first ten, or all of the first epoch where it has fewer.

    Args:
        batches: x (B, C, H, W) and y, which is not looked at.
        state: the training, updated with a batch before the next one is asked for.
        num_classes: K.
        say: called once for each fault.
    """
    rest = iter(batches)
    if state.step == 0:
        before = [weight.detach().clone() for weight in weights_of(state.model)]
        for number, (x, y) in enumerate(islice(rest, UPDATES)):
            faults = [input_fault(x), twin_fault(state.model)] if number == 0 else []
            yield x, y
            if number == 0:  # the first sum is of the loss before the first update
                faults.append(loss_fault(float(state.sums[0] / state.sums[2]), num_classes))
            for fault in filter(None, faults):
                say(tr("check: {fault}", fault=fault))
        moved = move_fault(before, state.model, state.step) if state.step else None
        del before  # this function goes on for an epoch
        if moved:
            say(tr("check: {fault}", fault=moved))
    yield from rest


def input_fault(x: Tensor) -> str | None:
    """Say whether a batch x (B, C, H, W) has values that no normalised picture has.

    Inputs far from zero make all gradients of a unit share a sign (LeCun et al., Efficient
    BackProp, 1998, 4.3).
    """
    size = float(x.square().mean().sqrt())
    if size <= MAX_INPUT:
        return None
    return tr(
        "the inputs have a root mean square of {size:.0f}, normalised ones about 1: "
        "were bytes not divided by 255, or by a wrong std?",
        size=size,
    )


def loss_fault(loss: float, num_classes: int) -> str | None:
    """Say whether the loss before the first update is far above that of a guess, ln K.

    A network that knows nothing should say so (A. Karpathy, A Recipe for Training Neural Networks,
    2019); otherwise the first epochs only unlearn its errors.

    Args:
        loss: mean cross entropy in nats.
        num_classes: K.
    """
    guess = math.log(num_classes)
    if loss <= guess + MAX_EXCESS:
        return None
    return tr(
        "before the first update the loss is {loss:.1f}, guessing gives ln "
        "{num_classes} = {guess:.2f}: the initial weights, or the biases of the last "
        "layer, are too large",
        loss=loss,
        num_classes=num_classes,
        guess=guess,
    )


def move_fault(before: list[Tensor], model: nn.Module, updates: int) -> str | None:
    """Say whether the first updates moved the weights too far, or hardly at all.

    An update of a thousandth of the weights' length is usual (A. Karpathy, CS231n notes, Neural
    Networks Part 3, 2015: "ratio of weights:updates").

    Args:
        before: the initial weights, as `weights_of` lists them.
        model: after these updates.
        updates: of fewer than `UPDATES` none is called too small.
    """
    length = _length(before)
    after = [weight.detach() for weight in weights_of(model)]
    moved = _length([a - b for a, b in zip(after, before, strict=True)])
    least = LEAST_MOVE if updates >= UPDATES else 0.0
    is_sane = least * length <= moved <= LARGEST_MOVE * length
    if is_sane or not length or not math.isfinite(moved):
        return None
    if moved > length:
        return tr(
            "the first {updates} updates moved the weights {moved:.1f} times their own "
            "length: the learning rate is too high; see: nunbit lr-find",
            updates=updates,
            moved=moved / length,
        )
    return tr(
        "the first {updates} updates moved the weights by {moved:.0e} of their "
        "length: the learning rate is too low; see: nunbit lr-find",
        updates=updates,
        moved=moved / length,
    )


def twin_fault(model: nn.Module) -> str | None:
    """Say whether the units of a layer start as equals: they get equal gradients and stay equals.

    Zeros alone are no fault, in a last layer or at the end of a residual branch (arXiv 1901.09321),
    as long as other layers differ.
    """
    layers = {
        name: module.weight.detach()
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d) and module.weight.requires_grad
    }
    twins = {n: w for n, w in layers.items() if len(w) > 1 and bool((w == w[0]).all())}
    faults = [name for name, weight in twins.items() if bool(weight.any())]
    if not faults and len(twins) < len(layers):
        return None
    name = next(iter(faults or twins), None)
    return name and (
        tr(
            "all {count} units of {name} start with the same weights, so they learn the "
            "same: initialise them at random",
            count=len(layers[name]),
            name=name,
        )
    )


def dead_fault(
    model: nn.Module, images: Images, preprocess: Preprocess, runtime: Runtime, batch_size: int
) -> str | None:
    """Say whether many ReLU units are 0 for every picture: no gradient wakes them.

    At a learning rate that is too high it can be 40 % and more (A. Karpathy, CS231n notes, Neural
    Networks Part 1, 2015).

    Args:
        model: on the runtime's device; unchanged.
        images: training pictures, uint8 (N, H, W, C); a sample of them is shown.
        preprocess: the network's own.
        runtime: where and how to compute.
        batch_size: most pictures per forward pass.
    """
    sample = images[:: max(1, len(images) // SAMPLE)][:SAMPLE]
    fired: list[Tensor] = []
    with eval_mode(model), torch.inference_mode(), runtime.autocast():
        for x in inputs(sample, preprocess, runtime, batch_size):
            with _ReluWatch() as relus:
                model(x)
            fired = fired or relus.fired
            if not fired or len(fired) != len(relus.fired):  # none in it, or as pictures have it
                return None
            fired = [a | b for a, b in zip(fired, relus.fired, strict=True)]
    units = sum(map(len, fired))
    dead = [int((~of_call).sum()) for of_call in fired]
    silent = [i for i, of_call in enumerate(fired, start=1) if not of_call.any()]
    if sum(dead) <= MAX_DEAD * units and not silent:
        return None
    where = (
        tr("; all of ReLU {silent} of {count}", silent=silent[0], count=len(dead)) if silent else ""
    )
    return tr(
        "{dead:,} of {units:,} ReLU units are 0 for each of {count} training "
        "pictures{where}: the learning rate is too high, or initial biases are too "
        "low",
        dead=sum(dead),
        units=units,
        count=len(sample),
        where=where,
    )


def norm_fault(model: nn.Module, running: float, count: int, measured: float) -> str | None:
    """Say whether batch norms make a network worse than it was while it was trained.

    Augmentation, dropout and the updates since make the accuracy of an epoch lower than that of its
    last weights, so that one that is clearly higher points to the norms (arXiv 2105.07576).

    Args:
        model: after its last epoch.
        running: the accuracy of that epoch.
        count: its pictures; of few, luck alone may have most right.
        measured: the accuracy on the training pictures afterwards, in eval mode.
    """
    surely = wilson_interval(round(running * count), count)[0]
    if surely - measured <= MAX_FALL or not any(map(has_running, model.modules())):
        return None
    return tr(
        "{running:.1%} of the last epoch's pictures were right while it trained, {measured:.1%} of "
        "the training pictures are now: the running statistics of the batch norms do not fit "
        "these weights; try --train.precise-bn true, or a learning rate that falls",
        running=running,
        measured=measured,
    )


class _ReluWatch(TorchFunctionMode):
    """Notes for each call of ReLU in the block which of its units were ever above 0."""

    def __init__(self) -> None:
        super().__init__()
        self.fired: list[Tensor] = []  # bool (units,), one for each call

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        if func in RELUS:
            # A unit is a channel of (B, C, H, W), or the last axis of (B, F) and (B, T, F).
            axis = 1 if output.ndim == 4 else output.ndim - 1
            self.fired.append((output > 0).movedim(axis, -1).flatten(0, -2).any(0).cpu())
        return output


def _length(tensors: list[Tensor]) -> float:
    """Return the Euclidean length of all tensors as one vector."""
    if not tensors:
        return 0.0
    return float(torch.stack([t.float().square().sum() for t in tensors]).sum().sqrt())
