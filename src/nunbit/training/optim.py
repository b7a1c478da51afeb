"""The optimizer of a run."""

from typing import Any

import torch
from torch import nn

from nunbit.config import OptimConfig
from nunbit.errors import UsageError
from nunbit.models.freeze import require_trainable
from nunbit.training.muon import Muon


def load_optimizers() -> None:
    """Let torch import what its first optimizer in a process imports: its compiler, for a second.

    That second belongs to the start of the process, as all imports do, and not to a training.
    """
    torch.optim.SGD([torch.zeros(1)])


def build_optimizer(model: nn.Module, config: OptimConfig) -> torch.optim.Optimizer:
    """Return the optimizer of a finished network's trainable parameters.

    Build it last: an optimizer holds tensors, so one that is made before the head is replaced, or
    of another network, trains what nobody uses. Biases and norms (one axis) do not decay: shrinking
    them limits nothing that weight decay is meant to limit (arXiv 1812.01187, 3.1). Each group has
    `lr_scale`, a factor of the learning rate: early blocks of a pretrained network are general and
    move less (discriminative fine-tuning, arXiv 1801.06146, 3.2).

    Raises:
        UsageError: every parameter is frozen, or muon finds nothing of its own to update.
    """
    require_trainable(model)
    if config.name == "muon":
        return _build_muon(model, config)
    trainable = [p for p in model.parameters() if p.requires_grad]
    blocks = _blocks(model) if config.layer_decay < 1 else [trainable]
    groups: list[dict[str, Any]] = []
    for height, block in enumerate(reversed(blocks)):
        scale = config.layer_decay**height
        for decays, decay in ((True, config.weight_decay), (False, 0.0)):
            chosen = [p for p in block if (p.ndim > 1) is decays]
            if chosen:
                groups.append({"params": chosen, "weight_decay": decay, "lr_scale": scale})
    fused = all(p.device.type in ("cpu", "cuda") for p in trainable)
    if config.name == "sgd":
        nesterov = config.momentum > 0
        return torch.optim.SGD(
            groups, lr=config.lr, momentum=config.momentum, nesterov=nesterov, fused=fused
        )
    kind = torch.optim.Adam if config.name == "adam" else torch.optim.AdamW
    return kind(groups, lr=config.lr, fused=fused)


# Rates of the weights that are no convolutions' over `optim.lr`: found here, and little depends on
# them (docs/log.md). The momentum is that of airbench (K. Jordan, 2024), whose rates belong to a
# loss that is the sum over 2,000 pictures, and to logits divided by the number of features.
HEAD_SCALE, BIAS_SCALE, REST_MOMENTUM = 0.1, 5.0, 0.85


def _build_muon(model: nn.Module, config: OptimConfig) -> Muon:
    """Return Muon for convolutions without bias, SGD for linear layers and for biases and norms.

    Raises:
        UsageError: no convolution without bias is trained, so that it would be SGD by another name.
    """
    parts: dict[str, list[nn.Parameter]] = {"conv": [], "head": [], "bias": []}
    for module in model.modules():
        is_free = isinstance(module, nn.Conv2d) and module.bias is None  # a norm follows
        for parameter in module.parameters(recurse=False):
            if parameter.requires_grad:
                kind = "bias" if parameter.ndim <= 1 else "conv" if is_free else "head"
                parts[kind].append(parameter)
    if not parts["conv"]:
        raise UsageError(
            "optim.name is muon, which updates convolutions without bias; this network trains "
            "none: set optim.name to sgd or adamw"
        )
    rest = {"momentum": REST_MOMENTUM}
    decay = config.weight_decay  # not of convolutions, whose length is held
    groups: list[dict[str, Any]] = [
        {"params": parts["conv"], "orthogonal": True, "lr_scale": 1.0},
        {"params": parts["head"], **rest, "weight_decay": decay, "lr_scale": HEAD_SCALE},
        {"params": parts["bias"], **rest, "lr_scale": BIAS_SCALE},
    ]
    return Muon([group for group in groups if group["params"]], config.lr, config.momentum)


def _blocks(model: nn.Module) -> list[list[nn.Parameter]]:
    """Return the trainable parameters by block, in the order of registration.

    A block is a child of the network, or a member of a list of modules: `stem`, `stages.0`,
    `stages.1`, `head`. Pretrained networks register them from input to output.
    """
    lists = _lists(model)
    blocks: dict[str, list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            within = next((f"{at}." for at in lists if name.startswith(f"{at}.")), "")
            member = name.removeprefix(within).partition(".")[0]
            blocks.setdefault(within + member, []).append(parameter)
    return list(blocks.values())


def _lists(model: nn.Module) -> list[str]:
    """Return the names of the lists of modules among the children, and in a child that is most.

    torchvision's transformers keep all their layers in a list inside of `encoder`.
    """
    found, most = [], sum(p.numel() for p in model.parameters()) / 2
    for name, child in model.named_children():
        if isinstance(child, nn.Sequential | nn.ModuleList):
            found.append(name)
        elif sum(p.numel() for p in child.parameters()) > most:
            inner = child.named_children()
            found += [
                f"{name}.{n}" for n, c in inner if isinstance(c, nn.Sequential | nn.ModuleList)
            ]
    return found
