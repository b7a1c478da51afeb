"""Changing finished networks: the texts' AlexNet examples, and one line for every mistake."""

import copy
import pickle
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import timm
import torch
from torch import nn
from torchvision import models as torchvision_models
from torchvision.models import alexnet

from nunbit.bundle import Classifier
from nunbit.data.preprocess import Preprocess
from nunbit.errors import UsageError
from nunbit.modelfile import load_classifier
from nunbit.models.dryrun import dry_run, require_classes
from nunbit.models.freeze import freeze, require_trainable, trainable, unfreeze
from nunbit.models.head import find_head, reset_head
from nunbit.models.init import initialize
from nunbit.models.registry import build_model
from nunbit.models.stages import watched
from nunbit.models.surgery import append, get, insert, remove, rename, replace

DOCS = Path(__file__).parents[1] / "docs" / "surgery.md"
SIZE = (3, 224, 224)
TINY = (3, 8, 8)


@pytest.fixture
def model() -> Iterator[nn.Module]:
    """AlexNet without numbers: shapes are all that surgery looks at, and none is computed."""
    with torch.device("meta"):
        yield alexnet()


@pytest.fixture(scope="module")
def unharmed() -> nn.Module:
    """One AlexNet for all mistakes: none of them may change it."""
    with torch.device("meta"):
        return alexnet()


@pytest.fixture
def tiny() -> nn.Module:
    """A network with numbers for pictures of 3x8x8, whose layers have names."""
    network = nn.Sequential()
    network.add_module("conv", nn.Conv2d(3, 4, 3))
    network.add_module("norm", nn.BatchNorm2d(4))
    network.add_module("flat", nn.Flatten())
    network.add_module("head", nn.Linear(144, 2))
    return network


def kinds(model: nn.Module, name: str) -> list[str]:
    return [type(part).__name__ for part in get(model, name).children()]


# The texts' examples


def test_the_last_layer_is_replaced_for_ten_classes(model: nn.Module) -> None:
    replace(model, "classifier.6", nn.Linear(4096, 10), input_shape=SIZE)
    assert dry_run(model, SIZE).shape == (1, 10)
    assert sum(p.numel() for p in model.parameters()) == 61_100_840 - 990 * 4097


def test_a_norm_is_inserted_after_features_11_and_the_pooling_moves_down(model: nn.Module) -> None:
    before, pooling = kinds(model, "features"), get(model, "features.12")
    name = insert(model, nn.BatchNorm2d(256), after="features.11", input_shape=SIZE)
    assert name == "features.12"
    assert kinds(model, "features") == [*before[:12], "BatchNorm2d", "MaxPool2d"]
    assert get(model, "features.13") is pooling
    assert list(get(model, "features")._modules) == [str(i) for i in range(14)]


def test_an_identity_is_inserted_and_removed_again(model: nn.Module) -> None:
    names = list(model.state_dict())
    assert insert(model, nn.Identity(), after="classifier.0", input_shape=SIZE) == "classifier.1"
    assert list(model.state_dict()) != names, "the linear layers have other numbers now"
    assert isinstance(remove(model, "classifier.1", input_shape=SIZE), nn.Identity)
    assert list(model.state_dict()) == names


def test_the_last_layer_is_deleted_and_another_appended(model: nn.Module) -> None:
    remove(model, "classifier.6", input_shape=SIZE)
    assert dry_run(model, SIZE).shape == (1, 4096)
    assert append(model, "classifier", nn.Linear(4096, 5), input_shape=SIZE) == "classifier.6"
    require_classes(model, SIZE, 5)


def test_features_0_is_frozen_and_only_the_new_part_initialised() -> None:
    torch.manual_seed(0)  # of one in sixteen first weights no unit sees a picture of ones
    network = nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), nn.Flatten())
    append(network, "", nn.Linear(144, 2), input_shape=TINY)
    assert freeze(network, "0.0") == ["0.0.weight", "0.0.bias"]
    old = network[0][0].weight.clone()
    assert initialize(get(network, "2"), "constant", value=0.5) == ["weight"]
    assert torch.equal(network[0][0].weight, old)
    assert network[2].weight.eq(0.5).all()
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=0.1)
    network(torch.ones(1, *TINY)).sum().backward()
    optimizer.step()
    assert torch.equal(network[0][0].weight, old)
    assert not network[2].weight.eq(0.5).all()


# The verbs on other containers


