"""skorch, as its documentation writes it.

`NeuralNetClassifier`: https://skorch.readthedocs.io/en/stable/user/quickstart.html
Faster: https://skorch.readthedocs.io/en/stable/user/performance.html (source read: 1.4), which
names `verbose=0`, leaving out callbacks that compute something, and a TensorDataset made
beforehand; all three are done here. bf16 through `AccelerateMixin`:
https://skorch.readthedocs.io/en/stable/user/huggingface.html. `compile=True` is an argument of the
net. Its own validation split is off, since nothing else here has one.
"""

import numpy as np
import skorch
import torch
from accelerate import Accelerator
from skorch import NeuralNetClassifier
from skorch.callbacks import Callback
from skorch.hf import AccelerateMixin
from skorch.utils import noop
from task import EpochClock, answer, read_order, timed
from torch import nn
from torch_task import OPTIMIZERS, accuracy, network, tensors

VARIANTS = ("fp32", "bf16", "compile")


class AcceleratedClassifier(AccelerateMixin, NeuralNetClassifier):
    """The classifier with accelerate's mixed precision."""


class Clock(Callback):
    """Passes the ends of epochs on."""

    def __init__(self, clock: EpochClock) -> None:
        self.clock = clock

    def on_epoch_end(self, net: object, **kwargs: object) -> None:
        """Note one."""
        self.clock.epoch_ended()


def main() -> None:
    """Train once and print the result."""
    order = read_order(VARIANTS)
    torch.manual_seed(order.seed)
    task, clock = order.task, EpochClock()
    kind, more = NeuralNetClassifier, {"callbacks__print_log": None}
    if order.variant == "bf16":
        kind, more = AcceleratedClassifier, {"callbacks__print_log__sink": noop}
        more["accelerator"] = Accelerator(mixed_precision="bf16", cpu=True)
    model = network(task)
    net = kind(
        model,
        criterion=nn.CrossEntropyLoss,
        optimizer=OPTIMIZERS[task.optimizer],
        lr=task.lr,
        batch_size=task.batch_size,
        max_epochs=order.epochs,
        iterator_train__shuffle=True,
        train_split=None,
        classes=np.arange(task.num_classes),
        callbacks=[("clock", Clock(clock))],
        callbacks__train_loss=None,
        callbacks__valid_loss=None,
        callbacks__valid_acc=None,
        verbose=0,
        compile=order.variant == "compile",
        **more,
    )
    data = tensors(task, "train")
    seconds = timed(lambda: net.fit(data, None), clock)
    trained = getattr(net.module_, "_orig_mod", net.module_)
    versions = f"skorch {skorch.__version__}, torch {torch.__version__}"
    found = accuracy(trained, task)
    answer("skorch", versions, order, seconds=seconds, clock=clock, accuracy=found)


if __name__ == "__main__":
    main()
