"""What every network promises, over the whole registry, and what the texts print of theirs."""

import threading

import pytest
import torch
from torch import Tensor, nn

from nunbit.config import ModelConfig, RunConfig, Setting
from nunbit.errors import DataError, UsageError
from nunbit.models.base import Network
from nunbit.models.head import require_coolable
from nunbit.models.limit import limited_size
from nunbit.models.registry import BUILDERS, build_model, list_models, register_model
from nunbit.models.summary import summarize
from nunbit.runtime import seeded

NAMES = sorted(list_models())
# A plain list of modules has no forward of its own to split in two: that is what it shows.
SPLIT_NAMES = [name for name in NAMES if name != "net-modules"]
SIZES = {"mnist-cnn": (20, 28, 33), "alexnet-small": (10, 32, 45), "speednet": (10, 32, 45)}
DEFAULT_SIZES = (8, 32, 45)
# What is promised does not depend on the width or the depth; the time of the tests does.
CHEAP: dict[str, dict[str, Setting]] = {
    "net-resdeep": {"blocks": 3},
    "resnet18": {"width": 8},
    "resnet34": {"width": 8},
    "speednet": {"width": 8},
}
LEAST_SIDES = {
    "alexnet-small": 10,
    "cnn": 4,
    "mlp": 1,
    "mlp-deep": 1,
    "mnist-cnn": 20,
    "net": 4,
    "net-batchnorm": 4,
    "net-depth": 8,
    "net-dropout": 4,
    "net-modules": 4,
    "net-res": 8,
    "net-resdeep": 4,
    "resnet18": 1,
    "resnet34": 1,
    "speednet": 10,
}
# A norm subtracts what these add, so that their gradient is rounding: see the network's text.
IDLE = {"net-batchnorm": {"conv1.bias", "conv2.bias"}}


def built(name: str, side: int = 32, channels: int = 3, classes: int = 7) -> torch.nn.Module:
    shape = {"num_classes": classes, "in_channels": channels, "image_size": (side, side)}
    with seeded(0, "test"):
        return build_model(name, args=CHEAP.get(name), **shape)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("channels", [1, 3])
def test_any_size_gives_finite_logits_and_every_parameter_a_gradient(
    name: str, channels: int
) -> None:
    for side in SIZES.get(name, DEFAULT_SIZES):
        model = built(name, side, channels)
        logits = model(torch.randn(4, channels, side, side))
        assert logits.shape == (4, 7)
        assert logits.isfinite().all()
        logits.square().sum().backward()
        for path, parameter in model.named_parameters():
            assert parameter.grad is not None, f"{path} has no gradient"
            if path not in IDLE.get(name, ()):
                assert parameter.grad.abs().sum() > 0, f"{path} is not reached"


@pytest.mark.parametrize("name", NAMES)
def test_no_module_appears_twice(name: str) -> None:
    modules = [m for _, m in built(name).named_modules(remove_duplicate=False)]
    assert len(modules) == len({id(m) for m in modules})


@pytest.mark.parametrize("name", NAMES)
def test_eval_is_deterministic_and_leaves_no_trace(name: str) -> None:
    model = built(name).eval()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    x = torch.randn(5, 3, 32, 32)
    with torch.inference_mode():
        assert torch.equal(model(x), model(x))
        assert torch.allclose(model(x)[:2], model(x[:2]), atol=1e-5), "pictures do not mix"
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


@pytest.mark.parametrize("name", SPLIT_NAMES)
def test_features_and_head_are_the_two_halves_of_forward(name: str) -> None:
    model, x = built(name).eval(), torch.randn(2, 3, 32, 32)
    assert isinstance(model, Network)
    features = model.forward_features(x)
    assert features.shape == (2, model.num_features)
    assert model.num_classes == 7
    assert torch.equal(model.forward_head(features), model(x))


@pytest.mark.parametrize("name", SPLIT_NAMES)
def test_a_new_head_replaces_the_last_layer_alone(name: str) -> None:
    model, x = built(name).eval().requires_grad_(False), torch.randn(2, 3, 32, 32)
    assert isinstance(model, Network)
    before, features = model.state_dict(), model.forward_features(x)
    model.reset_head(4)
    after = model.state_dict()
    changed = {key for key in before if key.startswith(f"{model.head_name}.")}
    assert set(before) == set(after)
    assert all(torch.equal(before[key], after[key]) for key in after if key not in changed)
    assert {key for key, p in model.named_parameters() if p.requires_grad} == changed
    assert model.num_classes == 4
    assert model(x).shape == (2, 4)
    assert torch.equal(model.forward_features(x), features)
    with pytest.raises(UsageError, match="num_classes is 0"):
        model.reset_head(0)


