"""The learning rate as a pure function of the step: nothing to save, nothing to restore."""

import math

from nunbit.config import OptimConfig

ONECYCLE_START = 1 / 25  # of the peak, as fastai and torch start (arXiv 1708.07120)
ONECYCLE_END = 1e-4  # of the peak


def lr_at(step: int, total_steps: int, config: OptimConfig) -> float:
    """Return the learning rate of an update.

    Args:
        step: number of the update, from 0.
        total_steps: updates in the whole run; the schedule ends with the last of them.
        config: peak, schedule and warm-up.
    """
    if config.schedule == "constant":
        return config.lr
    done = step / max(1, total_steps - 1)
    if config.schedule == "cosine":
        return config.lr * _cosine(1.0, 0.0, done)
    rise = config.warmup_fraction
    if config.schedule == "linear":  # (step + 1) / (total + 1): no update has a rate of zero
        done = (step + 1) / (total_steps + 1)
        return config.lr * (done / rise if done < rise else (1 - done) / (1 - rise))
    if done < rise:
        return config.lr * _cosine(ONECYCLE_START, 1.0, done / rise)
    return config.lr * _cosine(1.0, ONECYCLE_END, (done - rise) / (1 - rise))


def _cosine(start: float, end: float, done: float) -> float:
    """Go from `start` to `end` along half a cosine as `done` goes from 0 to 1."""
    return end + (start - end) * (1 + math.cos(math.pi * done)) / 2
