"""The texts' networks one by one: their parameters counted by hand, and what sets each apart."""

import math
from pathlib import Path

import pytest
import torch
from torch import nn

from nunbit.config import Setting
from nunbit.errors import UsageError
from nunbit.models.base import Network
from nunbit.models.init import initialize
from nunbit.models.net_resdeep import NetResDeep
from nunbit.models.registry import (
    BUILDERS,
    build_model,
    list_models,
    register_model,
    require_fit,
)
from nunbit.models.summary import count_parameters, summarize
from nunbit.recipes import RECIPES, get_recipe
from nunbit.runtime import seeded

DOCS = Path(__file__).parents[1] / "docs" / "networks.md"
BIRDS, DIGITS, CIFAR10 = (2, 3, 32), (10, 1, 28), (10, 3, 32)  # classes, channels, pixels

# The sums are written out in docs/networks.md, which must show the same numbers.
COUNTS: list[tuple[str, dict[str, Setting], tuple[int, int, int], int]] = [
    ("mlp", {}, BIRDS, 1_574_402),
    ("mlp-deep", {}, BIRDS, 3_737_474),
    ("net", {}, BIRDS, 18_090),
    ("net-modules", {}, BIRDS, 18_090),
    ("net", {"width": 32}, BIRDS, 38_386),
    ("net-dropout", {}, BIRDS, 38_386),
    ("net-batchnorm", {}, BIRDS, 38_482),
    ("net-depth", {}, BIRDS, 16_130),
    ("net-res", {}, BIRDS, 16_130),
    ("net-resdeep", {}, BIRDS, 994_530),
    ("net-resdeep", {"shared": True}, BIRDS, 75_810),
    ("mnist-cnn", {}, DIGITS, 123_222),
    ("alexnet-small", {}, CIFAR10, 4_617_546),
    ("resnet18", {}, CIFAR10, 11_173_962),
    ("resnet34", {}, CIFAR10, 21_282_122),
    ("cnn", {}, CIFAR10, 1_941_546),
    ("speednet", {}, CIFAR10, 497_216),
]


def build(name: str, shape: tuple[int, int, int] = BIRDS, **args: Setting) -> nn.Module:
    classes, channels, side = shape
    with seeded(0, "test"):
        return build_model(
            name, num_classes=classes, in_channels=channels, image_size=(side, side), args=args
        )


@pytest.mark.parametrize(("name", "args", "shape", "count"), COUNTS)
def test_parameters_are_what_hand_arithmetic_gives(
    name: str, args: dict[str, Setting], shape: tuple[int, int, int], count: int
) -> None:
    with torch.device("meta"):  # shapes without numbers: nothing is filled
        assert count_parameters(build(name, shape, **args)) == count
    rows = [line for line in DOCS.read_text(encoding="utf-8").splitlines() if f"`{name}" in line]
    assert any(f"{count:,}" in row for row in rows), f"docs/networks.md lacks {name}: {count:,}"


def test_every_network_is_counted() -> None:
    assert {name for name, *_ in COUNTS} == set(list_models())


def test_the_fully_connected_networks_have_the_texts_layers() -> None:
    with torch.device("meta"):
        sizes = [[p.numel() for p in build(name).parameters()] for name in ("mlp", "mlp-deep")]
    assert sizes[0] == [1_572_864, 512, 1024, 2]
    assert sizes[1] == [3_145_728, 1024, 524_288, 512, 65_536, 128, 256, 2]


def test_cross_entropy_of_logits_is_the_texts_log_softmax_and_nll() -> None:
    logits, labels = build("mlp")(torch.randn(5, 3, 32, 32)), torch.tensor([0, 1, 1, 0, 1])
    theirs = nn.NLLLoss()(nn.LogSoftmax(dim=1)(logits), labels)
    assert torch.allclose(nn.functional.cross_entropy(logits, labels), theirs)


