"""Muon: what an update does to a convolution and to everything else."""

import copy

import pytest
import torch
from torch import nn

from nunbit.config import OptimConfig, RunConfig
from nunbit.errors import UsageError
from nunbit.models.registry import build_model
from nunbit.training.muon import Muon, orthogonalized
from nunbit.training.optim import BIAS_SCALE, HEAD_SCALE, REST_MOMENTUM, build_optimizer
from nunbit.training.schedule import lr_at
from test_training import run, stripes

MUON = OptimConfig(name="muon", lr=0.2, momentum=0.6, weight_decay=0.01)


@pytest.mark.parametrize("shape", [(16, 64), (64, 16), (24, 216), (1, 9)])
def test_an_orthogonalized_matrix_stretches_all_directions_alike(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    result = orthogonalized(matrix)
    assert (result.shape, result.dtype) == (matrix.shape, matrix.dtype)
    values = torch.linalg.svdvals(result)
    assert values.min() > 0.6
    assert values.max() < 1.3
    # The directions stay: U V' of the singular value decomposition is the nearest of its kind.
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    cosine = (result * (u @ v)).sum() / (result.norm() * (u @ v).norm())
    assert cosine > 0.97


def test_the_length_of_a_gradient_is_of_no_consequence_and_zero_stays_zero() -> None:
    matrix = torch.randn(8, 18, generator=torch.Generator().manual_seed(1))
    scaled = orthogonalized(256 * matrix)  # a power of two rounds alike
    torch.testing.assert_close(scaled, orthogonalized(matrix), atol=1e-2, rtol=0)
    assert not orthogonalized(torch.zeros(4, 9)).any()


def moved(momentum: float, updates: int) -> tuple[nn.Parameter, list[torch.Tensor]]:
    """Return a convolution's weights after some updates at rate 0.1, and their gradients."""
    generator = torch.Generator().manual_seed(2)
    weight = nn.Parameter(torch.randn(8, 4, 3, 3, generator=generator))
    optimizer = Muon([{"params": [weight], "orthogonal": True}], lr=0.1, momentum=momentum)
    gradients = []
    for _ in range(updates):
        weight.grad = torch.randn(8, 4, 3, 3, generator=generator)
        gradients.append(weight.grad.clone())
        optimizer.step()
    return weight, gradients


def test_an_update_moves_weights_of_held_length_against_the_gradient() -> None:
    start, _ = moved(0.6, 0)
    weight, (gradient,) = moved(0.6, 1)
    held = start.detach() * 8**0.5 / start.norm()  # as long as 8 rows of length 1
    torch.testing.assert_close(held.norm(), torch.tensor(8**0.5))
    expected = held - 0.1 * orthogonalized(1.6 * gradient.flatten(1)).view_as(gradient)
    torch.testing.assert_close(weight.detach(), expected)
    step = (weight - held).detach().flatten(1)
    assert float(torch.linalg.svdvals(step).max()) == pytest.approx(0.1, rel=0.3)


def test_momentum_is_nesterovs() -> None:
    before, _ = moved(0.6, 1)
    weight, (first, second) = moved(0.6, 2)
    held = before.detach() * 8**0.5 / before.norm()
    ahead = second + 0.6 * (0.6 * first + second)
    expected = held - 0.1 * orthogonalized(ahead.flatten(1)).view_as(ahead)
    torch.testing.assert_close(weight.detach(), expected)


def test_all_but_convolutions_is_trained_by_torchs_sgd() -> None:
    start = [torch.randn(3, 5), torch.randn(3)]
    ours, theirs = ([nn.Parameter(p.clone()) for p in start] for _ in range(2))
    muon = Muon(
        [{"params": ours[:1], "weight_decay": 0.02}, {"params": ours[1:]}], lr=0.1, momentum=0.85
    )
    sgd = torch.optim.SGD(
        [{"params": theirs[:1], "weight_decay": 0.02}, {"params": theirs[1:]}],
        lr=0.1, momentum=0.85, nesterov=True,
    )  # fmt: skip
    for _ in range(5):
        for mine, other in zip(ours, theirs, strict=True):
            mine.grad = torch.randn_like(mine)
            other.grad = mine.grad.clone()
        muon.step()
        sgd.step()
    for mine, other, before in zip(ours, theirs, start, strict=True):
        torch.testing.assert_close(mine, other)
        assert not torch.equal(mine, before)


def test_a_weight_without_gradient_is_left_alone_and_closures_are_refused() -> None:
    weight = nn.Parameter(torch.ones(2, 1, 3, 3))
    optimizer = Muon([{"params": [weight], "orthogonal": True}], lr=0.1, momentum=0.0)
    optimizer.step()
    assert torch.equal(weight, torch.ones(2, 1, 3, 3))
    with pytest.raises(ValueError, match="closure"):
        optimizer.step(lambda: 0.0)


def test_the_state_comes_back_from_its_dictionary() -> None:
    generator = torch.Generator().manual_seed(3)
    gradients = [torch.randn(4, 2, 3, 3, generator=generator) for _ in range(4)]
    first = nn.Parameter(torch.randn(4, 2, 3, 3, generator=generator))
    whole = Muon([{"params": [first], "orthogonal": True}], lr=0.1, momentum=0.6)
    for gradient in gradients[:2]:
        first.grad = gradient
        whole.step()
    second = nn.Parameter(first.detach().clone())
    again = Muon([{"params": [second], "orthogonal": False}], lr=9.0, momentum=0.0)
    again.load_state_dict(copy.deepcopy(whole.state_dict()))
    for gradient in gradients[2:]:
        first.grad, second.grad = gradient, gradient.clone()
        whole.step()
        again.step()
    assert torch.equal(first, second)


def test_every_weight_is_in_the_group_of_its_kind() -> None:
    with torch.device("meta"):
        model = build_model("resnet18", num_classes=3, in_channels=3, image_size=(8, 8))
    optimizer = build_optimizer(model, MUON)
    conv, head, rest = optimizer.param_groups
    kinds = {id(p): name for name, p in model.named_parameters()}
    assert sum(len(g["params"]) for g in (conv, head, rest)) == len(kinds)
    assert all(p.ndim == 4 for p in conv["params"])
    assert [p.ndim for p in head["params"]] == [2]
    assert all(p.ndim == 1 for p in rest["params"])
    assert (conv["orthogonal"], conv["lr_scale"], conv["momentum"]) == (True, 1.0, 0.6)
    assert (conv["weight_decay"], head["weight_decay"], rest["weight_decay"]) == (0, 0.01, 0)
    assert (head["lr_scale"], rest["lr_scale"]) == (HEAD_SCALE, BIAS_SCALE)
    assert head["momentum"] == rest["momentum"] == REST_MOMENTUM
    assert not head["orthogonal"]
    assert not rest["orthogonal"]


def test_convolutions_with_a_bias_keep_their_length() -> None:
    # No norm follows them, so that their scale matters.
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Conv2d(2, 2, 3, bias=False))
    groups = build_optimizer(model, MUON).param_groups
    assert groups[0]["params"] == [model[1].weight]
    assert groups[1]["params"] == [model[0].weight]


