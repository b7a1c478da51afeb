"""timm's training functions, put together as its own `train.py` does.

https://huggingface.co/docs/timm/training_script (source read: train.py of timm 1.0): its loader
with the prefetcher (uint8 batches that are normalised in one go), `create_optimizer_v2`, its meter,
and the body of `train_one_epoch`. The flags that the script offers for speed are the variants:
`--channels-last`, `--amp --amp-dtype bfloat16`, `--torchcompile`. Left out: augmentation, weight
decay, smoothing and the schedule, so that every peer does the same updates. The pictures are in
memory already, so worker processes would only copy them.
"""

from contextlib import nullcontext
from functools import partial

import numpy as np
import timm
import torch
from task import EpochClock, Pixels, Task, answer, read_order, timed
from timm.data import create_loader
from timm.optim import create_optimizer_v2
from timm.utils import AverageMeter
from torch import nn
from torch_task import accuracy, network

VARIANTS = ("fp32", "channels-last", "bf16", "compile")
OPTIMIZERS = {"sgd": "momentum", "adam": "adam"}  # timm's "sgd" is Nesterov's
LOG_INTERVAL = 50  # updates, as in train.py


class InMemory(torch.utils.data.Dataset):
    """Pictures as timm's transforms hand them to its loader: uint8 (C, H, W), and a label."""

    transform = None  # create_loader sets one; nothing is left to do

    def __init__(self, images: Pixels, labels: np.ndarray) -> None:
        self.images = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
        self.labels = labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Pixels, int]:
        return self.images[index], self.labels[index]


def loader_of(task: Task) -> "torch.utils.data.DataLoader":
    """Return timm's training loader over pictures in memory."""
    _, height, width, channels = task.train_images.shape
    return create_loader(
        InMemory(task.train_images, task.train_labels),
        input_size=(channels, height, width),
        batch_size=task.batch_size,
        is_training=True,
        no_aug=True,
        mean=tuple(task.mean),
        std=tuple(task.std),
        num_workers=0,
        persistent_workers=False,
        device=torch.device("cpu"),
    )


def main() -> None:
    """Train once and print the result."""
    order = read_order(VARIANTS)
    timm.utils.random_seed(order.seed)
    task, clock = order.task, EpochClock()
    module = network(task)
    is_nhwc = order.variant in ("channels-last", "bf16")
    if is_nhwc:
        module.to(memory_format=torch.channels_last)
    loader = loader_of(task)
    optimizer = create_optimizer_v2(
        module, opt=OPTIMIZERS[task.optimizer], lr=task.lr, weight_decay=0.0, momentum=0.0
    )
    model = torch.compile(module) if order.variant == "compile" else module
    loss_fn = nn.CrossEntropyLoss()
    amp = partial(torch.autocast, device_type="cpu", dtype=torch.bfloat16)
    amp_autocast = amp if order.variant == "bf16" else nullcontext

    def train_one_epoch() -> None:
        losses = AverageMeter()
        model.train()
        for step, (x, target) in enumerate(loader):
            if is_nhwc:
                x = x.contiguous(memory_format=torch.channels_last)
            with amp_autocast():
                loss = loss_fn(model(x), target)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            if step % LOG_INTERVAL == 0:
                losses.update(loss.item(), len(x))

    def train() -> None:
        for _ in range(order.epochs):
            train_one_epoch()
            clock.epoch_ended()

    seconds = timed(train, clock)
    versions = f"timm {timm.__version__}, torch {torch.__version__}"
    found = accuracy(module, task)
    answer("timm", versions, order, seconds=seconds, clock=clock, accuracy=found)


if __name__ == "__main__":
    main()