def test_the_small_alexnet_ends_in_2304_values() -> None:
    with torch.device("meta"):
        model = build("alexnet-small", CIFAR10)
    shapes = [(m.in_features, m.out_features) for m in model.modules() if isinstance(m, nn.Linear)]
    assert shapes == [(2304, 1024), (1024, 512), (512, 10)]
    assert sum(isinstance(m, nn.Conv2d) for m in model.modules()) == 5


def test_dropout_works_in_training_only() -> None:
    plain, dropping = build("net", width=32).eval(), build("net-dropout")
    dropping.load_state_dict(plain.state_dict())
    x = torch.randn(4, 3, 32, 32)
    assert torch.equal(dropping.eval()(x), plain(x))
    assert not torch.equal(dropping.train()(x), plain(x))
    none = build("net-dropout", dropout=0.0)
    none.load_state_dict(plain.state_dict())
    assert torch.equal(none.train()(x), plain(x))


def test_biases_before_a_norm_change_nothing() -> None:
    model, x = build("net-batchnorm"), torch.randn(8, 3, 32, 32)
    before = model(x)
    with torch.no_grad():
        model.get_parameter("conv1.bias").add_(3.0)
        model.get_parameter("conv2.bias").add_(-2.0)
    assert torch.allclose(model(x), before, atol=1e-4)


def test_the_skip_is_all_that_sets_res_apart_from_depth() -> None:
    depth, res = build("net-depth").eval(), build("net-res").eval()
    res.load_state_dict(depth.state_dict())
    x = torch.randn(4, 3, 32, 32)
    assert not torch.allclose(res(x), depth(x))
    for model in (depth, res):
        initialize(model.get_submodule("conv3"), "constant", value=0.0)
    assert isinstance(res, Network)
    assert isinstance(depth, Network)
    assert depth.forward_features(x).std(0).max() < 1e-6, "without a skip nothing passes a zero"
    assert res.forward_features(x).std(0).max() > 1e-3, "the skip carries the picture past it"


def test_residual_blocks_are_different_objects_with_their_own_weights() -> None:
    counts = [count_parameters(build("net-resdeep", blocks=n)) for n in (1, 2, 5)]
    per_block = 32 * 32 * 9 + 2 * 32
    assert counts[1] - counts[0] == per_block
    assert counts[2] - counts[0] == 4 * per_block
    model = build("net-resdeep", blocks=5)
    assert isinstance(model, NetResDeep)
    assert len({id(block) for block in model.blocks}) == 5
    weights = [block.get_parameter("conv.weight") for block in model.blocks]
    assert not torch.equal(weights[0], weights[1])
    before = weights[1].clone()
    with torch.no_grad():
        weights[0].zero_()
    assert torch.equal(weights[1], before)


def test_the_shared_block_is_one_block_called_n_times() -> None:
    for blocks in (2, 7):
        model = build("net-resdeep", blocks=blocks, shared=True)
        assert count_parameters(model) == count_parameters(build("net-resdeep", blocks=1)), (
            "as many parameters as a single block"
        )
        calls = {layer.name: layer.calls for layer in summarize(model, 3, (32, 32)).layers}
        assert calls["blocks.0.conv"] == blocks
        assert sum(key.endswith("conv.weight") for key in model.state_dict()) == 1, "saved once"


def test_the_shared_block_gives_what_the_texts_list_gives() -> None:
    model, x = build("net-resdeep", width=8, blocks=3, shared=True), torch.randn(4, 3, 16, 16)
    assert isinstance(model, NetResDeep)
    block = model.blocks[0]
    theirs = nn.Sequential(*(3 * [block]))
    ours = x.new_zeros(4, 8, 8, 8).normal_()
    expected = theirs(ours)
    for _ in range(model.passes):
        ours = model.blocks(ours)
    assert torch.equal(ours, expected)


def test_residual_blocks_start_as_the_text_starts_them() -> None:
    block = build("net-resdeep", blocks=1, width=64).get_submodule("blocks.0")
    weight = block.get_parameter("conv.weight")
    assert weight.std().item() == pytest.approx(math.sqrt(2 / (64 * 9)), rel=0.03)
    assert torch.equal(block.get_parameter("norm.weight"), torch.full((64,), 0.5))
    assert torch.equal(block.get_parameter("norm.bias"), torch.zeros(64))


