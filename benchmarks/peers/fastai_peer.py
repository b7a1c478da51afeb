"""fastai, as its documentation writes it.

A Learner with DataLoaders: https://docs.fast.ai/learner.html, https://docs.fast.ai/data.core.html
(`DataLoaders.from_dsets`), variant "own". PyTorch loaders in the same Learner:
https://docs.fast.ai/examples/migrating_pytorch.html, with a PyTorch optimizer through
`OptimWrapper`: https://docs.fast.ai/optimizer.html, variant "torch". (Release 2.8.)

`fit` at the recipe's rate instead of `fit_one_cycle`, and no weight decay, so that every peer does
the same updates; validation is skipped with fastai's own exception, since nothing else here has
any. `to_bf16` is no variant: in this release it switches autocast on for CUDA only, whatever the
device (fastai/callback/fp16.py).
"""

from functools import partial

import fastai
import fastai.callback.progress  # gives a Learner no_bar
import torch
import torch.nn.functional as F
from fastai.basics import SGD, Adam, Callback, CancelValidException, DataLoaders, Learner
from fastai.optimizer import OptimWrapper
from task import EpochClock, Task, answer, read_order, timed
from torch.utils.data import DataLoader
from torch_task import OPTIMIZERS, accuracy, network, tensors

VARIANTS = ("own", "torch")
# PyTorch's own constants, where fastai's Adam has others.
OWN = {"sgd": SGD, "adam": partial(Adam, mom=0.9, sqr_mom=0.999, eps=1e-8, wd=0.0)}


class Clock(Callback):
    """Passes the ends of epochs on, and skips validation."""

    def __init__(self, clock: EpochClock) -> None:
        self.clock = clock

    def before_validate(self) -> None:
        """Skip it."""
        raise CancelValidException

    def after_epoch(self) -> None:
        """Note one."""
        self.clock.epoch_ended()


def loaders(task: Task, variant: str) -> DataLoaders:
    """Return the training pictures in batches, and the test pictures as the Learner asks for."""
    parts = tensors(task, "train"), tensors(task, "test")
    if variant == "own":
        return DataLoaders.from_dsets(
            *parts, bs=task.batch_size, device=torch.device("cpu"), num_workers=0
        )
    train, test = (DataLoader(p, task.batch_size, shuffle=p is parts[0]) for p in parts)
    return DataLoaders(train, test)


def main() -> None:
    """Train once and print the result."""
    order = read_order(VARIANTS)
    torch.manual_seed(order.seed)
    task, clock = order.task, EpochClock()
    model = network(task)
    own = OWN[task.optimizer]
    learn = Learner(
        loaders(task, order.variant),
        model,
        loss_func=F.cross_entropy,
        opt_func=own
        if order.variant == "own"
        else partial(OptimWrapper, opt=OPTIMIZERS[task.optimizer]),
        lr=task.lr,
        wd=0.0,
        cbs=Clock(clock),
    )
    with learn.no_bar(), learn.no_logging():
        seconds = timed(lambda: learn.fit(order.epochs), clock)
    versions = f"fastai {fastai.__version__}, torch {torch.__version__}"
    found = accuracy(model, task)
    answer("fastai", versions, order, seconds=seconds, clock=clock, accuracy=found)


if __name__ == "__main__":
    main()
