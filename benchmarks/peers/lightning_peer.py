"""PyTorch Lightning, as its documentation writes it.

A LightningModule and a Trainer: https://lightning.ai/docs/pytorch/stable/starter/introduction.html
Faster: https://lightning.ai/docs/pytorch/stable/advanced/speed.html (source read: release 2.6),
which names mixed precision (`precision="bf16-mixed"`, which CPUs have) and `torch.compile` on the
module, and for small data sets `num_workers=0`. Logger, checkpoints and bars are off: they are no
part of training.
"""

import warnings

import lightning
import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import Callback
from task import EpochClock, answer, read_order, timed
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torch_task import OPTIMIZERS, accuracy, network, tensors

VARIANTS = ("fp32", "bf16", "compile")


class Classifier(lightning.LightningModule):
    """The network with its loss and its optimizer."""

    def __init__(self, model: nn.Module, optimizer: str, lr: float) -> None:
        super().__init__()
        self.model, self.optimizer, self.lr = model, optimizer, lr

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Return the loss of one batch."""
        x, labels = batch
        return F.cross_entropy(self.model(x), labels)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return the optimizer."""
        return OPTIMIZERS[self.optimizer](self.parameters(), lr=self.lr)


class Clock(Callback):
    """Passes the ends of epochs on."""

    def __init__(self, clock: EpochClock) -> None:
        self.clock = clock

    def on_train_epoch_end(self, trainer: object, pl_module: object) -> None:
        """Note one."""
        self.clock.epoch_ended()


def main() -> None:
    """Train once and print the result."""
    warnings.filterwarnings("ignore", ".*does not have many workers.*")
    order = read_order(VARIANTS)
    lightning.seed_everything(order.seed, verbose=False)
    task, clock = order.task, EpochClock()
    classifier = Classifier(network(task), task.optimizer, task.lr)
    module = torch.compile(classifier) if order.variant == "compile" else classifier
    loader = DataLoader(tensors(task, "train"), batch_size=task.batch_size, shuffle=True)
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_epochs=order.epochs,
        precision="bf16-mixed" if order.variant == "bf16" else "32-true",
        callbacks=[Clock(clock)],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    seconds = timed(lambda: trainer.fit(module, loader), clock)
    found = accuracy(classifier.model, task)
    versions = f"lightning {lightning.__version__}, torch {torch.__version__}"
    answer("lightning", versions, order, seconds=seconds, clock=clock, accuracy=found)


if __name__ == "__main__":
    main()