def test_a_hundred_blocks_train_and_stay_finite() -> None:
    model, x = build("net-resdeep", (2, 3, 8), width=4), torch.randn(4, 3, 8, 8)
    model(x).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_resnets_have_the_papers_layers_and_take_two_pictures_of_any_size() -> None:
    for name, layers in (("resnet18", 18), ("resnet34", 34)):
        model = build(name, CIFAR10, width=8)
        paper = [
            m
            for path, m in model.named_modules()
            if isinstance(m, nn.Conv2d | nn.Linear) and ".skip." not in path
        ]
        assert len(paper) == layers
        for side in (8, 17, 32):
            assert model(torch.randn(2, 3, side, side)).shape == (2, 10)
    shapes = {layer.name: layer.output_shape for layer in summarize(model, 3, (32, 32)).layers}
    assert shapes["conv"] == (8, 32, 32), "no pooling and no stride at the start"
    assert [shapes[f"stage{i}.0.norm2"] for i in (1, 2, 3, 4)] == [
        (8, 32, 32), (16, 16, 16), (32, 8, 8), (64, 4, 4),
    ]  # fmt: skip


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_every_recipe_names_a_network_that_fits_its_data(name: str) -> None:
    config = get_recipe(name)
    side, channels = {"mnist": (28, 1), "digits": (8, 1), "imagenet": (224, 3)}.get(
        config.data.source, (32, 3)
    )
    with torch.device("meta"):
        model = build_model(
            config.model.name,
            num_classes=10,
            in_channels=channels,
            image_size=(side, side),
            args=config.model.args,
        )
    assert count_parameters(model) > 0


def test_the_texts_recipes_keep_the_texts_settings() -> None:
    for name in RECIPES:
        family = name.partition("/")[0]
        config = get_recipe(name)
        if config.model.name == "speednet":  # no text's
            continue
        settings = (config.optim.name, config.optim.lr, config.train.batch_size)
        if family == "birds":
            lr = 3e-3 if name == "birds/resdeep" else 1e-2
            assert (*settings, config.train.epochs) == ("sgd", lr, 64, 100)
            assert config.optim.l2 == (1e-3 if name == "birds/l2" else 0)
        elif family == "cifar10":
            assert (*settings, config.train.epochs) == ("adam", 1e-3, 32, 50)
            assert config.data.normalize == "half"
        elif family == "mnist":
            assert (*settings, config.train.epochs) == ("adam", 2e-4, 100, 10)
            assert config.data.normalize == "none"
        if family in ("birds", "cifar10", "mnist", "imagenet"):
            assert config.data.val_fraction == 0, "classic: nothing is selected"
            assert config.optim.weight_decay == 0 or family == "imagenet"


def spread(weight: torch.Tensor) -> float:
    assert abs(weight.mean().item()) < 0.1 * weight.std().item()
    return weight.std().item()


@pytest.mark.parametrize(
    ("module", "inputs", "outputs"),
    [(nn.Linear(400, 200), 400, 200), (nn.Conv2d(32, 64, 3), 32 * 9, 64 * 9)],
)
def test_initial_weights_have_the_variance_of_their_papers(
    module: nn.Linear | nn.Conv2d, inputs: int, outputs: int
) -> None:
    generator = torch.Generator().manual_seed(0)
    bias = module.bias
    assert bias is not None
    for method, std in (
        ("xavier", math.sqrt(2 / (inputs + outputs))),
        ("kaiming", math.sqrt(2 / inputs)),
        ("normal", 0.03),
    ):
        nn.init.ones_(bias)
        assert initialize(module, method, std=0.03, generator=generator) == ["weight"]
        assert spread(module.weight) == pytest.approx(std, rel=0.03)
        assert bias.abs().sum() == 0
    limit = math.sqrt(6 / (inputs + outputs))
    initialize(module, "xavier", generator=generator)
    assert module.weight.abs().max() <= limit, "uniform"
    initialize(module, "constant", value=0.25)
    assert (module.weight == 0.25).all()


