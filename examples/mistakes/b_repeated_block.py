"""(b) One block, n times.

    python examples/mistakes/b_repeated_block.py [--seeds 3]

Multiplying a list copies the reference to the block. All layers share its weights, and its batch
norm keeps one running mean for ten places that each have another one: in eval mode the network is
not the one that was trained.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from plain import Data, Row, accuracy, error_of, main, sgd, train
from safetensors.torch import save_file
from torch import Tensor, nn

DEPTH, WIDTH = 10, 8  # blocks, channels
LR = 0.01  # a fifth of the plain network's, as deep networks need


class Block(nn.Module):
    """Convolution, batch norm and ReLU with a skip around them."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(WIDTH, WIDTH, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(WIDTH)
        nn.init.constant_(self.norm.weight, 0.5)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, C, H, W) of x of the same shape."""
        return x + torch.relu(self.norm(self.conv(x)))


def wrong() -> list[Block]:
    """Return one block ten times."""
    return DEPTH * [Block()]


def right() -> list[Block]:
    """Return ten blocks."""
    return [Block() for _ in range(DEPTH)]


def deep(data: Data, seed: int, repeated: bool) -> nn.Sequential:
    """Return a residual network with the one or the other list in it."""
    torch.manual_seed(seed)
    channels, height, width = data.x_train.shape[1:]
    return nn.Sequential(
        nn.Conv2d(channels, WIDTH, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        *(wrong() if repeated else right()),
        nn.Flatten(), nn.Linear(WIDTH * (height // 2) * (width // 2), int(data.y_train.max()) + 1),
    )  # fmt: skip  # the blocks stand in the middle


def measure(data: Data, seeds: int, epochs: int) -> list[Row]:
    """Train both networks and measure them as trained and in eval mode."""
    in_eval, in_training, counts, errors = [], [], [], []
    for repeated in (True, False):
        models = [deep(data, seed, repeated) for seed in range(seeds)]
        for model in models:
            train(model, data, epochs, optimizer=sgd(model, LR))
        in_eval.append([accuracy(model, data.x_test, data.y_test) for model in models])
        in_training.append([as_trained(model, data) for model in models])
        counts.append(sum(p.numel() for block in set(models[0][3:-2]) for p in block.parameters()))
        errors.append(error_of(save, models[0]))
    return [
        Row("test accuracy", *in_eval),
        Row("the same without `eval()`, as the texts measure", *in_training),
        Row(f"parameters of {DEPTH} blocks", *counts),
        Row("saving with safetensors", *errors),
    ]


@torch.no_grad()
def as_trained(model: nn.Module, data: Data) -> float:
    """Return the test accuracy in training mode, as the texts measured it."""
    model.train()
    return float((model(data.x_test).argmax(1) == data.y_test).double().mean())


def save(model: nn.Module) -> None:
    """Write the weights to a file that is thrown away."""
    with TemporaryDirectory() as folder:
        save_file(model.state_dict(), Path(folder) / "weights.safetensors")


if __name__ == "__main__":
    main(__doc__, measure)
