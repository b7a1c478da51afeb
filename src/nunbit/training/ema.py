"""The average of weights over the last updates, which is steadier than the weights themselves.

B. Polyak and A. Juditsky, Acceleration of Stochastic Approximation by Averaging (1992); as an
exponential moving average, and measured in place of the weights, in arXiv 1512.00567, 8.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from nunbit.training.state import TrainState, copy_weights


@torch.no_grad()
def update_average(state: TrainState, decay: float) -> None:
    """Take the weights after an update, and the statistics of norms, into the average.

    Early in a training the average is shorter, (1 + step) / (10 + step), so that the first weights
    are soon forgotten (TensorFlow's ExponentialMovingAverage with `num_updates`).

    Args:
        state: changed: its average, which is begun if there is none.
        decay: share of the average that stays, in (0, 1).
    """
    if state.average is None:
        state.average = copy_weights(state.model)
    new = 1 - min(decay, (1 + state.step) / (10 + state.step))
    for name, tensor in state.model.state_dict().items():
        mean = state.average[name]
        if mean.is_floating_point():
            mean.lerp_(tensor, new)
        else:  # a count of batches
            mean.copy_(tensor)


@contextmanager
def averaged(state: TrainState) -> Iterator[None]:
    """Measure the average, if there is one: the network holds it inside, and its own weights after.

    What is measured anew inside, statistics of norms, stays with the average.
    """
    _exchange(state)
    try:
        yield
    finally:
        _exchange(state)


def _exchange(state: TrainState) -> None:
    if state.average is None:
        return
    own = copy_weights(state.model)  # all at once: a block that is used twice has two names
    state.model.load_state_dict(state.average)
    state.average = own