def test_only_the_given_part_is_initialised() -> None:
    model = build("net-batchnorm")
    before = {key: value.clone() for key, value in model.state_dict().items()}
    initialize(model.get_submodule("fc2"), "kaiming")
    changed = {k for k, v in model.state_dict().items() if not torch.equal(before[k], v)}
    assert changed == {"fc2.weight", "fc2.bias"}
    names = initialize(model, "normal")
    assert names == ["conv1.weight", "conv2.weight", "fc1.weight", "fc2.weight"]
    assert torch.equal(model.get_parameter("norm1.weight"), before["norm1.weight"])
    assert all(p.requires_grad for p in model.parameters())


def test_the_same_generator_gives_the_same_weights_and_torchs_own_stays() -> None:
    layer, state = nn.Linear(8, 8), torch.get_rng_state()
    weights = []
    for _ in range(2):
        initialize(layer, "kaiming", generator=torch.Generator().manual_seed(3))
        weights.append(layer.weight.clone())
    assert torch.equal(*weights)
    assert torch.equal(torch.get_rng_state(), state)


def test_wrong_initialisations_are_explained() -> None:
    with pytest.raises(UsageError, match="did you mean 'kaiming'"):
        initialize(nn.Linear(2, 2), "kaimming")
    with pytest.raises(UsageError, match="BatchNorm2d has no convolution"):
        initialize(nn.BatchNorm2d(4), "kaiming")
    with pytest.raises(UsageError, match="std is -1"):
        initialize(nn.Linear(2, 2), "normal", std=-1)


@pytest.mark.parametrize(("name", "activation"), [("net", nn.Tanh), ("net-depth", nn.ReLU)])
def test_pooling_before_the_activation_is_the_texts_function(
    name: str, activation: type[nn.Module]
) -> None:
    model = build(name)
    layers: list[nn.Module] = []
    for conv in (m for m in model.modules() if isinstance(m, nn.Conv2d)):
        layers += [conv, activation(), nn.MaxPool2d(2)]  # the order of the texts
    linear = [m for m in model.modules() if isinstance(m, nn.Linear)]
    text = nn.Sequential(*layers, nn.Flatten(), linear[0], activation(), linear[1])
    x = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    gradients = []
    for network in (model, text):
        model.zero_grad()
        logits = network(x)
        nn.functional.cross_entropy(logits, torch.arange(8) % 2).backward()
        gradients.append([logits, *(p.grad for p in model.parameters() if p.grad is not None)])
    assert len(gradients[0]) == len(list(model.parameters())) + 1
    torch.testing.assert_close(gradients[0], gradients[1])


@pytest.mark.parametrize(
    ("name", "args", "said"),
    [
        ("timm:resnet18", {"act_layer": "foo"}, "timm:resnet18: "),
        ("timm:resnet18", {"block": "foo"}, "timm:resnet18: "),
        ("timm:resnet18", {"features_only": True}, "model.features_only is not allowed"),
        ("torchvision:googlenet", {"aux_logits": True}, "model.aux_logits is not allowed"),
    ],
)
def test_options_that_no_classifier_has_are_one_line(
    name: str, args: dict[str, Setting], said: str
) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        build_model(name, num_classes=3, in_channels=3, image_size=(64, 64), args=args)
    assert "\n" not in str(caught.value)


def test_a_network_that_does_not_fit_into_memory_is_one_line() -> None:
    @register_model("vast")
    def vast(*, num_classes: int, in_channels: int, image_size: tuple[int, int]) -> torch.nn.Module:
        """As torch's allocator fails."""
        raise RuntimeError("not enough memory: you tried to allocate 1,258 GB\nbacktrace")

    try:
        with pytest.raises(UsageError, match=r"^vast: not enough memory: you tried .* GB$"):
            build_model("vast", num_classes=3, in_channels=3, image_size=(8, 8))
    finally:
        BUILDERS.pop("vast")


def test_a_network_that_gives_no_logits_is_refused() -> None:
    with pytest.raises(UsageError, match="gives no logits"):
        require_fit("odd", torch.nn.Identity(), 3, (8, 8))
