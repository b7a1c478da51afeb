"""What `nunbit explain` says is true: fields, attributions, dead units, folded blocks, lessons."""

import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import nunbit
from conftest import noisy_picture
from nunbit.cli import main
from nunbit.data.preprocess import Preprocess
from nunbit.errors import CannotCreateError, DataError, MissingInputError, UsageError
from nunbit.explaining import saliency
from nunbit.explaining.activations import measure_layers
from nunbit.explaining.convolution import EXAMPLES, draw_convolution
from nunbit.explaining.diagram import draw_network
from nunbit.explaining.drawing import kernels, signed_over, tiles
from nunbit.explaining.folding import Box, cards, fold
from nunbit.explaining.layers import cam_layer, first_weight
from nunbit.explaining.network import DIAGRAM, draw_architecture
from nunbit.explaining.parameters import ask
from nunbit.explaining.trace import trace
from nunbit.models.registry import build_model


def build(name: str, size: int = 32, channels: int = 3, **args: object) -> nn.Module:
    torch.manual_seed(0)
    return build_model(
        name, num_classes=4, in_channels=channels, image_size=(size, size), args=args
    ).eval()  # type: ignore[arg-type]


def save_run(folder: str, name: str) -> nunbit.Classifier:
    """Write what `explain` reads of a run on the digits, with random weights."""
    module = build(name, 8, 1, width=8)
    preprocess = Preprocess(height=8, width=8, channels=1, resize="crop", mean=(0.3,), std=(0.4,))
    card = {"model": {"name": name, "args": {"width": 8}}, "recipe": "digits/cnn"}
    classifier = nunbit.Classifier(module, ("a", "b", "c", "d"), preprocess, card)
    Path(folder).mkdir()
    classifier.save(Path(folder) / "model.safetensors")
    return classifier


def picture(size: int = 32) -> Tensor:
    return torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(1))


# ---- the trace


def test_the_trace_sees_functions_and_counts_every_parameter_once() -> None:
    model = build("net")
    steps = trace(model, picture()).steps
    assert [s.operation.label for s in steps] == [
        "conv 3×3, 3 → 16", "max pool 2×2", "tanh", "conv 3×3, 16 → 8", "max pool 2×2", "tanh",
        "flatten", "linear 512 → 32", "tanh", "linear 32 → 4",
    ]  # fmt: skip
    assert [s.name for s in steps if s.parameters] == ["conv1", "conv2", "fc1", "fc2"]
    fields = [(3, 3), (4, 4), (4, 4), (8, 8), (10, 10), (10, 10), (10, 10), *[(32, 32)] * 3]
    assert [s.field for s in steps] == fields, "a flattened value is one value of the map"
    assert sum(s.operation.multiply_adds for s in steps) == (
        32 * 32 * 16 * 27 + 16 * 16 * 8 * 144 + 512 * 32 + 32 * 4
    )


def test_a_fully_connected_network_sees_pixels_until_its_first_linear_layer() -> None:
    steps = trace(build("mlp"), picture()).steps
    assert [s.operation.label for s in steps[:2]] == ["flatten", "linear 3,072 → 512"]
    assert [s.field for s in steps[:2]] == [(1, 1), (32, 32)]
    by_pixel = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.Flatten(2), nn.Linear(900, 900), nn.Linear(900, 5)
    )
    assert trace(by_pixel, picture()).steps[-1].field == (3, 3)


def test_the_largest_value_of_a_map_is_a_pooling() -> None:
    steps = trace(build("speednet"), picture()).steps
    (pool,) = [s for s in steps if s.operation.label.startswith("max pool to")]
    assert (pool.operation.label, pool.operation.role) == ("max pool to 1×1", "pool")
    assert (pool.operation.sees_all, pool.is_map) == (True, False)
    assert "amax" not in [s.operation.label for s in steps]


@pytest.mark.parametrize(
    "name", ["cnn", "net-res", "alexnet-small", "mlp-deep", "torchvision:squeezenet1_1"]
)
def test_parameters_of_all_steps_are_those_of_the_network(name: str) -> None:
    model = build(name)
    found = trace(model, picture())
    counted = sum(s.parameters for s in found.steps if not s.is_repeated)
    assert counted == sum(p.numel() for p in model.parameters())
    with torch.no_grad():
        assert torch.equal(found.outputs[-1].flatten(), model(picture()).flatten())


