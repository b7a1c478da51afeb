"""What `yolo classify train` does by default, rewritten in plain PyTorch; not its code.

https://docs.ultralytics.com/tasks/classify/ and https://docs.ultralytics.com/usage/cfg/ (release
8.4): 100 epochs, batch 16 accumulated to 64, `optimizer=auto` (AdamW at 0.002 * 5 / (4 + classes),
beta1 0.9, for fewer than 10,000 updates), weight decay 5e-4 on weights only, a warm-up of three
epochs from 0, then a straight line to a hundredth, gradients clipped at 10, an average of the
weights (0.9999, growing over 2,000 updates) that is what is validated and kept at its best epoch;
crops of half to all of the picture, flip, RandAugment, random erasing 0.4. Mixed precision is off
on CPUs there.
Pictures are normalised as these weights want it, which is kinder than its own 0 and 1.
"""

import copy
import math

import torch
import torchvision
from photos import (
    MEAN,
    STD,
    WORKERS,
    Order,
    Photos,
    accuracy,
    answer,
    held_out,
    network,
    read_order,
)
from torch import nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader
from torchvision import transforms

EPOCHS = 100
BATCH, NOMINAL_BATCH = 16, 64
WEIGHT_DECAY, LAST_FRACTION, MAX_NORM = 5e-4, 0.01, 10.0
WARMUP_EPOCHS, LEAST_WARMUP = 3, 100  # the second in batches
MOMENTA = 0.8, 0.9  # beta1 at the start and at the end of the warm-up
EMA_DECAY, EMA_TAU = 0.9999, 2000


def main() -> None:
    """Fine-tune once and print the result."""
    order = read_order(EPOCHS)
    to_input = [transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
    for_training = transforms.Compose(
        [
            transforms.RandomResizedCrop(order.size, scale=(0.5, 1.0)),
            transforms.RandomHorizontalFlip(),
            transforms.RandAugment(interpolation=transforms.InterpolationMode.BILINEAR),
            *to_input,
            transforms.RandomErasing(p=0.4, inplace=True),
        ]
    )
    for_testing = transforms.Compose(
        [transforms.Resize(order.size), transforms.CenterCrop(order.size), *to_input]
    )
    data = Photos(order.rows["train"], for_training)
    batches = DataLoader(data, BATCH, shuffle=True, num_workers=WORKERS)
    best = train(network(order), batches, held_out(order, "val", for_testing), order)
    seconds = order.elapsed()
    test = accuracy(best, held_out(order, "test", for_testing))
    version = f"torchvision {torchvision.__version__}"
    answer("like yolo classify", version, order, seconds=seconds, test=test)


def optimizer_of(model: nn.Module, classes: int) -> torch.optim.Optimizer:
    """Return AdamW in which biases and norms do not decay."""
    decays, stays = [], []
    for parameter in model.parameters():
        (decays if parameter.ndim > 1 else stays).append(parameter)
    groups = [
        {"params": decays, "weight_decay": WEIGHT_DECAY},
        {"params": stays, "weight_decay": 0.0},
    ]
    rate = round(0.002 * 5 / (4 + classes), 6)
    return torch.optim.AdamW(groups, lr=rate, betas=(MOMENTA[1], 0.999))


def averaged(model: nn.Module) -> AveragedModel:
    """Return the average that follows the weights and the running statistics."""

    def mix(mean: torch.Tensor, new: torch.Tensor, updates: torch.Tensor) -> torch.Tensor:
        decay = EMA_DECAY * (1 - math.exp(-int(updates) / EMA_TAU))
        return decay * mean + (1 - decay) * new if mean.is_floating_point() else new

    return AveragedModel(model, avg_fn=mix, use_buffers=True)


def train(model: nn.Module, batches: DataLoader, val: DataLoader, order: Order) -> nn.Module:
    """Run all epochs and return the average of the best one on validation."""
    optimizer, ema = optimizer_of(model, len(order.class_names)), averaged(model)
    rate = optimizer.param_groups[0]["lr"]
    warmup = max(WARMUP_EPOCHS * len(batches), LEAST_WARMUP)
    best_accuracy, best = -1.0, ema.module
    seen, last_update = 0, -1
    for epoch in range(order.epochs):
        model.train()
        fraction = max(1 - epoch / order.epochs, 0) * (1 - LAST_FRACTION) + LAST_FRACTION
        for x, labels in batches:
            grown = min(1.0, seen / warmup)
            accumulate = max(1, round(1 + grown * (NOMINAL_BATCH / BATCH - 1)))
            for group in optimizer.param_groups:
                group["lr"] = grown * rate * fraction
                beta1 = MOMENTA[0] + grown * (MOMENTA[1] - MOMENTA[0])
                group["betas"] = (beta1, 0.999)
            nn.functional.cross_entropy(model(x), labels).backward()
            if seen - last_update >= accumulate:
                nn.utils.clip_grad_norm_(model.parameters(), MAX_NORM)
                optimizer.step()
                optimizer.zero_grad()
                ema.update_parameters(model)
                last_update = seen
            seen += 1
        found = accuracy(ema.module, val)
        order.note(found)
        if found > best_accuracy:
            best_accuracy, best = found, copy.deepcopy(ema.module)
    return best


if __name__ == "__main__":
    main()