def test_a_network_without_such_convolutions_is_refused() -> None:
    model = build_model("net", num_classes=2, in_channels=1, image_size=(8, 8))
    with pytest.raises(UsageError, match=r"convolutions without bias.* set optim\.name to sgd"):
        build_optimizer(model, MUON)
    with pytest.raises(UsageError, match=r"optim\.layer_decay is 0\.5; allowed: 1 with"):
        OptimConfig(name="muon", layer_decay=0.5)


def test_muon_learns(quick: RunConfig) -> None:
    config = quick.override(
        {"model.name": "cnn", "optim.name": "muon", "optim.lr": 0.1, "optim.momentum": 0.6,
         "optim.schedule": "linear", "train.epochs": 5, "train.batch_size": 16}
    )  # fmt: skip
    state, results = run(config, stripes(40, seed=9))
    assert results[-1].train_loss < 0.2 * results[0].train_loss
    assert results[-1].val_accuracy == 1.0
    optimizer = build_optimizer(state.model, config.optim)
    for weight in optimizer.param_groups[0]["params"]:
        assert float(weight.detach().norm()) == pytest.approx(len(weight) ** 0.5, rel=0.1)


def test_the_linear_schedule_rises_and_falls_in_equal_steps() -> None:
    falls = OptimConfig(lr=0.8, schedule="linear", warmup_fraction=0.0)
    assert [lr_at(s, 3, falls) for s in range(3)] == pytest.approx([0.6, 0.4, 0.2])
    rises = OptimConfig(lr=1.0, schedule="linear", warmup_fraction=0.4)
    values = [lr_at(s, 9, rises) for s in range(9)]
    assert values == pytest.approx([0.25, 0.5, 0.75, 1.0, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6])
    assert lr_at(0, 1, falls) == pytest.approx(0.4)
    always = OptimConfig(lr=1.0, schedule="onecycle", warmup_fraction=0.0)
    assert lr_at(0, 5, always) == pytest.approx(1.0)
