"""Everything that changes while training."""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Best:
    """The weights that did best on validation so far."""

    epoch: int
    accuracy: float
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
    """Loss, correct and pictures, summed over the unfinished epoch; on the device."""
    seconds_in_epoch: float = 0.0
    """Wall time of the unfinished epoch's updates."""
    best: Best | None = None
    epochs_since_best: int = 0


def start_epoch(state: TrainState) -> None:
    """Count an epoch as finished and begin the next one's sums."""
    state.epoch += 1
    state.step_in_epoch = 0
    state.seconds_in_epoch = 0.0
    state.sums.zero_()


def copy_weights(model: nn.Module) -> dict[str, Tensor]:
    """Return a copy of a network's parameters and buffers that later updates do not touch."""
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