def test_the_receptive_field_is_what_gradients_reach() -> None:
    model = nn.Sequential(
        nn.Conv2d(1, 1, 5, stride=2, padding=2), nn.AvgPool2d(3, stride=1),
        nn.Conv2d(1, 1, 3, dilation=2, padding=2), nn.AvgPool2d(2),
    )  # fmt: skip  # a small network
    for parameter in model.parameters():
        nn.init.ones_(parameter)
    x = torch.zeros(1, 1, 64, 64, requires_grad=True)
    step = trace(model, x.detach()).steps[-1]
    y = model(x)
    one, other = (y[0, 0, y.shape[2] // 2, y.shape[3] // 2 + i] for i in (0, 1))
    reached = torch.autograd.grad(one, x, retain_graph=True)[0][0, 0] != 0
    moved = torch.autograd.grad(other, x)[0][0, 0] != 0
    rows, columns = reached.nonzero().T
    assert (int(rows.max() - rows.min()) + 1, int(columns.max() - columns.min()) + 1) == step.field
    assert int(moved.nonzero().T[1].min() - columns.min()) == step.jump[1]


class Attention(nn.Module):
    """Attends to pixels with themselves, by one function or by two matrix products."""

    def __init__(self, *, is_whole: bool) -> None:
        super().__init__()
        self.is_whole = is_whole

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(2).transpose(1, 2)[:, None]  # (B, 1 head, N, d)
        if self.is_whole:
            return nn.functional.scaled_dot_product_attention(tokens, tokens, tokens)
        return (tokens @ tokens.transpose(2, 3)).softmax(-1) @ tokens


@pytest.mark.parametrize("is_whole", [True, False])
def test_multiplications_of_attention_count(is_whole: bool) -> None:
    steps = trace(Attention(is_whole=is_whole), picture(8)).steps
    assert sum(step.operation.multiply_adds for step in steps) == 2 * 64 * 64 * 3


@pytest.mark.parametrize("need_weights", [True, False])
def test_the_trace_looks_into_multi_head_attention(need_weights: bool) -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(6, 2, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            tokens = x.flatten(2).transpose(1, 2).repeat(1, 1, 2)  # (B, N, 6)
            out: Tensor = self.attention(tokens, tokens, tokens, need_weights=need_weights)[0]
            return out

    steps = trace(Block().eval(), picture(4)).steps
    linear = [s.operation.label for s in steps if s.operation.role == "linear"]
    assert linear == ["linear 6 → 18", "linear 6 → 6"]
    counted = sum(step.operation.multiply_adds for step in steps)
    assert counted == 16 * 6 * 18 + 2 * 16 * 16 * 6 + 16 * 6 * 6
    assert torch.backends.mha.get_fastpath_enabled()


def test_what_a_later_step_overwrites_is_kept() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True))
    found = trace(model, picture())
    assert found.outputs[0].min() < 0 == found.outputs[1].min()


class Centred(nn.Module):
    """Takes numbers without a batch from its picture: a mean, and one row for a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.with_bias, self.without = nn.Linear(3 * 32 * 32, 5), nn.Linear(5, 4, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        row = (x - x.mean() * torch.sigmoid(x.mean((1, 2, 3)))).flatten()
        logits: Tensor = self.without(torch.tanh(self.with_bias(row)))[None]
        return logits


def test_numbers_without_a_batch_are_steps_too() -> None:
    model = Centred().eval()
    steps = trace(model, picture()).steps
    labels = [step.operation.label for step in steps]
    assert {"linear 3,072 → 5", "linear 5 → 4"} <= set(labels)
    assert steps[0].shape == (1,), "the mean over the whole picture"
    assert sum(step.operation.multiply_adds for step in steps) == 3 * 32 * 32 * 5 + 5 * 4
    assert "5 → 4" in draw_architecture("centred", model, 3, (32, 32)).files[DIAGRAM].decode()
    assert [found.units for found in measure_layers(model, picture(), [0])][-1] == 4


def test_stages_end_at_the_last_map_of_each_size() -> None:
    found = trace(build("resnet18", width=4), picture())
    assert [found.steps[at].shape for at in found.stage_ends()] == [
        (4, 32, 32), (8, 16, 16), (16, 8, 8), (32, 4, 4)
    ]  # fmt: skip
    assert {found.steps[at].operation.label for at in found.stage_ends()} == {"ReLU"}


# ---- the diagram


def test_equal_blocks_are_folded_and_counted() -> None:
    model = build("net-resdeep", width=4, blocks=12)
    found = trace(model, picture())
    (box,) = (node for node in fold(found).nodes if isinstance(node, Box))
    assert (box.kind, box.repeats, box.is_shared) == ("ResBlock", 12, False)
    assert box.parameters == 12 * (4 * 4 * 9 + 2 * 4)
    shared = trace(build("net-resdeep", width=4, blocks=12, shared=True), picture())
    (box,) = (node for node in fold(shared).nodes if isinstance(node, Box))
    assert (box.repeats, box.is_shared, box.parameters) == (12, True, 4 * 4 * 9 + 2 * 4)


def test_a_network_of_many_blocks_is_closed_and_loses_no_parameters() -> None:
    model = build("torchvision:densenet121")
    nodes = fold(trace(model, picture())).nodes
    closed = [card for card in cards(nodes) if card.summary]
    assert closed[0].summary == "_DenseBlock: 12 conv"
    steps = trace(model, picture()).steps
    open_ones = [s for c in cards(nodes) if not c.summary for s in (steps[p] for p in c.positions)]
    total = sum(c.parameters for c in closed) + sum(s.parameters for s in open_ones)
    assert total == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("name", ["net", "cnn", "net-resdeep", "resnet18", "torchvision:googlenet"])
def test_the_diagram_is_svg_of_a_page(name: str) -> None:
    args = {"blocks": 20} if name == "net-resdeep" else {}
    found = trace(build(name, **args), picture())
    folded = fold(found)
    assert len(cards(folded.nodes)) <= 60
    text = draw_network(found, folded, "a <b> title")
    root = ET.fromstring(text)
    words = {node.text for node in root.iter("{http://www.w3.org/2000/svg}text")}
    assert {"picture", "one score for each class"} <= words
    assert ("× 20" in words) == (name == "net-resdeep")
    assert (text.count("line skip") > 0) == (name in ("cnn", "net-resdeep", "resnet18"))


# ---- saliency


def test_grad_cam_of_a_network_that_can_be_computed_by_hand() -> None:
    conv, head = nn.Conv2d(3, 5, 3, padding=1), nn.Linear(5, 4)
    model = nn.Sequential(conv, nn.AdaptiveAvgPool2d(1), nn.Flatten(), head).eval()
    with torch.no_grad():
        maps, weights = conv(picture())[0], head.weight[2] / (32 * 32)
        expected = (weights[:, None, None] * maps).sum(0).clamp(min=0)
    found = saliency.grad_cam(model, conv, picture(), 2)
    assert torch.allclose(found, expected, atol=1e-7)
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize(
    "name",
    ["net", "cnn", "resnet18", "alexnet-small", "torchvision:squeezenet1_1", "timm:resnet10t"],
)
def test_grad_cam_agrees_with_captum(name: str) -> None:
    attr = pytest.importorskip("captum.attr", reason="needs nunbit[explain]")
    size = 64 if ":" in name else 32
    model = build(name, size, **({"width": 8} if name == "resnet18" else {}))
    x = picture(size)
    layer = model.get_submodule(cam_layer(model, trace(model, x), None).name)
    for target in (0, 3):
        ours = saliency.grad_cam(model, layer, x, target)
        theirs = attr.LayerGradCam(model, layer).attribute(x, target, relu_attributions=True)
        assert (ours - theirs[0, 0].detach()).abs().max() < 1e-4 * max(
            1, float(theirs.detach().max())
        )


def test_integrated_gradients_sum_to_the_change_of_the_score() -> None:
    linear = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 4))
    x, black = picture(), torch.full((1, 3, 32, 32), -2.0)
    one = saliency.integrated_gradients(linear, x, black, 1, steps=1)
    expected = linear[1].weight[1].detach().view(3, 32, 32) * (x - black)[0]
    assert torch.allclose(one.values, expected, atol=1e-6), "exact where the network is linear"
    for name in ("net", "cnn", "mlp"):
        found = saliency.complete_gradients(build(name), x, black, 2)
        assert found.gap <= 0.01, name
        assert float(found.values.sum()) == pytest.approx(found.score_change, rel=0.01)


@pytest.mark.parametrize(
    ("total", "change", "share"),
    [(2.1, 2.0, 1.05), (6.0, 2.0, 3.0), (-1.0, -2.0, 0.5), (1.0, -2.0, -0.5), (0.0, 0.0, 1.0)],
)
def test_the_share_of_the_score_that_gradients_reach_has_a_sign(
    total: float, change: float, share: float
) -> None:
    found = saliency.Integrated(torch.full((1, 1, 1), total), change, 32)
    assert found.share == pytest.approx(share, abs=1e-6)
    assert found.gap == pytest.approx(abs(share - 1), abs=1e-6)


def test_integrated_gradients_agree_with_captum() -> None:
    attr = pytest.importorskip("captum.attr", reason="needs nunbit[explain]")
    model, x = build("net"), picture()
    ours = saliency.integrated_gradients(model, x, torch.zeros_like(x), 1, steps=100).values
    theirs = attr.IntegratedGradients(model).attribute(
        x, 0, 1, n_steps=100, method="riemann_middle"
    )
    assert torch.allclose(ours, theirs[0].float(), atol=1e-6)


def test_occlusion_finds_the_only_part_that_matters() -> None:
    class Corner(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            score = x[:, :, :8, :8].mean((1, 2, 3))
            return torch.stack([score, -score], dim=1)

    x = torch.zeros(1, 3, 32, 32)
    x[:, :, :8, :8] = 4.0
    found = saliency.occlusion(Corner(), x, 0)
    assert found.drop.shape == (32, 32)
    assert found.drop[:8, :8].min() > 0 == found.drop[16:].abs().max()
    assert found.before == pytest.approx(1 / (1 + np.exp(-8.0)))
    assert found.lowest < found.before


def test_a_certain_network_still_has_an_occlusion_map() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 2))
    nn.init.constant_(model[1].weight, 9.0)
    model[1].weight.data[1] *= -1
    x = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    assert saliency.occlusion(model, x, 0).drop.abs().max() > 0, "the probability is 1 throughout"


# ---- layers


def test_grad_cam_needs_maps_near_the_end() -> None:
    mlp = build("mlp")
    assert "no convolution" in cam_layer(mlp, trace(mlp, picture()), None).reason
    vit = build("timm:test_vit", 160)
    assert "say little" in cam_layer(vit, trace(vit, picture(160)), None).reason
    net = build("net")
    assert cam_layer(net, trace(net, picture()), "conv1").name == "conv1"
    with pytest.raises(UsageError, match="did you mean 'conv2'"):
        cam_layer(net, trace(net, picture()), "conv3")


def test_units_of_maps_of_one_pixel_are_channels() -> None:
    torch.manual_seed(0)
    squeeze = (nn.AdaptiveAvgPool2d(1), nn.Conv2d(4, 7, 1), nn.ReLU())
    model = nn.Sequential(nn.Conv2d(3, 4, 3), *squeeze, nn.Flatten(), nn.Linear(7, 2)).eval()
    with torch.no_grad():
        model[2].bias[:3] = -1e6
    found = {
        step.operation.label: statistics
        for step, statistics in zip(
            trace(model, picture()).steps, measure_layers(model, picture(), [0]), strict=True
        )
    }
    assert found["ReLU"].units == 7
    assert 3 <= (found["ReLU"].dead or 0) <= 7


def test_maps_whose_channels_are_last_are_not_taken_for_grad_cam() -> None:
    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 6, 3, padding=1), nn.LayerNorm(6)

        def forward(self, x: Tensor) -> Tensor:
            return self.norm(self.conv(x).permute(0, 2, 3, 1))

    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last, self.head = Last(), nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.last(x).mean((1, 2)))

    model = Whole().eval()
    assert cam_layer(model, trace(model, picture()), None).name in ("last.conv", "")
    assert "last" not in [name for name, _ in trace(model, picture()).map_layers]


def test_dead_units_are_counted() -> None:
    conv = nn.Conv2d(3, 6, 3, padding=1)
    nn.init.zeros_(conv.bias)
    conv.bias.data[:2] = -100.0
    model = nn.Sequential(conv, nn.ReLU(), nn.Flatten(), nn.Linear(6 * 32 * 32, 3), nn.Tanh())
    nn.init.constant_(model[3].bias, 50.0)
    found = measure_layers(model, torch.cat([picture(), -picture()]), [0, 1])
    assert (found[1].dead, found[1].units) == (2, 6)
    assert found[1].zeros > 2 / 6
    assert (found[4].dead, found[4].units) == (3, 3), "saturated in every picture"
    assert found[0].gradient == 0.0, "nothing is learned through saturated units"
    assert found[0].dead is None
    assert found[1].gradient is None
    norm = nn.Sequential(nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(3 * 32 * 32, 3)).eval()
    assert [f.gradient is None for f in measure_layers(norm, picture(), [0])] == [True, True, False]


def test_first_weights_of_a_fully_connected_network_are_pictures() -> None:
    mlp = build("mlp", width=7)
    name, weight = first_weight(mlp, trace(mlp, picture())) or ("", torch.empty(0))
    assert (name, weight.shape) == ("hidden.0", (7, 3, 32, 32))
    assert kernels(weight).shape[2] == 4


def test_drawings_are_symmetric_around_zero() -> None:
    values = torch.tensor([[-2.0, 0.0], [0.0, 2.0]])
    white = np.full((2, 2, 3), 255, np.uint8)
    drawn = signed_over(white, values).astype(int)
    blue, red = drawn[0, 0], drawn[-1, -1]
    assert blue[2] > blue[0]
    assert red[0] > red[2]
    assert drawn[0, -1].tolist() == drawn[-1, 0].tolist() == [240, 240, 240]
    assert tiles(torch.zeros(3, 4, 4)).shape[2] == 4, "maps of zeros are no division by zero"


# ---- runs


def test_a_run_is_explained(tmp_path: Path) -> None:
    classifier = save_run("r", "net")
    noisy_picture((90, 90, 90), 0, (12, 12)).save(tmp_path / "a.png")
    explained = nunbit.explain("r", ["a.png", np.zeros((9, 9), np.uint8)], quiet=True)
    assert explained.folder == Path("r-explained")
    assert all(path.stat().st_size for path in explained.files)
    names = {path.name for path in explained.files}
    assert names >= {
        "explanation.html", "architecture.svg", "kernels.png", "1-a-input.png", "1-a-grad-cam.png",
        "1-a-integrated-gradients.png", "1-a-occlusion.png", "1-a-stage-1.png",
        "2-picture-2-input.png",
    }  # fmt: skip
    said = explained.to_dict()
    predicted = nunbit.predict("r", "a.png")[0]
    assert said["pictures"][0]["label"] == predicted.label
    assert said["pictures"][0]["probability"] == pytest.approx(predicted.probability, abs=1e-5)
    assert said["pictures"][0]["integrated_gradients_gap"] <= 0.01
    assert said["grad_cam_layer"] == "conv2"
    assert said["parameters"] == sum(p.numel() for p in classifier.module.parameters())
    assert sum(row["dead_units"] is not None for row in said["layers"]) == 3, "three tanh"
    page = explained.page.read_text()
    assert not re.findall(r'(?:src|href)="(?!data:)', page), "the page needs no other file"
    assert "prefers-color-scheme" in page
    again = nunbit.explain("r", "a.png", quiet=True)
    assert again.folder == Path("r-explained-2"), "nothing is overwritten"


def test_a_folder_of_pictures_is_read_as_far_as_it_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nunbit.explaining.subject.MAX_MEASURED", 3)
    save_run("run", "cnn")
    Path("holiday").mkdir()
    for i in range(3):
        noisy_picture((90, 90, 90), i, (8, 8)).save(f"holiday/{i}.png")
    Path("holiday/4.png").write_bytes(b"broken, and behind what is shown")
    found = nunbit.explain("run", "holiday", quiet=True)
    page = found.page.read_text()
    assert "measured on 3 pictures" in page
    assert re.search(r"\b4 pictures", page)


def test_what_cannot_be_read_in_a_folder_is_named_and_passed_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nunbit.explaining.subject.MAX_MEASURED", 3)
    save_run("run", "cnn")
    Path("holiday").mkdir()
    Path("holiday/0.heic").write_bytes(b"")
    for i in range(1, 4):
        noisy_picture((90, 90, 90), i, (8, 8)).save(f"holiday/{i}.png")
    found = nunbit.explain("run", "holiday")
    assert [one["path"] for one in found.to_dict()["pictures"]] == [
        f"holiday/{i}.png" for i in range(1, 4)
    ]
    assert "measured on 3 pictures" in found.page.read_text(), "it takes no place of the three"
    assert "left out holiday/0.heic: the file is empty" in capsys.readouterr().err
    for path in Path("holiday").glob("*.png"):
        path.write_bytes(b"")
    assert main(["explain", "run", "holiday"]) == 65
    line = "nunbit: no picture can be read; holiday/0.heic: the file is empty\n"
    assert capsys.readouterr().err == line
    with pytest.raises(DataError, match=r"holiday/0\.heic cannot be read"):
        nunbit.explain("run", ["holiday/0.heic"], quiet=True)


def test_a_folder_that_cannot_be_had_is_refused_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nunbit.explaining.subject._network", lambda *_: pytest.fail("worked"))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    for out, says in (("full", "not empty"), ("full/mine.txt/sub", "Not a directory")):
        with pytest.raises(CannotCreateError, match=says):
            nunbit.explain("net", out=out, quiet=True)


def test_dots_belong_to_the_name_of_a_run() -> None:
    for name in ("lr0.1", "lr0.01"):
        save_run(name, "mlp")
        assert nunbit.explain(name, quiet=True).folder == Path(f"{name}-explained")
        file = Path(name) / "model.safetensors"
        assert nunbit.explain(file, quiet=True).folder == Path(name) / "model-explained"


def test_the_current_folder_may_be_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_run("run", "cnn")
    monkeypatch.chdir("run")
    assert nunbit.explain(".", quiet=True).folder.resolve() == tmp_path / "run-explained"


def test_a_fully_connected_run_says_that_grad_cam_is_missing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    save_run("m", "mlp")
    Image.new("L", (8, 8), 200).save("a.png")
    assert main(["explain", "m", "a.png", "--out", "e", "--json"]) == 0
    out = capsys.readouterr().out
    said = json.loads(out)
    assert out.count("\n") == 1
    assert said["grad_cam_layer"] is None
    assert not [name for name in said["files"] if "grad-cam" in name]
    assert [name for name in said["files"] if "integrated-gradients" in name]
    assert (
        "Grad-CAM is not available: this network has no convolution"
        in Path("e/explanation.html").read_text()
    )


def test_a_network_is_drawn_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "net", "--model.width", "32", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["files"] == ["explain-net/explanation.html", "explain-net/architecture.svg"]
    assert said["parameters"] == 38_386
    assert said["layers"][0]["receptive_field"] == [3, 3]
    found = nunbit.explain("cnn", size=16, channels=1, classes=10, quiet=True)
    assert found.facts["layers"][0]["output_shape"] == [32, 16, 16]


def test_wrong_input_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_run("r", "net")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "two").mkdir()
    for name in ("a.png", "b.png"):
        Image.new("RGB", (9, 9)).save(tmp_path / "two" / name)
    for words, code, hint in (
        (["nett"], 66, "did you mean 'net'"),
        (["full"], 66, "holds no model.safetensors"),
        (["r", "none.png"], 66, "none.png"),
        (["r", "text.png"], 65, "not a picture: text"),
        (["net", "a.png"], 2, "without trained weights"),
        (["net", "--layer", "conv1"], 2, "--layer does not apply"),
        (["r", "--classes", "3"], 2, "--classes does not apply"),
        (["r", "--layer", "conv9"], 2, "did you mean 'conv"),
        (["net", "--out", "full"], 73, "not empty"),
        (["net", "--classes", "0"], 2, "1 to 100000"),
        (["net", "--size", "2"], 2, "needs 4 pixels"),
        (["net", "--optim.lr", "1"], 2, "not used by explain"),
        (["net", "--model.name", "cnn"], 2, "'model.name' is not used by explain"),
        (["net", "--model.weights", "pretrained"], 2, "not used by explain"),
        (["basics/linear", "a.png"], 2, "takes no pictures"),
        (["basics/convolution", "two"], 2, "takes one picture"),
        (["basics/convolution", "--size", "9"], 2, "does not apply to a lesson"),
    ):
        assert main(["explain", *words]) == code, words
        out, err = capsys.readouterr()
        assert out == ""
        assert err.count("\n") == 1, err
        assert hint in err, err
    assert sorted(p.name for p in (tmp_path / "full").iterdir()) == ["mine.txt"]
    assert not list(tmp_path.glob("explain-*")), "what fails leaves no folder"
    with pytest.raises(CannotCreateError):
        nunbit.explain("net", out=tmp_path / "text.png")
    with pytest.raises(MissingInputError):
        nunbit.explain("no/such/run")


# ---- lessons


def test_the_convolution_lesson_gives_the_texts_shapes() -> None:
    drawn = draw_convolution(None, None)
    assert drawn.facts["shapes"] == {
        "the_picture": [1, 3, 32, 32], "no_padding": [1, 16, 30, 30], "padding": [1, 16, 32, 32],
        "averaging": [1, 1, 32, 32], "vertical_edges": [1, 1, 32, 32],
        "max_pooling": [1, 3, 16, 16], "average_pooling": [1, 3, 16, 16], "stride": [1, 1, 16, 16],
    }  # fmt: skip
    assert (
        "conv = nn.Conv2d(3, 16, kernel_size=3)\ny = conv(x)</pre>"
        in drawn.files["explanation.html"].decode()
    )


def test_the_kernels_of_the_lesson_do_what_they_are_named_after() -> None:
    run = {function.__name__: function for function in EXAMPLES}
    x = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        mean = run["averaging"](x)[0, 0, 1, 1]
        step = torch.zeros(1, 3, 32, 32)
        step[..., 16:] = 1.0
        edges = run["vertical_edges"](step)[0, 0, 10]
        rows_only = run["vertical_edges"](step.transpose(2, 3))[0, 0, 1:-1, 1:-1]
    assert float(mean) == pytest.approx(float(x[0, :, :3, :3].mean()), abs=1e-6)
    assert edges[[14, 15, 16, 17]].tolist() == [0.0, 9.0, 9.0, 0.0]
    assert rows_only.abs().max() == 0, "it is blind for horizontal edges"


def test_the_linear_lesson_asks_pytorch() -> None:
    assert [(a.kind, *a.says()) for a in ask()] == [
        ("Parameter", True, True, True, True),
        ("Buffer", False, False, True, True),
        ("plain tensor", False, False, False, False),
    ]


def test_lessons_are_explained_and_not_trained(capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("RGB", (50, 40), (200, 30, 30)).save("red.png")
    assert main(["explain", "basics/convolution", "red.png"]) == 0
    assert "[1, 16, 30, 30]" in capsys.readouterr().out
    assert main(["explain", "basics/linear"]) == 0
    assert "updated by the optimizer?" in capsys.readouterr().out
    assert "| Buffer | no | no | yes | yes |" in Path("explain-basics-linear/linear.md").read_text()
    assert main(["train", "basics/convolution"]) == 2
    assert "write: nunbit explain basics/convolution" in capsys.readouterr().err
    assert main(["recipes"]) == 0
    assert "basics/linear" in capsys.readouterr().out


@pytest.mark.parametrize(("what", "code"), [(".", 66), ("", 2), ("/", 66)])
def test_a_folder_that_is_no_run_is_one_line(
    what: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["explain", what]) == code
    assert len(capsys.readouterr().err.splitlines()) == 1