def test_named_layers_keep_their_names(tiny: nn.Module) -> None:
    weight = tiny.get_parameter("conv.weight")
    rename(tiny, "conv", "stem", input_shape=TINY)
    assert insert(tiny, nn.ReLU(), after="norm", name="relu", input_shape=TINY) == "relu"
    remove(tiny, "norm", input_shape=TINY)
    assert list(tiny._modules) == ["stem", "relu", "flat", "head"]
    assert tiny.get_parameter("stem.weight") is weight


def test_lists_and_dictionaries_of_modules() -> None:
    parts = nn.Module()
    parts.rows, parts.named = nn.ModuleList([nn.ReLU()]), nn.ModuleDict({"a": nn.ReLU()})
    assert append(parts, "rows", nn.Tanh()) == "rows.1"
    assert insert(parts, nn.Sigmoid(), after="rows.0") == "rows.1"
    assert kinds(parts, "rows") == ["ReLU", "Sigmoid", "Tanh"]
    assert append(parts, "named", nn.Tanh(), name="b") == "named.b"
    rename(parts, "named.a", "c")
    assert list(parts.named) == ["c", "b"]


def test_an_attribute_is_replaced_and_an_unused_one_removed(model: nn.Module) -> None:
    replace(model, "avgpool", nn.AdaptiveAvgPool2d(6), input_shape=SIZE)
    model.spare = nn.Linear(1, 1)
    remove(model, "spare", input_shape=SIZE)
    assert not hasattr(model, "spare")


def test_a_new_layer_takes_over_the_mode(tiny: nn.Module) -> None:
    tiny.eval()
    new = nn.BatchNorm2d(4)
    insert(tiny, new, after="norm", name="norm2", input_shape=TINY)
    assert not new.training
    assert not tiny.training


def test_a_dry_run_leaves_no_trace(tiny: nn.Module) -> None:
    tiny.train()
    tiny.get_submodule("head").eval()
    before = copy.deepcopy(tiny.state_dict())
    dry_run(tiny, TINY)
    assert all(torch.equal(before[name], t) for name, t in tiny.state_dict().items())
    assert [part.training for part in tiny] == [True, True, True, False]
    assert not any(p._forward_hooks or p._forward_pre_hooks for p in tiny.modules())


# Mistakes


MISTAKES: list[tuple[Callable[[nn.Module], object], str]] = [
    (
        lambda m: replace(m, "classifier.6", nn.Linear(1024, 10), input_shape=SIZE),
        r"classifier\.6 \(Linear\) needs \(\*, 1024\) and is given \(1, 4096\); nothing",
    ),
    (
        lambda m: insert(m, nn.BatchNorm2d(256), after="features.2", input_shape=SIZE),
        r"features\.3 \(BatchNorm2d\) needs \(\*, 256, \*, \*\) and is given \(1, 64, 27, 27\)",
    ),
    (
        lambda m: remove(m, "features.3", input_shape=SIZE),
        r"features\.5 \(Conv2d\) needs \(\*, 192, \*, \*\) and is given \(1, 64,",
    ),
    (lambda m: get(m, "classifer.6"), r"no layer 'classifer\.6'; did you mean 'classifier\.6'\?"),
    (lambda m: get(m, "classifier[6]"), r"did you mean 'classifier\.6'\?"),
    (lambda m: get(m, "qqq"), r"allowed: features, avgpool, classifier$"),
    (lambda m: replace(m, "", nn.Identity()), "'' is the whole network"),
    (lambda m: replace(m, "features.0", nn.Identity), r"Identity without \(\) is no layer"),  # type: ignore[arg-type]
    (lambda m: append(m, "features", m), "contains the place that it goes to"),
    (lambda m: append(m, "features", get(m, "features")), "contains the place"),
    (
        lambda m: append(m, "features", get(m, "features.1")),
        r"one ReLU would be at 'features\.1' and 'features\.13' and share its weights",
    ),
    (lambda m: append(m, "features", nn.ReLU(), name="relu"), "leave out the name 'relu'"),
    (lambda m: append(m, "avgpool", nn.ReLU()), "'avgpool' is a AdaptiveAvgPool2d; allowed: Seq"),
    (lambda m: insert(m, nn.ReLU(), after="avgpool"), r"replace it by nn\.Sequential\(it"),
    (lambda m: remove(m, "avgpool"), "add input_shape, or put nn.Identity"),
    (lambda m: remove(m, "avgpool", input_shape=SIZE), "no attribute 'avgpool'.*nn.Identity"),
    (lambda m: rename(m, "avgpool", "pool"), "forward.. may use 'avgpool'"),
    (lambda m: rename(m, "avgpool", "pool", input_shape=SIZE), "no attribute 'avgpool'"),
    (lambda m: rename(m, "features.0", "a.b"), r"'a\.b'; allowed: a word without dots"),
    (lambda m: rename(m, "features.0", "1"), "something named '1' already"),
    (lambda m: rename(m, "features.0", "forward"), "something named 'forward' already"),
    (
        lambda m: replace(m, "classifier.6", nn.Linear(4096, 2), input_shape=(3, 8, 8)),
        r"^the network did not take \(3, 8, 8\) before the change either: features",
    ),
    (lambda m: remove(m, "features.2", input_shape=(3, -1)), "allowed: .C, H, W., such as"),
    (lambda m: reset_head(m, 0), "num_classes is 0; allowed: a whole number, 1 to"),
    (lambda m: require_classes(m, SIZE, 5), r"gives \(1, 1000\) for one picture, needed \(1, 5\)"),
    (lambda m: freeze(m, "feature.*"), "'feature.*' matches no layer"),
    (lambda m: freeze(m), "no pattern is given"),
]


