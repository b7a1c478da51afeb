"""(g) The log stands behind the loop.

    python examples/mistakes/g_logging.py [--seeds 3]

It runs once, with whatever the last batch left in its variables. The curve is gone, and with it
the chance to stop a training that has failed in its first minute.
"""

import math
from collections.abc import Iterable, Sequence
from statistics import fmean

from plain import LR, Data, Row, main, network, sgd, train

Losses = Iterable[Sequence[float]]  # of the batches, epoch after epoch
TOO_HIGH = 10 * LR  # a learning rate at which nothing is learned


def wrong(epochs: Losses) -> list[float]:
    """Return what is logged behind the loop: the last batch's loss."""
    log = []
    for losses in epochs:
        loss = losses[-1]
    log.append(loss)
    return log


def right(epochs: Losses) -> list[float]:
    """Return what is logged inside the loop: the mean of each epoch."""
    log = []
    for losses in epochs:
        log.append(fmean(losses))
    return log


def measure(data: Data, seeds: int, epochs: int) -> list[Row]:
    """Log good and failed trainings in both ways."""
    good = [train(network(data, seed), data, epochs) for seed in range(seeds)]
    failed = []
    for seed in range(seeds):
        model = network(data, seed)
        failed.append(train(model, data, epochs, optimizer=sgd(model, TOO_HIGH)))
    chance = math.log(int(data.y_train.max()) + 1)
    logs = (wrong, right)
    return [
        Row(
            "rate ten times too high: epochs until it is seen, at most",
            epochs,
            max(first_bad(right(losses), chance) for losses in failed),
        ),
        Row(f"records of {epochs} epochs", *(len(log(good[0])) for log in logs)),
        Row("the last loss, over the seeds", *(span([log(e)[-1] for e in good]) for log in logs)),
    ]


def span(values: Sequence[float]) -> str:
    """Return the least and the largest value."""
    return f"{min(values):.4f} to {max(values):.4f}"


def first_bad(log: Sequence[float], chance: float) -> int:
    """Return the first epoch, from 1, whose loss is no better than that of guessing."""
    return next((epoch for epoch, loss in enumerate(log, 1) if loss >= chance), len(log))


if __name__ == "__main__":
    main(__doc__, measure)
