"""Pretrained networks: the zoos' own preprocessing, weights that fit, and never random ones."""

import dataclasses
import hashlib
import io
import sys
import urllib.error
from collections.abc import Callable
from http.client import IncompleteRead
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from PIL import Image
from sklearn.datasets import load_sample_images
from torch import Tensor, nn
from torchvision import models as torchvision_models

from nunbit.bundle import Classifier
from nunbit.config import ModelConfig, RunConfig
from nunbit.data.decode import decode
from nunbit.data.pictures import Pictures
from nunbit.data.pixels import load
from nunbit.data.preprocess import Preprocess
from nunbit.errors import DataError, MissingInputError, NunbitError, UsageError
from nunbit.modelfile import load_classifier
from nunbit.models import catalog
from nunbit.models import pretrained as pretrained_module
from nunbit.models.catalog import find_entry
from nunbit.models.head import reset_head
from nunbit.models.pretrained import LITE0, LITE0_PACKAGE, Weights, current_names, installed_weights
from nunbit.start import preprocess_of
from nunbit.zoo import load_pretrained

TINY = "timm:test_resnet"  # a real network of timm's with half a million parameters
needs_lite0 = pytest.mark.skipif(
    find_spec(LITE0_PACKAGE) is None, reason="needs pip install 'nunbit[offline]'"
)


@pytest.fixture(scope="module")
def photos() -> list[Image.Image]:
    """Two real photographs, 640x427, and parts of them with odd sizes and all orientations."""
    china, flower = (Image.fromarray(array) for array in load_sample_images().images)
    boxes = [(3, 5, 98, 222), (100, 40, 600, 341), (0, 0, 224, 224), (10, 10, 29, 75)]
    return [china, flower, *(china.crop(box) for box in boxes)]


@pytest.fixture(autouse=True)
def _no_hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the tests out of the user's cache of the hub."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))


@pytest.fixture(scope="module")
def tensors() -> dict[str, Tensor]:
    """Return weights that fit TINY."""
    torch.manual_seed(0)
    return timm.create_model(TINY.partition(":")[2]).state_dict()


@pytest.fixture
def file(tensors: dict[str, Tensor], tmp_path: Path) -> Path:
    safetensors.torch.save_file(tensors, tmp_path / "tiny.safetensors")
    return tmp_path / "tiny.safetensors"


# The preprocessing


@pytest.mark.parametrize(
    "name",
    [
        "tf_efficientnet_lite0",
        "resnet50.a1_in1k",
        "resnet50.tv_in1k",
        "dm_nfnet_f0",
    ],
)
def test_pixels_are_those_of_timm_to_the_bit(name: str, photos: list[Image.Image]) -> None:
    entry = find_entry(f"timm:{name}")
    data = timm.data.resolve_data_config({}, pretrained_cfg=timm.get_pretrained_cfg(name).to_dict())
    whole = timm.data.create_transform(**data)
    bare = timm.data.create_transform(**data, normalize=False)
    for photo in photos:
        pixels = entry.preprocess.to_pixels(photo)
        assert np.array_equal(pixels, bare(photo).permute(1, 2, 0).numpy())
        x = entry.preprocess.normalize(torch.from_numpy(pixels.copy())[None])[0]
        assert (x - whole(photo)).abs().max() < 1e-5


@pytest.mark.parametrize("name", ["alexnet", "resnet50.IMAGENET1K_V1", "resnet50", "swin_t"])
def test_pixels_are_those_of_torchvision(name: str, photos: list[Image.Image]) -> None:
    entry = find_entry(f"torchvision:{name}")
    transform = torchvision_models.get_model_weights(name.split(".")[0])[entry.tag].transforms()
    for photo in photos:
        pixels = torch.from_numpy(entry.preprocess.to_pixels(photo).copy())
        x = entry.preprocess.normalize(pixels[None])[0]
        assert (x - transform(photo)).abs().max() < 1e-5


