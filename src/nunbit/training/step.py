"""One update: the only place that calls backward."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from nunbit.config import RunConfig
from nunbit.errors import DivergedError
from nunbit.runtime import Runtime, seeded
from nunbit.training.loss import penalty
from nunbit.training.schedule import lr_at
from nunbit.training.state import TrainState


@dataclass(frozen=True)
class Plan:
    """What stays the same during a training."""

    config: RunConfig
    runtime: Runtime
    total_steps: int


def train_step(state: TrainState, x: Tensor, y: Tensor, plan: Plan) -> None:
    """Update the model once.

    Args:
        state: changed: weights, optimizer, step and sums.
        x: pictures (B, C, H, W), float.
        y: labels (B,), int64.
        plan: settings and length of the run.

    Raises:
        DivergedError: the loss is not finite; the weights are as they were.
    """
    train, optim = plan.config.train, plan.config.optim
    lr = lr_at(state.step, plan.total_steps, optim)
    for group in state.optimizer.param_groups:
        group["lr"] = lr
    # Dropout draws from torch's generator: seeding it by step makes it a function of the step.
    with seeded(train.seed, "step", state.step), plan.runtime.autocast():
        logits_BK = state.model(x)
    logits_BK = logits_BK.float()
    loss = F.cross_entropy(logits_BK, y, label_smoothing=train.label_smoothing)
    total = loss + penalty(state.model, optim) if optim.l1 or optim.l2 else loss
    stop_if_not_finite(total, state.step, lr)
    state.optimizer.zero_grad()
    total.backward()
    state.optimizer.step()

    correct = (logits_BK.detach().argmax(1) == y).sum()
    state.sums += torch.stack([loss.detach() * len(y), correct, correct.new_tensor(len(y))])
    state.step += 1
    state.step_in_epoch += 1


def stop_if_not_finite(loss: Tensor, step: int, lr: float) -> None:
    """Stop before an update that would make every weight NaN.

    On a GPU the check is left to the device, so that no step waits for it.

    Raises:
        DivergedError: the loss is infinite or not a number.
    """
    if loss.device.type == "cuda":
        torch._assert_async(loss.isfinite())
    elif not loss.isfinite():
        raise DivergedError(
            f"the loss became {loss.item()} at step {step} (learning rate {lr:g}); "
            f"nothing was updated with it. Try a tenth: --optim.lr {lr / 10:g}"
        )
