"""Can the network learn one small batch by heart? If not, it will not learn a whole set either.

A. Karpathy, A Recipe for Training Neural Networks (2019): "overfit a single batch".
"""

import copy
import math
from dataclasses import dataclass, replace

from torch import nn
from torch.nn.modules.dropout import _DropoutNd

from nunbit.config import OptimConfig
from nunbit.data.loader import TrainLoader
from nunbit.errors import DivergedStepError
from nunbit.language import tr
from nunbit.runtime import Runtime, limited_threads
from nunbit.training.optim import build_optimizer
from nunbit.training.state import TrainState
from nunbit.training.step import Plan, train_step

PICTURES = 16
MAX_UPDATES = 600  # networks of 4,000 parameters need 450
ADAM = OptimConfig(name="adam", lr=1e-3)  # Adam's own default (arXiv 1412.6980), for any network
LEARNED = 0.1  # of ln K: each picture's own class is all but certain


@dataclass(frozen=True)
class ByHeart:
    """How far a network got with one batch."""

    learned: bool
    pictures: int
    updates: int
    first_loss: float
    """Mean cross entropy in nats before the first update."""
    last_loss: float

    def line(self) -> str:
        """Say in one line what was found."""
        what = tr("one batch of {pictures} pictures", pictures=self.pictures)
        losses = tr(
            "(loss {first_loss:.2f} to {last_loss:.2f})",
            first_loss=self.first_loss,
            last_loss=self.last_loss,
        )
        if self.learned:
            return tr(
                "{what} can be learned by heart: {updates} updates {losses}",
                what=what,
                updates=self.updates,
                losses=losses,
            )
        return tr(
            "{what} cannot be learned by heart in {updates} updates {losses}: look for "
            "equal pictures with different labels, frozen or disconnected layers, or bad "
            "initial weights",
            what=what,
            updates=self.updates,
            losses=losses,
        )


def learn_by_heart(model: nn.Module, loader: TrainLoader, runtime: Runtime) -> ByHeart:
    """Train a copy of a network on the same few pictures until it knows them.

    With Adam at its default rate, without penalties, label smoothing, blends of pictures and
    dropout: this is about the network and its pictures, not about the settings.

    Args:
        model: a network before its training, on the runtime's device; unchanged.
        loader: gives the pictures, the first ones of the first epoch.
        runtime: where and how to compute.

    Raises:
        DivergedStepError: the very first loss is not finite.
    """
    train = replace(loader.config.train, label_smoothing=0.0, ema=0.0)
    plan = Plan(replace(loader.config, optim=ADAM, train=train), runtime, MAX_UPDATES)
    x, y = (part[:PICTURES] for part in next(loader.unmixed().batches(0)))
    copied = copy.deepcopy(model).train()
    for module in copied.modules():
        if isinstance(module, _DropoutNd):
            module.eval()
    state = TrainState(copied, build_optimizer(copied, ADAM))
    wanted = LEARNED * math.log(len(loader.pictures.labels.unique()))
    losses: list[float] = []
    with limited_threads(runtime.threads):
        while len(losses) <= MAX_UPDATES and (not losses or losses[-1] > wanted):
            try:
                train_step(state, x, y, plan)
            except DivergedStepError:
                if not losses:
                    raise
                break
            losses.append(float(state.sums[0] / state.sums[2]))
            state.sums.zero_()
    return ByHeart(
        learned=losses[-1] <= wanted,
        pictures=len(y),
        updates=len(losses) - 1,
        first_loss=losses[0],
        last_loss=losses[-1],
    )