def test_the_statistics_that_inception_makes_itself_are_those_of_its_input() -> None:
    entry = find_entry("torchvision:inception_v3")
    usual = torchvision_models.Inception_V3_Weights.DEFAULT.transforms()
    x = torch.rand(1, 4, 4, 3) * 255
    ours = entry.preprocess.normalize(x)
    theirs = (x / 255 - torch.tensor(usual.mean)) / torch.tensor(usual.std)
    with torch.device("meta"):
        network = torchvision_models.Inception3(transform_input=True, init_weights=False)
    assert torch.allclose(network._transform_input(theirs.permute(0, 3, 1, 2)), ours, atol=1e-5)


def test_a_reduced_jpeg_differs_by_less_than_a_level(photos: list[Image.Image]) -> None:
    stream = io.BytesIO()
    photos[0].resize((2560, 1708), Image.Resampling.BICUBIC).save(stream, "JPEG", quality=90)
    preprocess = find_entry(LITE0).preprocess
    whole, reduced = (decode(stream.getvalue(), "RGB", near) for near in (0, preprocess.near_side))
    assert reduced.width == whole.width // 2
    assert min(reduced.size) >= 2 * preprocess.resize_to
    pixels = [preprocess.to_pixels(image).astype(int) for image in (whole, reduced)]
    assert np.abs(pixels[0] - pixels[1]).mean() < 1


def test_a_line_of_pixels_does_not_fill_the_memory() -> None:
    preprocess = find_entry(LITE0).preprocess
    line = Image.new("RGB", (16_384, 1), (10, 20, 30))
    assert np.array_equal(preprocess.to_pixels(line)[0, 0], [10, 20, 30])
    assert preprocess.to_pixels(line.transpose(Image.Transpose.ROTATE_90)).shape == (224, 224, 3)


def test_pictures_of_the_input_size_are_resized_and_cut_as_well() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (2, 224, 224, 3), dtype=np.uint8)
    pictures = Pictures(noise, np.zeros(2, dtype=np.int64), ["a", "b"])
    preprocess = find_entry(LITE0).preprocess
    loaded = load(pictures, preprocess, 1, lambda items, _total, _label: iter(items))
    expected = preprocess.to_pixels(Image.fromarray(noise[1]))
    assert np.array_equal(loaded.images.images[1].numpy(), expected)
    assert not np.array_equal(expected, noise[1])


def test_preprocessing_of_older_model_files_means_what_it_meant() -> None:
    old = {
        "height": 8,
        "width": 8,
        "channels": 3,
        "resize": "crop",
        "mean": [0.5] * 3,
        "std": [1] * 3,
    }
    preprocess = Preprocess.from_dict(old)
    assert (preprocess.interpolation, preprocess.resize_to) == ("bilinear", 0)
    for wrong in (
        {"interpolation": "sinc"}, {"interpolation": []}, {"resize_to": 7}, {"resize_to": True},
        {"resize_to": "9"}, {"resize_to": 9.0}, {"resize_to": 10**9},
        {"resize_to": 9, "resize": "pad"},
    ):  # fmt: skip
        with pytest.raises(DataError, match="preprocessing is not understood"):
            Preprocess.from_dict({**old, **wrong})


# What the zoos say


def test_entries_hold_what_the_zoos_say() -> None:
    entry = find_entry("timm:resnet50.tv_in1k")
    assert (entry.model, entry.tag, entry.num_classes) == ("timm:resnet50", "tv_in1k", 1000)
    assert entry.licence == "bsd-3-clause"
    assert entry.source == "timm:resnet50.tv_in1k, https://huggingface.co/timm/resnet50.tv_in1k"
    assert find_entry(LITE0).preprocess == Preprocess(
        height=224, width=224, channels=3, resize="crop", mean=(0.5,) * 3, std=(0.5,) * 3,
        interpolation="bicubic", resize_to=256,
    )  # fmt: skip


def test_a_file_of_torchvision_is_known_by_its_hash() -> None:
    found = [
        find_entry("torchvision:resnet50", sha256=digits + "0" * 56)
        for digits in ("0676ba61", "ffffffff")
    ]
    assert [entry.tag for entry in found] == ["IMAGENET1K_V1", "IMAGENET1K_V2"]
    assert [entry.preprocess.resize_to for entry in found] == [256, 232]


