"""What the peers that use PyTorch share: tensors, the network itself, and the measuring.

The network is nunbit's own module: the driver puts nunbit's sources on PYTHONPATH, and building a
network of nunbit's needs nothing but torch. So it is the same network, to the line.
"""

import torch
from task import Task
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from nunbit.models.registry import build_model

OPTIMIZERS: dict[str, type[torch.optim.Optimizer]] = {
    "sgd": torch.optim.SGD,
    "adam": torch.optim.Adam,
}

# The first optimizer of a process imports torch's compiler, which takes seconds; imports are not
# timed, and some peers make theirs inside `fit`.
torch.optim.SGD([torch.zeros(1)], lr=0.0)


def network(task: Task) -> nn.Module:
    """Return the untrained network."""
    _, height, width, channels = task.train_images.shape
    model = build_model(
        task.model,
        num_classes=task.num_classes,
        in_channels=channels,
        image_size=(height, width),
        args=task.model_args,
    )
    assert sum(p.numel() for p in model.parameters()) == task.parameters
    return model


def tensors(task: Task, part: str) -> TensorDataset:
    """Return a split as float pictures (N, C, H, W), contiguous as peers expect, and labels (N,).

    Args:
        task: the pictures.
        part: train or test.
    """
    x = torch.from_numpy(task.scaled(getattr(task, f"{part}_images")))
    labels = torch.from_numpy(getattr(task, f"{part}_labels"))
    return TensorDataset(x.permute(0, 3, 1, 2).contiguous(), labels)


@torch.inference_mode()
def accuracy(model: nn.Module, task: Task) -> float:
    """Return the share of right answers on the test pictures, in fp32 and eval mode."""
    x, labels = tensors(task, "test").tensors
    model.eval()
    logits: list[Tensor] = [model(batch) for batch in x.split(256)]
    return float((torch.cat(logits).argmax(1) == labels).float().mean())