@pytest.mark.parametrize(("mistake", "text"), MISTAKES)
def test_a_mistake_gives_one_line_and_changes_nothing(
    unharmed: nn.Module, mistake: Callable[[nn.Module], object], text: str
) -> None:
    before = list(unharmed.named_modules())
    with torch.device("meta"), pytest.raises(UsageError, match=text) as caught:
        mistake(unharmed)
    assert "\n" not in str(caught.value)
    assert list(unharmed.named_modules()) == before
    assert all(p.requires_grad for p in unharmed.parameters())


def test_the_only_layer_cannot_be_removed() -> None:
    network = nn.Sequential(nn.Sequential(nn.Linear(4, 2)))
    with pytest.raises(UsageError, match=r"'0\.0' is all there is; put nn\.Identity"):
        remove(network, "0.0")


def test_a_block_that_is_at_two_places_is_not_changed_by_halves() -> None:
    block = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    model = nn.Sequential(block, block)
    with pytest.raises(UsageError, match="'0' and '1' are one object: a change of one would"):
        replace(model, "0.1", nn.Tanh())
    replace(model, "0", nn.Tanh())
    assert model[1] is block


def test_a_layer_may_wrap_the_one_that_it_replaces(tiny: nn.Module) -> None:
    replace(tiny, "conv", nn.Sequential(get(tiny, "conv"), nn.ReLU()), input_shape=TINY)
    assert kinds(tiny, "conv") == ["Conv2d", "ReLU"]


# Heads


@pytest.mark.parametrize("name", ["net", "net-modules", "resnet18", "cnn", "alexnet-small"])
def test_own_networks_get_a_new_head(name: str) -> None:
    with torch.device("meta"):
        model = build_model(name, num_classes=10, in_channels=3, image_size=(32, 32))
        reset_head(model, 4, input_shape=(3, 32, 32))
    require_classes(model, (3, 32, 32), 4)


@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("alexnet", "classifier.6"),
        ("resnet18", "fc"),
        ("mobilenet_v3_small", "classifier.3"),
        ("squeezenet1_1", "classifier.1"),
        ("vit_b_32", "heads.head"),
    ],
)
def test_heads_of_torchvision_are_found(name: str, head: str) -> None:
    with torch.device("meta"):
        model = torchvision_models.get_model(name)
        assert find_head(model) == head
        reset_head(model, 4)
    assert next(reversed(model.state_dict().values())).shape[0] == 4


def test_a_head_of_timm_and_features_without_it() -> None:
    model = build_model("timm:lcnet_035", num_classes=9, in_channels=3, image_size=(32, 32))
    reset_head(model, 4, input_shape=(3, 32, 32))
    require_classes(model, (3, 32, 32), 4)
    assert find_head(model) == "classifier"
    replace(model, "classifier", nn.Identity(), input_shape=(3, 32, 32))
    assert dry_run(model, (3, 32, 32)).shape == (1, 1280)


def test_a_head_of_several_layers_loses_only_its_last() -> None:
    model = timm.create_model("caformer_s18")
    before = model.head.fc.fc1.weight.clone()
    reset_head(model, 4, input_shape=(3, 64, 64))
    assert find_head(model) == "head.fc.fc2"
    assert torch.equal(model.head.fc.fc1.weight, before), "it was trained, and features need it"