def test_the_file_decides_how_a_run_shows_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "resnet50.pth").write_bytes(b"a file of torchvision's")
    hashed = hashlib.sha256(b"a file of torchvision's").hexdigest()
    monkeypatch.setattr(catalog, "_hash_in", lambda url: hashed[:8] if "0676ba61" in url else "")
    for weights, side in ((str(tmp_path / "resnet50.pth"), 256), ("pretrained", 232)):
        config = RunConfig(model=ModelConfig(name="torchvision:resnet50", weights=weights))
        found = preprocess_of(config)
        assert found is not None
        assert found.resize_to == side


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("net", "'net' has no pretrained weights; allowed: timm:NAME, torchvision:NAME"),
        ("hub:net", "'hub:net' has no pretrained weights"),
        ("timm:resnet19", "timm has no network 'resnet19'; near: resnet18"),
        ("timm:resnet18.a9", "timm has no weights 'resnet18.a9'; near: resnet18.a"),
        ("torchvision:alexnett", "torchvision has no network 'alexnett'; near: alexnet"),
        ("torchvision:alexnet.V2", r"no weights 'alexnet.V2'; near: IMAGENET1K_V1"),
        ("torchvision:../alexnet", "torchvision has no weights|torchvision has no network"),
        ("timm:resnetv2_50x1_bit.goog_distilled_in1k/../x", "timm has no weights"),
    ],
)
def test_an_unknown_name_is_one_line(name: str, text: str) -> None:
    with pytest.raises(UsageError, match=text) as caught:
        load_pretrained(name)
    assert "\n" not in str(caught.value)


def test_a_preprocessing_that_cannot_be_done_is_refused() -> None:
    borders = [
        n for n in timm.list_pretrained() if timm.get_pretrained_cfg(n).crop_mode == "border"
    ]
    with pytest.raises(UsageError, match="resizes by 'border'"):
        find_entry(f"timm:{borders[0]}")


def test_names_that_the_zoos_have_changed_since() -> None:
    def names(model: str, given: list[str], needed: list[str]) -> list[str]:
        weights = Weights("file", "", dict.fromkeys(given, torch.zeros(1)))
        entry = dataclasses.replace(find_entry(LITE0), model=model)
        return list(current_names(weights, entry, needed))

    layer = "features.denseblock1.denselayer2"
    old = [f"{layer}.norm.1.weight", f"{layer}.conv.2.weight", "features.norm0.weight"]
    new = [f"{layer}.norm1.weight", f"{layer}.conv2.weight", "features.norm0.weight"]
    assert names("torchvision:densenet121", old, new) == new
    assert names("torchvision:googlenet", ["fc.bias", "aux1.fc1.bias"], ["fc.bias"]) == ["fc.bias"]
    assert names("timm:swin_tiny", ["a.bias", "a.attn_mask"], ["a.bias"]) == ["a.bias"]
    assert names("timm:resnet18", ["a.bias", "aux1.bias"], ["a.bias"]) == ["a.bias", "aux1.bias"]


# Weights from a file


def test_both_kinds_of_files_give_the_network_its_weights(
    tensors: dict[str, Tensor], file: Path, tmp_path: Path
) -> None:
    torch.save(tensors, tmp_path / "tiny.pth")
    before = torch.get_rng_state()
    for path in (file, tmp_path / "tiny.pth"):
        found = load_pretrained(TINY, path)
        assert not found.module.training
        own = found.module.state_dict()
        assert all(torch.equal(own[name], tensor) for name, tensor in tensors.items())
        assert found.record() == {
            "name": TINY,
            "licence": "not stated",
            "source": f"file {path.name}, taken for timm:test_resnet.r160_in1k",
            "file": path.name,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        }
    assert torch.equal(torch.get_rng_state(), before)