@pytest.mark.parametrize("name", NAMES)
def test_a_picture_that_is_too_small_is_refused_with_the_least_size(name: str) -> None:
    least = LEAST_SIDES[name]
    for side in range(1, least):
        with pytest.raises(UsageError, match=f"needs {least} pixels a side"):
            built(name, side)
    with torch.inference_mode():
        assert built(name, least).eval()(torch.zeros(1, 3, least, least)).isfinite().all()


def sizes(name: str, **args: int) -> list[int]:
    model = build_model(name, num_classes=2, in_channels=3, image_size=(32, 32), args=args)
    return [p.numel() for p in model.parameters()]


@pytest.mark.parametrize("name", ["net", "net-modules"])
def test_the_texts_network_has_the_printed_parameters(name: str) -> None:
    assert sizes(name) == [432, 16, 1152, 8, 16384, 32, 64, 2]
    assert sum(sizes(name)) == 18_090
    assert sum(sizes(name, width=32)) == 38_386


def test_modules_and_functions_are_the_same_network() -> None:
    functions, modules = built("net").eval(), built("net-modules").eval()
    weights = functions.state_dict().values()
    modules.load_state_dict(dict(zip(modules.state_dict(), weights, strict=True)))
    x = torch.randn(6, 3, 32, 32)
    assert torch.equal(functions(x), modules(x))


def test_the_mnist_network_ends_in_576_values() -> None:
    model = build_model("mnist-cnn", num_classes=10, in_channels=1, image_size=(28, 28))
    assert model.get_submodule("fc1").in_features == 576


def test_the_default_network_keeps_its_cost_for_large_pictures() -> None:
    small, large = (summarize(built("cnn", side), 3, (side, side)) for side in (32, 224))
    assert large.activations_mb < 1.5 * small.activations_mb


def test_summary_counts_and_restores() -> None:
    model = built("net").train()
    summary = summarize(model, 3, (32, 32))
    rows = {layer.name: layer for layer in summary.layers}
    assert rows["conv1"].output_shape == (16, 32, 32)
    assert rows["conv1"].parameters == 448
    assert rows["fc1"].output_shape == (32,)
    assert summary.parameters == sum(p.numel() for p in model.parameters())
    assert model.training
    assert not model._forward_hooks
    assert not any(m._forward_hooks for m in model.modules())


@pytest.mark.parametrize("name", [*NAMES, "timm:test_vit", "torchvision:swin_t"])
def test_the_rows_hold_every_parameter_once(name: str) -> None:
    side = 160 if name == "timm:test_vit" else 32
    summary = summarize(built(name, side), 3, (side, side))
    assert sum(layer.parameters for layer in summary.layers) == summary.parameters
    names = [layer.name for layer in summary.layers]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("name", NAMES)
def test_parts_are_registered_in_the_order_in_which_they_are_called(name: str) -> None:
    model = built(name)
    called = [la.name for la in summarize(model, 3, (32, 32)).layers if la.parameters]
    parts = dict.fromkeys(layer.partition(".")[0] for layer in called)
    assert list(parts) == [n for n, part in model.named_children() if list(part.parameters())]