@pytest.mark.parametrize("name", ["timm", "torchvision"])
def test_maps_of_swin_are_averaged_over_pixels(name: str) -> None:
    if name == "timm":
        options = {"img_size": 56, "embed_dim": 12, "depths": (1, 1, 1, 1)}
        model = timm.create_model("swin_tiny_patch4_window7_224", num_heads=(1, 2, 4, 8), **options)
    else:
        model = torchvision_models.SwinTransformer(
            [4, 4], 12, [1, 1, 1, 1], [1, 2, 4, 8], [7, 7], num_classes=3
        )
    with torch.no_grad(), watched(model.eval()) as sight:
        model(torch.zeros(2, 3, 56, 56))
    widths = {tuple(x.shape) for x in sight.maps.values()}
    assert widths >= {(2, 12), (2, 24), (2, 48), (2, 96)}
    assert all(channels % 12 == 0 for _, channels in widths)


def test_a_last_layer_that_is_not_called_last_is_refused_and_put_back() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last, self.first = nn.Linear(4, 3), nn.Linear(2, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.last(self.first(x))

    model = Odd()
    old = model.first
    with pytest.raises(UsageError, match="'first' is not the last layer"):
        reset_head(model, 5, input_shape=(2,))
    assert model.first is old
    with pytest.raises(UsageError, match="no linear layer and no convolution"):
        reset_head(nn.Sequential(nn.ReLU()), 5)


# Freezing


def test_a_frozen_norm_stays_as_it_is_in_train_mode(tiny: nn.Module) -> None:
    norm = get(tiny, "norm")
    freeze(tiny, "conv", "norm")
    for network in (tiny, copy.deepcopy(tiny), pickle.loads(pickle.dumps(tiny))):
        network.train()
        held = get(network, "norm")
        network(torch.randn(8, *TINY))
        assert not held.training
        assert held.num_batches_tracked == 0
        assert network.training
    tiny.eval()
    unfreeze(tiny, "nor?")
    assert not norm.training, "the network is in eval mode"
    tiny.train()
    tiny(torch.randn(8, *TINY))
    assert norm.num_batches_tracked == 1
    assert [row.name for row in trainable(tiny).rows if not row.trainable] == [
        "conv.weight",
        "conv.bias",
    ]


def test_a_norm_is_held_only_if_all_of_it_is_frozen(tiny: nn.Module) -> None:
    freeze(tiny, "*.bias")
    assert get(tiny, "norm").train().training
    freeze(tiny, "norm.weight")
    assert not get(tiny, "norm").train().training
    bare = nn.Sequential(nn.BatchNorm2d(3, affine=False), nn.Conv2d(3, 2, 1))
    freeze(bare, "0")
    assert not bare.train()[0].training


def test_freezing_is_seen_in_the_table_and_nowhere_in_the_weights(tiny: nn.Module) -> None:
    names = list(tiny.state_dict())
    freeze(tiny, "*")
    with pytest.raises(UsageError, match="every parameter is frozen: nothing would train"):
        require_trainable(tiny)
    unfreeze(tiny, "head")
    require_trainable(tiny)
    table = trainable(tiny)
    assert (table.trainable, table.parameters) == (290, 410)
    assert table.lines()[1].split() == ["conv.weight", "4x3x3x3", "108", "frozen"]
    assert table.lines()[-1] == "290 of 410 numbers train (70.7%)"
    assert table.to_dict()["rows"][-1] == {
        "name": "head.bias", "shape": [2], "parameters": 2, "trainable": True,
    }  # fmt: skip
    assert list(tiny.state_dict()) == names


# Weights leave for plain PyTorch, and the guide


def bird_file(path: Path) -> Classifier:
    """Save a classifier as the guide's first lines find it."""
    module = build_model("net-modules", num_classes=2, in_channels=3, image_size=(32, 32))
    preprocess = Preprocess(
        height=32, width=32, channels=3, resize="crop", mean=(0.5,) * 3, std=(0.25,) * 3
    )
    card = {"model": {"name": "net-modules", "args": {}}, "config": None, "data": None}
    Classifier(module, ["airplane", "bird"], preprocess, card).save(path)
    return load_classifier(path)


def test_the_guide_runs_and_its_own_network_gives_the_same_logits(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    classifier = bird_file(tmp_path / "birds.safetensors")
    names: dict[str, object] = {}
    blocks = re.findall(r"```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), flags=re.S)
    assert len(blocks) >= 5
    for block in blocks:
        exec(compile(block, "surgery.md", "exec"), names)
    shown = capsys.readouterr().out
    for line in re.findall(r"^# prints: (.*)$", "\n".join(blocks), flags=re.M):
        assert line in shown
    plain = names["plain"]
    assert isinstance(plain, nn.Module)
    assert type(classifier.module) is nn.Sequential
    images = torch.randint(0, 256, (5, 32, 32, 3), dtype=torch.uint8)
    with torch.no_grad():
        logits = plain(classifier.preprocess.normalize(images))
    assert torch.allclose(logits, classifier.logits(images), atol=1e-6)