Change = Callable[[dict[str, Tensor]], object]
WRONG: list[tuple[Change, str]] = [
    (lambda t: t.pop("fc.weight"), "holds no weights of timm:test_resnet: fc.weight is missing"),
    (lambda t: t.update(x=torch.zeros(1)), "'x' is foreign"),
    (lambda t: t.update({"fc.bias": torch.zeros(7)}), "fc.bias is 7, needed 1000"),
    (lambda t: t.update({"fc.bias": torch.zeros(1000).long()}), "fc.bias is torch.int64, needed"),
    (
        lambda t: t.update({"fc.bias": torch.full((1000,), torch.nan)}),
        "fc.bias has values that are",
    ),
    (
        lambda t: [t.pop(name) for name in list(t)[:-1]],
        "is missing; .* is missing; and 1?[0-9]+ more",
    ),
]


@pytest.mark.parametrize(("change", "text"), WRONG)
def test_weights_that_do_not_fit_are_refused_in_one_line(
    change: Change, text: str, tensors: dict[str, Tensor], tmp_path: Path
) -> None:
    wrong = dict(tensors)
    change(wrong)
    safetensors.torch.save_file(wrong, tmp_path / "wrong.safetensors")
    with pytest.raises(DataError, match=text) as caught:
        load_pretrained(TINY, tmp_path / "wrong.safetensors")
    assert str(caught.value).startswith("wrong.safetensors")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "error", "text"),
    [
        (None, MissingInputError, "no file"),
        (b"", DataError, "refused: it is empty"),
        (b"\x10\0\0\0\0\0\0\0{'broken'........", DataError, "is damaged"),
        (b"\x80\x02]q\0.", DataError, "refused: it is a pickle"),
    ],
)
def test_files_that_are_no_weights_are_refused(
    content: bytes | None, error: type[NunbitError], text: str, tmp_path: Path
) -> None:
    path = tmp_path / "weights"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(error, match=text):
        load_pretrained(TINY, path)


def test_a_model_file_keeps_the_network_and_its_preprocessing(file: Path, tmp_path: Path) -> None:
    found = load_pretrained(TINY, file)
    reset_head(found.module, 3)
    card = {"model": {"name": found.name, "args": {}}, "config": None, "data": None}
    before = Classifier(found.module, ["a", "b", "c"], found.preprocess, card)
    before.save(tmp_path / "m.safetensors")
    after = load_classifier(tmp_path / "m.safetensors")
    assert after.preprocess == find_entry(TINY).preprocess
    side = found.preprocess.height
    images = torch.randint(0, 256, (2, side, side, 3), dtype=torch.uint8)
    assert torch.equal(after.logits(images), before.logits(images))


# Weights from elsewhere, or none


def test_without_weights_one_line_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrained_module, "LITE0_PACKAGE", "no_such_package")
    with pytest.raises(
        MissingInputError, match=r"no weights of timm:tf_efficientnet_lite0\.in1k here"
    ) as caught:
        load_pretrained()
    for word in ("NUNBIT_OFFLINE", "--weights FILE", "pip install 'nunbit[offline]'"):
        assert word in str(caught.value)
    monkeypatch.delenv("NUNBIT_OFFLINE")
    with pytest.raises(MissingInputError, match="downloads are not allowed"):
        load_pretrained(allow_download=False)

    def no_internet(*_args: object, **_options: object) -> None:
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr("torch.hub.download_url_to_file", no_internet)
    for name in (LITE0, "torchvision:alexnet"):
        with pytest.raises(
            MissingInputError, match=r"cannot be fetched: .*no route to host"
        ) as caught:
            load_pretrained(name)
        assert "\n" not in str(caught.value)


