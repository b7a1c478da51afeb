"""One update: the only place that calls backward."""

import math
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from nunbit.config import RunConfig
from nunbit.data.loader import TrainLoader
from nunbit.errors import DivergedError, DivergedStepError
from nunbit.runtime import Runtime, seeded
from nunbit.training.ema import update_average
from nunbit.training.loss import balanced_weights, penalty
from nunbit.training.schedule import lr_at
from nunbit.training.state import TrainState

LOOK_EVERY = 50  # updates


@dataclass(frozen=True)
class Plan:
    """What stays the same during a training."""

    config: RunConfig
    runtime: Runtime
    total_steps: int
    class_weight: Tensor | None = None
    """float32 (K,), on the device; None counts each picture the same."""

    @classmethod
    def of(cls, loader: TrainLoader, runtime: Runtime, total_steps: int) -> "Plan":
        """Return the plan of a training on a loader's pictures, by its settings."""
        weight = None
        if loader.config.train.class_weight == "balanced":
            weight = balanced_weights(loader.pictures.labels).to(runtime.device)
        return cls(loader.config, runtime, total_steps, weight)


def train_step(state: TrainState, x: Tensor, y: Tensor, plan: Plan) -> None:
    """Update the model once.

    Args:
        state: changed: weights, their average, optimizer, step and sums.
        x: pictures (B, C, H, W), float.
        y: labels (B,), int64, or shares of the classes (B, K), float32.
        plan: settings and length of the run.

    Raises:
        DivergedStepError: the loss is not finite; the weights are as they were.
    """
    train, optim = plan.config.train, plan.config.optim
    lr = lr_at(state.step, plan.total_steps, optim)
    for group in state.optimizer.param_groups:
        group["lr"] = lr * group.get("lr_scale", 1.0)
    # Dropout draws from torch's generator: seeding it by step makes it a function of the step.
    with seeded(train.seed, "step", state.step), plan.runtime.autocast():
        logits_BK = state.model(x)
    logits_BK = logits_BK.float()
    if plan.class_weight is None:
        loss = F.cross_entropy(logits_BK, y, label_smoothing=train.label_smoothing)
    else:
        # Not torch's `weight`: it spreads the smoothed share by weight, so that rare classes get
        # nearly all of it, and divides by the weights of each batch, which takes them back.
        loss_B = F.cross_entropy(
            logits_BK, y, label_smoothing=train.label_smoothing, reduction="none"
        )
        weight_B = plan.class_weight[y] if y.ndim == 1 else y @ plan.class_weight
        loss = (weight_B * loss_B).mean()
    total = loss + penalty(state.model, optim) if optim.l1 or optim.l2 else loss
    stop_if_not_finite(total, state.step, lr, optim.lr)
    state.optimizer.zero_grad()
    total.backward()
    state.optimizer.step()
    if train.ema:
        update_average(state, train.ema)

    logits_BK = logits_BK.detach()
    if train.label_smoothing or plan.class_weight is not None:  # comparable with validation
        loss = F.cross_entropy(logits_BK, y)
    state.sums[0] += loss.detach() * len(y)
    state.sums[1] += (logits_BK.argmax(1) == (y if y.ndim == 1 else y.argmax(1))).sum()
    state.sums[2] += len(y)
    state.step += 1
    state.step_in_epoch += 1


def require_finite_epoch(loss_sum: float, step: int, peak: float) -> None:
    """Refuse an epoch whose losses went wrong between two that were looked at, on a GPU.

    Raises:
        DivergedError: the sum of its losses is not finite.
    """
    if not math.isfinite(loss_sum):
        raise DivergedError(
            "the loss became {loss} before step {step}; the weights are unusable. Try a tenth: "
            "--optim.lr {peak:g}",
            loss=loss_sum,
            step=step,
            peak=peak / 10,
        )


def stop_if_not_finite(loss: Tensor, step: int, lr: float, peak: float) -> None:
    """Stop before an update that would make every weight NaN.

    On a GPU, where looking at a number waits for it, only every 50th update is looked at; weights
    that went wrong in between are still refused by validation and by every checkpoint.

    Args:
        loss: what is minimised, a scalar.
        step: number of the update, from 0.
        lr: its learning rate.
        peak: `optim.lr`, for the advice.

    Raises:
        DivergedStepError: the loss is infinite or not a number.
    """
    if loss.device.type != "cpu" and step % LOOK_EVERY:
        return
    if not loss.isfinite():
        raise DivergedStepError(
            "the loss became {loss} at step {step} (learning rate {lr:g}); nothing was "
            "updated with it. Try a tenth: --optim.lr {peak:g}",
            loss=loss.item(),
            step=step,
            lr=lr,
            peak=peak / 10,
        )