class Attending(nn.Module):
    """A class token, attention over 4 x 4 pixels with it, and one norm that is called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.zeros(1, 1, 6))
        self.attention = nn.MultiheadAttention(6, 2, batch_first=True)
        self.norm = nn.BatchNorm1d(6)
        self.first = nn.Linear(6, 2, bias=False)
        self.again = nn.Linear(6, 2, bias=False)
        self.again.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        pixels = x.flatten(2).transpose(1, 2).repeat(1, 1, 2)  # (B, 16, 6)
        tokens = torch.cat([self.token, self.norm(pixels.flatten(0, 1))[None]], 1)
        tokens = self.attention(tokens, tokens, tokens, need_weights=False)[0]
        return self.first(self.norm(tokens[:, 0])) + self.again(tokens[:, 1])


def test_summary_lists_weights_that_no_called_layer_has_and_adds_up_what_each_call_gave() -> None:
    summary = summarize(Attending(), 3, (4, 4))
    assert [(la.name, la.output_shape, la.parameters, la.calls) for la in summary.layers] == [
        ("norm", (6,), 12, 2),
        ("attention.out_proj", (), 42, 0),
        ("attention", (17, 6), 126, 1),
        ("first", (2,), 12, 1),
        ("again", (2,), 0, 1),
        ("(model)", (2,), 6, 1),
    ]
    assert summary.parameters == 12 + 42 + 126 + 12 + 6
    values = 16 * 6 + 6 + 17 * 6 + 2 + 2
    assert summary.activations_mb == pytest.approx(values * 4 / 1e6)


def test_wrong_names_and_options_are_explained() -> None:
    shape = {"num_classes": 2, "in_channels": 3, "image_size": (32, 32)}
    for name, args, says in (
        ("nett", {}, "did you mean 'net'"),
        ("net", {"widht": 3}, "did you mean 'width'"),
        ("net", {"width": "wide"}, "model.width is 'wide'; allowed: int"),
        ("net", {"width": 3}, "an even number"),
        ("cnn", {"width": 0}, "from 1"),
        ("net-dropout", {"dropout": 1.0}, "0 to below 1"),
        ("net-resdeep", {"blocks": 0}, "model.blocks is 0; allowed: a whole number from 1"),
        ("net-resdeep", {"shared": 1}, "allowed: bool"),
        ("resnet18", {"width": 0}, "from 1"),
        ("torchvision:alexnet", {}, "cannot take pictures of 32x32"),
        ("zoo:net", {}, "no zoo 'zoo'"),
        ("torchvision:resnet", {}, "resnet18|resnet"),
        ("timm:resnet18x", {}, "resnet18"),
    ):
        with pytest.raises(UsageError, match=says):
            build_model(name, args=args, **shape)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"needs 4 pixels .* 32x3: set data.size to 4 or more"):
        build_model("net", num_classes=2, in_channels=3, image_size=(32, 3))


def test_a_name_is_registered_once() -> None:
    with pytest.raises(ValueError, match="two networks are named 'net'"):
        register_model("net")(BUILDERS["net"])


def test_networks_of_other_zoos_come_through_the_same_call() -> None:
    for name in ("torchvision:squeezenet1_1", "timm:test_resnet"):
        model = build_model(name, num_classes=5, in_channels=3, image_size=(64, 64))
        assert all(module.training for module in model.modules())
        assert model.eval()(torch.zeros(2, 3, 64, 64)).shape == (2, 5)


def test_another_network_drops_the_options_of_the_recipes_one() -> None:
    config = RunConfig(model=ModelConfig(name="cnn", args={"width": 24}))
    assert config.override({"model.width": "8"}).model.args == {"width": 8}


def test_a_network_of_ones_own_with_other_outputs_is_refused_when_it_is_built() -> None:
    @register_model("ten-outputs")
    def ten(*, num_classes: int, in_channels: int, image_size: tuple[int, int]) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(in_channels * image_size[0] ** 2, 10))

    try:
        build_model("ten-outputs", num_classes=10, in_channels=3, image_size=(4, 4))
        with pytest.raises(UsageError, match=r"gives \(1, 10\) for one picture, needed \(1, 2\)"):
            build_model("ten-outputs", num_classes=2, in_channels=3, image_size=(4, 4))
    finally:
        del BUILDERS["ten-outputs"]


def test_only_a_last_layer_that_gives_the_logits_can_be_cooled() -> None:
    class Early(nn.Module):
        """Its last layer is registered first, so that the convolution is taken for it."""

        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 2)
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(self.conv(x).relu().mean((2, 3)))  # type: ignore[no-any-return]

    early = Early()
    before = {name: tensor.clone() for name, tensor in early.state_dict().items()}
    with pytest.raises(UsageError, match="'conv' was registered last and does not give the logits"):
        require_coolable(early, (3, 8, 8))
    for name in ("net", "cnn", "speednet", "resnet18"):
        model = build_model(name, num_classes=3, in_channels=3, image_size=(16, 16))
        require_coolable(model, (3, 16, 16))
    for name, tensor in early.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_the_bound_of_one_thread_is_no_bound_of_another() -> None:
    found: list[nn.Module] = []
    with limited_size(10):
        with pytest.raises(DataError, match="more than 10 numbers"):
            nn.Linear(4, 4)
        other = threading.Thread(target=lambda: found.append(nn.Linear(4, 4)))
        other.start()
        other.join()
    assert len(found) == 1
