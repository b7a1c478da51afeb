"""Everything that changes while training."""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from nunbit.errors import UsageError


@dataclass(frozen=True)
class Best:
    """The weights that did best on validation so far."""

    epoch: int
    """Counts from 1; 0 is before the first."""
    accuracy: float
    """By which it was chosen: the mean over classes where these count the same."""
    loss: float
    weights: dict[str, Tensor]


@dataclass
class TrainState:
    """A training between two updates."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    epoch: int = 0
    """Finished epochs."""
    step: int = 0
    """Updates done in the whole run."""
    step_in_epoch: int = 0
    """Updates done in the unfinished epoch."""
    sums: Tensor = field(default_factory=lambda: torch.zeros(3, dtype=torch.float64))
    """Loss, correct and pictures, summed over the unfinished epoch; on the network's device."""
    seconds_in_epoch: float = 0.0
    """Wall time of the unfinished epoch's updates."""
    average: dict[str, Tensor] | None = None
    """Of weights and buffers over the last updates, by name; None before the first one, and without
    `train.ema`."""
    best: Best | None = None
    epochs_since_best: int = 0

    def __post_init__(self) -> None:
        """Bring the sums to the network's device, and refuse a foreign optimizer.

        It may have been made for another network, or before this one was changed.

        Raises:
            UsageError: it would update tensors that nobody uses, and the network would not learn.
        """
        self.sums = self.sums.to(next(self.model.parameters()).device)
        own = {id(parameter) for parameter in self.model.parameters()}
        held = [id(p) for group in self.optimizer.param_groups for p in group["params"]]
        foreign = sum(i not in own for i in held)
        if foreign:
            raise UsageError(
                "{foreign} of {count} tensors of the optimizer are not of the network; build "
                "the optimizer last, from this network's parameters",
                foreign=foreign,
                count=len(held),
            )


def start_epoch(state: TrainState) -> None:
    """Count an epoch as finished and begin the next one's sums."""
    state.epoch += 1
    state.step_in_epoch = 0
    state.seconds_in_epoch = 0.0
    state.sums.zero_()


def copy_weights(model: nn.Module) -> dict[str, Tensor]:
    """Return a copy of a network's parameters and buffers that later updates do not touch."""
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