def test_a_download_is_kept_and_its_licence_known(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def download(url: str, target: str, _hash: str | None, *, progress: bool) -> None:
        asked.append(url)
        Path(target).write_bytes(file.read_bytes())

    monkeypatch.delenv("NUNBIT_OFFLINE")
    monkeypatch.setattr("torch.hub.download_url_to_file", download)
    found = [load_pretrained(TINY) for _ in range(2)]
    address = "https://huggingface.co/timm/test_resnet.r160_in1k"
    assert asked == [f"{address}/resolve/main/model.safetensors"]
    assert {pretrained.licence for pretrained in found} == {"apache-2.0"}
    assert found[1].source == f"timm:test_resnet.r160_in1k, {address}"


def test_a_download_that_was_cut_is_not_kept(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = [-1000, None]  # torch does not notice that a connection was closed early

    def download(_url: str, target: str, _hash: str | None, *, progress: bool) -> None:
        Path(target).write_bytes(file.read_bytes()[: sizes.pop(0)])

    monkeypatch.delenv("NUNBIT_OFFLINE")
    monkeypatch.setattr("torch.hub.download_url_to_file", download)
    with pytest.raises(MissingInputError, match=r"cannot be fetched: .*is damaged"):
        load_pretrained(TINY)
    assert load_pretrained(TINY).licence == "apache-2.0"


def test_a_connection_that_ends_early_is_no_internet(monkeypatch: pytest.MonkeyPatch) -> None:
    def download(*_: object, **__: object) -> None:
        raise IncompleteRead(b"")

    monkeypatch.delenv("NUNBIT_OFFLINE")
    monkeypatch.setattr("torch.hub.download_url_to_file", download)
    with pytest.raises(MissingInputError, match="cannot be fetched: IncompleteRead"):
        load_pretrained(TINY)


# The offline default


@pytest.fixture(scope="module")
def lite0() -> nn.Module:
    return load_pretrained(LITE0).module


@needs_lite0
def test_the_installed_weights_are_found_and_their_package_never_runs(lite0: nn.Module) -> None:
    assert LITE0_PACKAGE not in sys.modules
    found = load_pretrained()
    assert found.record()["licence"] == "apache-2.0"
    assert found.sha256.startswith("57934424"), "the digits in the file's name"
    assert installed_weights("timm:resnet18") is None


@needs_lite0
def test_another_file_in_its_place_is_refused(
    file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("nunbit.zoo.installed_weights", lambda _name: file)
    with pytest.raises(DataError, match="is not the file that was published; install it again"):
        load_pretrained()


@needs_lite0
def test_they_are_no_weights_of_another_network() -> None:
    path = installed_weights(LITE0)
    with pytest.raises(DataError, match="holds no weights of timm:test_resnet: conv1"):
        load_pretrained(TINY, path)


@needs_lite0
def test_each_stored_mean_follows_from_the_layers_before_it(lite0: nn.Module) -> None:
    """In training, a norm gives its bias in the mean; the next convolution carries that on."""
    blocks = [block for stage in lite0.blocks for block in stage]
    mean = blocks[0].bn2.bias
    for block in blocks[1:]:
        assert correlation(block.conv_pw.weight[:, :, 0, 0] @ mean, block.bn1.running_mean) > 0.999
        mean = block.bn3.bias + mean if block.has_skip else block.bn3.bias
    assert correlation(lite0.conv_head.weight[:, :, 0, 0] @ mean, lite0.bn2.running_mean) > 0.999
    stem = lite0.conv_stem.weight.sum((2, 3))
    inputs = torch.linalg.lstsq(stem, lite0.bn1.running_mean[:, None]).solution
    assert inputs.max() < -0.04, "of ImageNet's statistics the means would be 0"


def correlation(one: Tensor, other: Tensor) -> float:
    return float(torch.corrcoef(torch.stack([one.detach(), other]))[0, 1])


@needs_lite0
def test_photographs_are_recognised(lite0: nn.Module, photos: list[Image.Image]) -> None:
    preprocess = find_entry(LITE0).preprocess
    pixels = np.stack([preprocess.to_pixels(photo) for photo in photos[:2]])
    with torch.no_grad():
        classes = lite0(preprocess.normalize(torch.from_numpy(pixels))).argmax(1)
    assert classes.tolist() == [698, 985], "palace, daisy"


@needs_lite0
def test_the_packages_own_code_gives_the_same_logits(lite0: nn.Module) -> None:
    package = pytest.importorskip("efficientnet_lite_pytorch")
    theirs = package.EfficientNet.from_name("efficientnet-lite0").eval()
    theirs.load_state_dict(dict(zip(theirs.state_dict(), lite0.state_dict().values(), strict=True)))
    with torch.no_grad():
        x = torch.randn(2, 3, 224, 224)
        assert torch.equal(theirs(x), lite0(x))
