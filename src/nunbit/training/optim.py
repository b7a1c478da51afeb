"""The optimizer of a run."""

import torch
from torch import nn

from nunbit.config import OptimConfig


def build_optimizer(model: nn.Module, config: OptimConfig) -> torch.optim.Optimizer:
    """Return the optimizer of a finished network's trainable parameters.

    Build it last: an optimizer holds tensors, so one that is made before the head is replaced, or
    of another network, trains what nobody uses. Biases and norms (one axis) do not decay: shrinking
    them limits nothing that weight decay is meant to limit (arXiv 1812.01187, 3.1).
    """
    trainable = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trainable if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in trainable if p.ndim <= 1], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    fused = all(p.device.type in ("cpu", "cuda") for p in trainable)
    if config.name == "sgd":
        nesterov = config.momentum > 0
        return torch.optim.SGD(
            groups, lr=config.lr, momentum=config.momentum, nesterov=nesterov, fused=fused
        )
    kind = torch.optim.Adam if config.name == "adam" else torch.optim.AdamW
    return kind(groups, lr=config.lr, fused=fused)
