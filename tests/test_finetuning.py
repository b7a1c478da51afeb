"""Fine-tuning: features computed once, the last layer, the strategy, and whole runs.

The network is timm's smallest, with random weights in a file of the user's: nothing is downloaded.
"""

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torchvision
from safetensors.torch import load_file, save_file
from torch import nn

import nunbit
from conftest import noisy_picture, write_classes
from nunbit import running
from nunbit.bundle import MODEL_FILE
from nunbit.checkpoint import load_newest
from nunbit.cli import main
from nunbit.config import OptimConfig, RunConfig, TrainConfig
from nunbit.data.loader import TrainLoader
from nunbit.data.pictures import ImageSet
from nunbit.data.preprocess import Preprocess
from nunbit.data.sources import open_source
from nunbit.data.splits import UnreadableError
from nunbit.data.stats import digests
from nunbit.errors import DataError, MissingInputError, NunbitError, StoppedError, UsageError
from nunbit.evaluation import collect_logits
from nunbit.features import FeatureSource, Seen, features_of
from nunbit.finetuning import probe as probe_module
from nunbit.finetuning import strategy as strategy_module
from nunbit.finetuning.strategy import FEW, Strategy, _full, choose_strategy, finetune_config
from nunbit.finished import Finished
from nunbit.headstart import HeadStart
from nunbit.models import pretrained
from nunbit.models.catalog import find_entry
from nunbit.models.head import cool_head, find_head
from nunbit.models.registry import build_model
from nunbit.models.surgery import get
from nunbit.recipes import get_recipe
from nunbit.runtime import Runtime, choose_runtime, seeded
from nunbit.start import preprocess_of
from nunbit.storage import load_tensors
from nunbit.training import tempo
from nunbit.training.head import Labelled, LinearHead, fit_head
from nunbit.training.optim import build_optimizer
from nunbit.values import parse_budget

TINY = "timm:test_efficientnet"
SIZE = 48  # pixels


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of weights as somebody trained them; nobody did."""
    with seeded(0, "tiny"):
        model = build_model(TINY, num_classes=1000, in_channels=3, image_size=(160, 160), args={})
    file = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_file(model.state_dict(), file)
    return file


def some_pictures(count: int, first: int = 0) -> ImageSet:
    noise = [np.random.default_rng(first + i).integers(0, 256, (8, 8, 3)) for i in range(count)]
    images = torch.from_numpy(np.stack(noise).astype(np.uint8))
    labels = torch.arange(count) % 2
    return ImageSet(images, labels, [str(i) for i in range(count)], digests(images))


def source_of(sha256: str = "f00d") -> FeatureSource:
    with seeded(0, "source"):
        model = build_model("cnn", num_classes=2, in_channels=3, image_size=(8, 8), args={})
    preprocess = Preprocess(
        height=8, width=8, channels=3, resize="crop", mean=(0.5,) * 3, std=(0.5,) * 3
    )
    runtime = choose_runtime(TrainConfig(threads=1, device="cpu", precision="fp32"))
    return FeatureSource(model, preprocess, runtime, "cnn", sha256)


def no_track(items: object, _total: int, _label: str) -> object:
    return items


def same_seen(again: list[Seen], first: list[Seen]) -> None:
    for one, other in zip(again, first, strict=True):
        torch.testing.assert_close(one.features, other.features, rtol=0, atol=0)
        torch.testing.assert_close(one.stages, other.stages, rtol=0, atol=0)


def test_features_are_what_the_last_layer_sees() -> None:
    source, pictures = source_of(""), some_pictures(5)
    (view,), computed = features_of(source, [pictures], no_track)
    assert computed == 5
    head = get(source.model, find_head(source.model))
    with torch.inference_mode():
        logits = source.model.eval()(source.preprocess.normalize(pictures.images))
        torch.testing.assert_close(head(view.features), logits)


def test_features_are_computed_once_and_ten_new_pictures_are_ten() -> None:
    source, pictures = source_of(), some_pictures(20)
    first, computed = features_of(source, [pictures], no_track)
    assert computed == 20
    again, computed = features_of(source, [pictures], no_track)
    assert computed == 0
    same_seen(again, first)
    _, computed = features_of(source, [pictures, some_pictures(10, first=100)], no_track)
    assert computed == 10


def test_equal_pictures_are_computed_once_and_other_weights_anew() -> None:
    pictures = some_pictures(4)
    twice = pictures.select(torch.tensor([0, 1, 1, 0]))
    (view,), computed = features_of(source_of(), [twice], no_track)
    assert computed == 2
    assert torch.equal(view.features[0], view.features[3])
    assert features_of(source_of("beef"), [twice], no_track)[1] == 2
    smaller = replace(source_of(), preprocess=replace(source_of().preprocess, mean=(0.4,) * 3))
    assert features_of(smaller, [twice], no_track)[1] == 2


def test_twins_with_one_weights_file_do_not_share_features() -> None:
    """timm's efficientnet_b0 and tf_efficientnet_b0 differ in nothing but how they pad."""
    source, pictures = source_of(), some_pictures(4)
    features_of(source, [pictures], no_track)
    twin = replace(source, name="cnn-twin")
    assert features_of(twin, [pictures], no_track)[1] == 4


def test_two_at_once_lose_none_of_each_others_features() -> None:
    """The file is one for whatever data; who saved last dropped what the other had computed."""
    source, mine, others = source_of(), some_pictures(4), some_pictures(6, first=100)

    def meanwhile(batches: Sequence[Any], _count: int, _label: str) -> Iterator[Any]:
        features_of(source, [others], no_track)
        return iter(batches)

    features_of(source, [mine], meanwhile)
    assert features_of(source, [mine, others], no_track)[1] == 0


def test_a_damaged_cache_is_computed_again() -> None:
    source, pictures = source_of(), some_pictures(3)
    first, _ = features_of(source, [pictures], no_track)
    file = source.file()
    assert file is not None
    content = bytearray(file.read_bytes())
    content[-5] ^= 1
    file.write_bytes(bytes(content))
    again, computed = features_of(source, [pictures], no_track)
    assert computed == 3
    same_seen(again, first)


def blobs(classes: int, count: int, seed: int) -> Labelled:
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(classes, 6, generator=torch.Generator().manual_seed(9)) * 3
    labels = torch.arange(count) % classes
    noise = torch.randn(count, 6, generator=generator)
    return Labelled((centres[labels] + noise) * torch.tensor([1, 10, 100, 1, 1, 0.01]), labels)


@pytest.mark.parametrize("classes", [2, 3])
def test_a_fitted_head_tells_the_classes_apart_whatever_the_scale(classes: int) -> None:
    head = fit_head(blobs(classes, 300, 0), blobs(classes, 90, 1))
    test = blobs(classes, 300, 2)
    assert head.weight.shape == (classes, 6)
    found = (head.logits(test.features).argmax(1) == test.labels).float().mean()
    assert found > 0.97


def test_two_classes_have_the_probabilities_of_the_regression() -> None:
    from sklearn.linear_model import LogisticRegression

    train = blobs(2, 200, 0)
    x = (train.features - train.features.mean(0)) / train.features.std(0).sqrt()
    x = (x / x.square().mean().sqrt()).numpy()
    theirs = LogisticRegression(C=0.003, class_weight="balanced", max_iter=200)
    expected = theirs.fit(x, train.labels.numpy()).predict_proba(x)
    ours = fit_head(train, None).logits(train.features).softmax(1)
    np.testing.assert_allclose(ours.numpy(), expected, atol=1e-4)


def test_each_class_counts_the_same() -> None:
    train = blobs(2, 400, 0)
    rare = torch.cat([torch.arange(0, 400, 2), torch.arange(1, 20, 2)])
    head = fit_head(Labelled(train.features[rare], train.labels[rare]), None)
    said = head.logits(train.features).argmax(1)
    recalls = [float((said == k)[train.labels == k].float().mean()) for k in (0, 1)]
    assert abs(recalls[0] - recalls[1]) < 0.05


def test_a_head_that_does_not_fit_is_refused() -> None:
    head = LinearHead(torch.zeros(3, 5), torch.zeros(3), 1.0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
    with pytest.raises(UsageError, match=r"weights are \(3, 12\), those to put into it \(3, 5\)"):
        head.put_into(model)
    without_bias = nn.Sequential(nn.Flatten(), nn.Linear(5, 3, bias=False))
    with pytest.raises(UsageError, match=r"'1' is Linear, no linear layer with a bias"):
        head.put_into(without_bias)


def test_layer_decay_slows_early_blocks() -> None:
    model = build_model("cnn", num_classes=2, in_channels=3, image_size=(32, 32), args={})
    optimizer = build_optimizer(model, OptimConfig(layer_decay=0.5))
    scale = {id(p): g["lr_scale"] for g in optimizer.param_groups for p in g["params"]}
    in_order = [scale[id(p)] for p in model.parameters()]
    assert in_order == sorted(in_order)
    assert in_order[-1] == 1.0
    assert in_order[0] <= 0.25
    plain = build_optimizer(model, OptimConfig())
    assert {group["lr_scale"] for group in plain.param_groups} == {1.0}


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("10m", 600), ("1.5h", 5400)])
def test_budgets_are_read(text: str, seconds: float) -> None:
    assert parse_budget(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "90", "ten", "0s", "-5m", "infs", "nans", "9999999h"])
def test_other_budgets_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="90s or 10m"):
        parse_budget(text)


def test_the_budget_decides_what_is_trained(tmp_path: Path, weights: Path) -> None:
    data = str(write_classes(tmp_path / "many", FEW))
    config = finetune_config(data, TINY, str(weights)).override({"train.threads": 1})
    source = open_source(data)

    def chosen(budget: float, wish: Strategy = "auto", size: int = SIZE) -> RunConfig:
        sized = config.override({"data.size": size})
        return choose_strategy(sized, source, budget, wish, lambda _line: None)

    assert chosen(1).train.epochs == 0
    assert chosen(3600).train.epochs > 3
    assert chosen(3600, "head").train.epochs == 0
    full = chosen(1, "full")
    assert full.train.epochs == 3
    assert full.optim.layer_decay < 1
    assert chosen(3600, size=0).data.size == 96  # pictures of 20 pixels have no more to show
    with pytest.raises(UsageError, match=r"need about .* budget of"):
        chosen(0.3, size=0)


def test_epochs_follow_from_updates_that_were_timed(
    tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = str(write_classes(tmp_path / "many", 100))  # three classes: 216 train, 24 val, 60 test
    sized = finetune_config(data, TINY, str(weights)).override({"data.size": SIZE})
    timed: list[TrainLoader] = []

    def update(_model: nn.Module, loader: TrainLoader, _runtime: Runtime) -> float:
        timed.append(loader)
        return 0.4

    monkeypatch.setattr(strategy_module, "update_seconds", update)
    monkeypatch.setattr(probe_module, "_forward_seconds", lambda _m, x, _r: 0.01 * len(x))
    said: list[str] = []
    chosen = choose_strategy(sized, open_source(data), 1000, "auto", said.append)
    # 0.85 * 1000 s less some 8 s, over 216 * 0.4 s and 84 * 0.01 s
    assert chosen.train.epochs == 9
    assert "then 9 epochs of all layers, about 785 s" in said[-1]
    x, _ = next(timed[0].batches(0))
    assert x.shape == (32, 3, SIZE, SIZE)
    assert timed[0].config.data.zoom == chosen.data.zoom > 0, "augmenting counts"
    assert choose_strategy(sized, open_source(data), 200, "auto", said.append).train.epochs == 0
    assert "an epoch of all layers takes about 87 s" in said[-1]
    assert len(timed) == 2
    assert choose_strategy(sized, open_source(data), 16, "auto", said.append).train.epochs == 0
    assert len(timed) == 2, "nothing is timed that could not fit"


def test_what_is_asked_for_stays(colours: Path, weights: Path) -> None:
    given = {"data.size": SIZE, "optim.lr": 1e-4, "data.flip": False, "train.epochs": 2}
    given["data.mixup"] = 0.2  # the pictures that updates are timed with are of one class
    config = finetune_config(str(colours), TINY, str(weights)).override(given)
    source = open_source(str(colours))
    chosen = choose_strategy(config, source, 3600, "full", lambda _line: None, given)
    assert (chosen.optim.lr, chosen.data.flip, chosen.train.epochs) == (1e-4, False, 2)
    assert (chosen.optim.name, chosen.data.mixup) == ("adamw", 0.2)
    again = given | {"data.size": 0, "train.precision": "auto"}  # both are left to the probe
    chosen = choose_strategy(config, source, 3600, "full", lambda _line: None, again)
    assert (chosen.data.size, chosen.train.precision) == (SIZE, "fp32")


@pytest.mark.parametrize(("wish", "epochs"), [("auto", 2), ("head", 2), ("full", 0)])
def test_epochs_belong_to_full(
    wish: Strategy, epochs: int, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nunbit.api.open_source", None)  # it might download
    with pytest.raises(UsageError, match=r"train\.epochs (follows from the budget|is 0; all)"):
        nunbit.finetune("x", model=TINY, weights=weights, strategy=wish, epochs=epochs, quiet=True)


def test_a_damaged_picture_among_the_first_ends_no_probe(
    colours: Path, weights: Path, tmp_path: Path
) -> None:
    (colours / "blue" / "000.png").write_bytes(b"\x89PNG no more")
    with pytest.raises(UnreadableError, match=r"blue/000\.png"):
        finetuned(colours, weights, tmp_path / "a", "head")
    run = nunbit.finetune(
        colours, model=TINY, weights=weights, strategy="head", run_dir=tmp_path / "b", quiet=True,
        data__skip_bad=True, threads=1,
    )  # fmt: skip
    assert len(run.dataset.train) + len(run.dataset.val or ()) + len(run.dataset.test) == 59
    for path in colours.rglob("*.png"):
        path.write_bytes(b"")
    with pytest.raises(DataError, match=r"no picture of .* can be read"):
        finetuned(colours, weights, tmp_path / "c", "head")


def test_a_network_for_one_size_gets_that_size_or_says_so(colours: Path, tmp_path: Path) -> None:
    name = "timm:vit_tiny_patch16_224"  # takes 224 pixels only; the pictures have 20
    model = build_model(name, num_classes=1000, in_channels=3, image_size=(224, 224), args={})
    save_file(model.state_dict(), file := tmp_path / "vit.safetensors")
    config = finetune_config(str(colours), name, str(file)).override({"train.threads": 1})
    source = open_source(str(colours))
    assert choose_strategy(config, source, 3600, "head", lambda _line: None).data.size == 0
    sized = config.override({"data.size": 96})
    with pytest.raises(UsageError, match="timm:vit_tiny_patch16_224 cannot take pictures of 96x96"):
        choose_strategy(sized, source, 3600, "head", lambda _line: None)
    with pytest.raises(UsageError, match="timm:vit_tiny_patch16_224 cannot take pictures of 96x96"):
        nunbit.train(
            data=colours, model=name, model__weights=str(file), data__size=96, quiet=True,
            run_dir=tmp_path / "run",
        )  # fmt: skip


@pytest.mark.parametrize("name", ["densenet121", "vit_b_32", "resnet18"])
def test_deeper_blocks_take_smaller_steps_whatever_their_names(name: str) -> None:
    model = torchvision.models.get_model(name)
    optimizer = build_optimizer(model, OptimConfig(name="adamw", layer_decay=0.75))
    scales = sorted({group["lr_scale"] for group in optimizer.param_groups}, reverse=True)
    assert len(scales) >= 10
    assert scales == pytest.approx([0.75**i for i in range(len(scales))])
    held = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(held) == sorted(map(id, model.parameters()))


def test_few_pictures_get_a_last_layer_only(colours: Path, weights: Path) -> None:
    config = finetune_config(str(colours), TINY, str(weights)).override({"data.size": SIZE})
    lines: list[str] = []
    chosen = choose_strategy(config, open_source(str(colours)), 3600, "auto", lines.append)
    assert chosen.train.epochs == 0
    assert "below 50 pictures a class all layers overfit" in lines[-1]


def test_features_of_other_data_are_none_of_this(
    colours: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Known features were counted whatever they were of: a second set of pictures seemed free."""
    finetuned(colours, weights, tmp_path / "run", "head")
    more = write_classes(tmp_path / "more", 20, first_seed=9000)
    monkeypatch.setattr(probe_module, "_forward_seconds", lambda _m, x, _r: 0.01 * len(x))
    for data, fresh in ((colours, 0), (more, 60)):
        said: list[str] = []
        config = finetune_config(str(data), TINY, str(weights)).override(
            {"data.size": SIZE, "train.precision": "fp32"}
        )
        choose_strategy(config, open_source(str(data)), 3600, "head", said.append)
        assert f"features of {fresh} of 60 pictures" in said[0]


def test_what_the_weights_decide_is_not_said_in_vain(colours: Path, weights: Path) -> None:
    config = finetune_config(str(colours), TINY, str(weights)).override({"data.resize": "pad"})
    with pytest.raises(UsageError, match=r"data\.resize is pad; the weights take (crop|squash)"):
        choose_strategy(config, open_source(str(colours)), 3600, "head", lambda _line: None)


def test_the_recipes_of_the_texts_take_pretrained_weights_too(weights: Path) -> None:
    """Their normalisation is for random weights; nobody asked for it beside these."""
    given = {"model.name": TINY, "model.weights": str(weights)}
    for recipe in ("cifar10/resnet18", "mnist/cnn"):
        found = preprocess_of(get_recipe(recipe).override(given))
        assert found is not None
        assert found.mean == preprocess_of(finetune_config("d", TINY, str(weights))).mean  # type: ignore[union-attr]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_no_weights_file_and_is_not_waited_for(colours: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(NunbitError, match="pipe"):
        nunbit.finetune(colours, model="torchvision:alexnet", weights=tmp_path / "pipe", quiet=True)


def test_weights_without_a_last_layer_get_one(colours: Path, tmp_path: Path) -> None:
    """Those of self-supervised training have none; timm says so by `num_classes=0`."""
    model = timm.create_model("test_efficientnet", num_classes=0)
    save_file(model.state_dict(), tmp_path / "bare.safetensors")
    name = "timm:test_efficientnet"
    entry = replace(find_entry(name), num_classes=0)
    config = finetune_config(str(colours), name, str(tmp_path / "bare.safetensors"))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(pretrained, "find_entry", lambda *_: entry)
        chosen = choose_strategy(
            config.override({"data.size": SIZE}), open_source(str(colours)), 3600, "head",
            lambda _line: None,
        )  # fmt: skip
        run = nunbit.train(chosen, run_dir=tmp_path / "run", quiet=True)
    assert run.test.accuracy > 0.5


def test_pictures_are_probed_all_over_a_source(
    colours: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new class that sorts first made all known features seem new."""
    finetuned(colours, weights, tmp_path / "run", "head")
    (colours / "aster").mkdir()
    for i in range(20):
        noisy_picture((9, 99, 99), 7000 + i, (20, 16)).save(colours / "aster" / f"{i}.png")
    monkeypatch.setattr(probe_module, "_forward_seconds", lambda _m, x, _r: 0.01 * len(x))
    config = finetune_config(str(colours), TINY, str(weights)).override(
        {"data.size": SIZE, "train.precision": "fp32"}
    )
    said: list[str] = []
    choose_strategy(config, open_source(str(colours)), 3600, "head", said.append)
    assert "features of 20 of 80 pictures" in said[0]


def test_a_last_layer_that_cannot_be_fitted_is_refused_before_any_feature(
    colours: Path, tmp_path: Path
) -> None:
    model = torchvision.models.get_model("squeezenet1_1", weights=None)
    torch.save(model.state_dict(), tmp_path / "squeeze.pth")
    with pytest.raises(UsageError, match=r"Conv2d, no linear layer with a bias: set model\.head"):
        nunbit.finetune(
            colours, model="torchvision:squeezenet1_1", weights=tmp_path / "squeeze.pth", quiet=True
        )
    assert not (tmp_path / "cache" / "features").exists()
    assert not Path("runs").exists()


def test_both_precisions_are_timed_where_the_machine_has_both(
    colours: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The settings say no epochs until a strategy is chosen; features are computed all the same."""
    config = finetune_config(str(colours), TINY, str(weights)).override({"data.size": SIZE})
    timed: list[str] = []

    def forward(_model: nn.Module, x: torch.Tensor, runtime: Runtime) -> float:
        timed.append(runtime.precision)
        return {"fp32": 0.2, "bf16": 0.1}[runtime.precision] * len(x)

    monkeypatch.setattr(probe_module, "_forward_seconds", forward)
    for has_bf16, expected in ((True, ["fp32", "bf16"]), (False, ["fp32"])):
        monkeypatch.setattr(tempo, "multiplies_bf16", lambda _device, answer=has_bf16: answer)
        timed.clear()
        source = open_source(str(colours))
        chosen = choose_strategy(config, source, 3600, "head", lambda _line: None)
        assert timed == expected
        assert chosen.train.precision == expected[-1]


def finetuned(data: Path, weights: Path, folder: Path, strategy: Strategy) -> Finished:
    return nunbit.finetune(
        data, model=TINY, weights=weights, strategy=strategy, run_dir=folder, quiet=True,
        data__size=SIZE, threads=1,
    )  # fmt: skip


def test_a_folder_becomes_a_classifier_that_knows_its_origin(tmp_path: Path, weights: Path) -> None:
    data = write_classes(tmp_path / "data", 40)
    run = finetuned(data, weights, tmp_path / "run", "head")
    result = run.to_dict()
    assert result["epochs"] == result["steps"] == 0
    assert "logistic regression" in result["strategy"]
    assert result["test"]["accuracy"] >= 0.9
    clf = nunbit.load(tmp_path / "run")
    assert clf.card["pretrained"]["file"] == weights.name
    assert clf.preprocess.height == SIZE
    assert clf.evaluate().accuracy == pytest.approx(result["test"]["accuracy"])
    assert {path.name for path in (tmp_path / "run").iterdir()} >= {
        "config.json", "result.json", "report.html", "predictions.csv", "model.safetensors"
    }  # fmt: skip
    # The configuration repeats the run, from the features that are known.
    config = RunConfig.from_json((tmp_path / "run" / "config.json").read_text())
    again = nunbit.train(config, run_dir=tmp_path / "again", quiet=True)
    torch.testing.assert_close(again.test_logits, run.test_logits)


def test_a_model_of_tagged_weights_can_be_loaded(colours: Path, weights: Path) -> None:
    """The tag names weights, which the model file holds; no network is built by such a name."""
    tagged = "timm:test_efficientnet.r160_in1k"
    run = nunbit.finetune(
        colours, model=tagged, weights=weights, strategy="head", run_dir="run", quiet=True,
        data__size=SIZE, threads=1,
    )  # fmt: skip
    clf = nunbit.load("run")
    assert clf.card["model"]["name"] == TINY
    assert clf.evaluate().accuracy == pytest.approx(run.test.accuracy)
    card = dict(clf.card, model={"name": tagged, "args": {}})  # as it was written before
    nunbit.Classifier(clf.module, clf.class_names, clf.preprocess, card).save("old.safetensors")
    assert nunbit.load("old.safetensors").class_names == clf.class_names


def test_ten_more_pictures_are_ten_more_features(
    tmp_path: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_classes(tmp_path / "data", 20)
    words = [
        "--model",
        TINY,
        "--weights",
        str(weights),
        "--strategy",
        "head",
        "--train.threads",
        "1",
    ]
    words += ["--data.size", str(SIZE)]
    for name, said in (
        ("first", "60 pictures computed, 0 known"),
        ("second", "0 pictures computed"),
    ):
        assert main(["finetune", str(data), "--run-dir", name, *words]) == 0
        assert f"features of {said}" in capsys.readouterr().err
    for i in range(10):
        noisy_picture((210, 50, 40), 5000 + i, (20, 16)).save(data / "red" / f"new{i}.png")
    assert main(["finetune", str(data), "--run-dir", "third", *words]) == 0
    assert "features of 10 pictures computed, 60 known" in capsys.readouterr().err


def test_in_bf16_too_a_fitted_layer_is_measured_as_it_ships() -> None:
    """bf16 rounds the weights that a temperature divided otherwise than the logits."""
    source, pictures = source_of(), some_pictures(20)
    bf16 = replace(source.runtime, precision="bf16")
    (seen,), _ = features_of(replace(source, runtime=bf16), [pictures], no_track)
    head = fit_head(Labelled(seen.features, pictures.labels), None)
    head.put_into(source.model)
    cool_head(source.model, 1.7)
    start = HeadStart(head, {"test": seen}, 0, 0.0)
    measured = start.outputs("test", source.model, bf16).logits
    shipped = collect_logits(source.model, pictures.images, source.preprocess, bf16, 20)
    assert torch.equal(measured, shipped)
    assert not torch.equal(head.logits(seen.features) / 1.7, shipped)


def test_digits_are_not_mirrored_where_all_layers_train() -> None:
    for source, flips in (("mnist", False), ("digits", False), ("photos/", True)):
        assert _full(finetune_config(source, TINY, "pretrained"), 8).data.flip is flips


def test_what_the_doctor_proposes_and_what_cannot_be_read_is_left_out(
    tmp_path: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_classes(tmp_path / "data", 20)
    (data / "red" / "000.png").write_bytes(b"torn")
    (tmp_path / "fixes.csv").write_text("path,action,label\nred/001.png,drop,\n")
    words = f"finetune {data} --model {TINY} --weights {weights} --strategy head --run-dir r"
    words += f" --data.size {SIZE} --train.threads 1"
    assert main(words.split()) == 65
    assert "red/000.png" in capsys.readouterr().err
    words += f" --skip-bad --overrides {tmp_path / 'fixes.csv'}"
    assert main(words.split()) == 0
    assert "left out red/000.png" in capsys.readouterr().err
    assert len((Path("r") / "split.csv").read_text().splitlines()) == 1 + 58


def test_all_layers_go_on_from_the_fitted_head(tmp_path: Path, weights: Path) -> None:
    data = write_classes(tmp_path / "data", 20)
    run = finetuned(data, weights, tmp_path / "run", "full")
    assert run.to_dict()["epochs"] == len(run.epochs) >= 3
    assert run.epochs[0].val_accuracy is not None
    last = load_newest(tmp_path / "run", pytest.fail)
    assert last is not None
    start = load_file(weights)
    name = next(n for n in start if n.endswith("weight") and start[n].ndim == 4)
    assert not torch.equal(last.tensors[f"model/{name}"], start[name])
    assert run.epochs[0].running_accuracy > 0.5, "from the fitted head, not from a random one"


def test_epochs_that_do_harm_leave_the_fitted_last_layer(tmp_path: Path, weights: Path) -> None:
    data = write_classes(tmp_path / "data", 20)
    head = finetuned(data, weights, tmp_path / "head", "head")
    harm = {"train.epochs": 2, "optim.name": "sgd", "optim.lr": 0.5}
    run = nunbit.train(head.config.override(harm), run_dir=tmp_path / "run", quiet=True)
    assert all((e.val_accuracy or 0) < 0.9 for e in run.epochs)
    assert run.kept_epoch == 0
    # The same weights; measured in other batches, which round apart.
    weights_of = [r.classifier.module.state_dict() for r in (run, head)]
    assert all(map(torch.equal, *(each.values() for each in weights_of)))
    torch.testing.assert_close(run.test_logits, head.test_logits)
    assert run.test.confusion == head.test.confusion
    page = (tmp_path / "run" / "report.html").read_text()
    assert "preferred the last layer that was fitted at the start to every epoch after it" in page
    again = nunbit.load(tmp_path / "run").evaluate(data)
    assert again.accuracy == head.test.accuracy


def test_a_start_that_is_kept_is_measured_alike_after_a_resume(
    tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The undisturbed run knew features of all training pictures, the resumed one measured five."""
    head = finetuned(write_classes(tmp_path / "data", 20), weights, tmp_path / "head", "head")
    harm = {"train.epochs": 2, "optim.name": "sgd", "optim.lr": 0.5, "eval.train_pictures": 5}
    config = head.config.override({**harm, "eval.max_error": 0.2})
    whole = nunbit.train(config, run_dir=tmp_path / "whole", quiet=True)
    original = running.fit

    def stopping(*args: Any) -> Any:
        yield next(original(*args))
        raise StoppedError("stopped", 2)

    monkeypatch.setattr(running, "fit", stopping)
    with pytest.raises(StoppedError):
        nunbit.train(config, run_dir=tmp_path / "cut", quiet=True)
    monkeypatch.undo()
    result = nunbit.resume(tmp_path / "cut", quiet=True)
    assert whole.kept_epoch == 0
    assert result["train"]["n"] == whole.train.n == 5
    for name, tensor in load_tensors(tmp_path / "whole" / MODEL_FILE)[0].items():
        assert torch.equal(tensor, load_tensors(tmp_path / "cut" / MODEL_FILE)[0][name]), name


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--weights", "none.safetensors"], "none.safetensors"),
        (["--model", "net"], "no pretrained weights; allowed: timm:NAME"),
        (["--model", "timm:resnet1"], "timm has no network 'resnet1'"),
        (["--budget", "soon"], "budget is 'soon'"),
        (["--data.channels", "1"], "the weights take 3"),
        (["--model.width", "8"], "cannot be combined"),
        (["--model.head", "random"], "train.epochs is 0"),
        (["--model.freeze", "cnv1"], "'cnv1' matches no layer"),
        (["--model.freeze", "*"], "every parameter is frozen"),
        (["--model", "timm:test_vit"], "holds no weights of timm:test_vit"),
        (["--eval.max_error", "2"], "eval.max_error is 2.0; allowed: 0 to 0.5"),
        (["--data.val_fraction", "0"], "eval.max_error needs validation pictures"),
    ],
)
def test_what_cannot_be_finetuned_is_one_line(
    words: list[str], said: str, colours: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = {"--model": TINY, "--weights": str(weights), "--data.size": str(SIZE)}
    given |= dict(zip(words[::2], words[1::2], strict=True))
    flat = [word for pair in given.items() for word in pair]
    assert main(["finetune", str(colours), "--run-dir", "run", *flat]) != 0
    error = capsys.readouterr().err.splitlines()
    assert said in error[-1]
    assert not Path("run").exists()


def test_pictures_to_measure_only_are_named(colours: Path, weights: Path) -> None:
    for name in ("val", "test"):
        shutil.copytree(colours, colours.parent / "parts" / name)
    with pytest.raises(DataError, match="no training pictures: the source has only"):
        nunbit.finetune(
            colours.parent / "parts", model=TINY, weights=weights, strategy="full", quiet=True
        )


def test_a_strategy_is_one_of_three_words(colours: Path, weights: Path) -> None:
    with pytest.raises(UsageError, match="strategy is 'Head'; did you mean 'head'"):
        nunbit.finetune(colours, model=TINY, weights=weights, strategy="Head")  # type: ignore[arg-type]


def test_without_weights_nothing_random_takes_their_place(colours: Path) -> None:
    with pytest.raises(MissingInputError, match=r"--weights FILE.*nunbit\[offline\]"):
        nunbit.finetune(colours, model="timm:resnet18", quiet=True)


def test_no_epochs_and_no_head_is_no_training() -> None:
    with pytest.raises(UsageError, match=r"train\.epochs is 0"):
        RunConfig(train=TrainConfig(epochs=0))
    body = json.loads(RunConfig().to_json())
    body["train"]["epochs"] = 0
    with pytest.raises(UsageError, match=r"train\.epochs is 0"):
        RunConfig.from_json(json.dumps(body))


@pytest.mark.slow
def test_frozen_layers_stay_as_they_were_through_a_resume(quick: RunConfig, tmp_path: Path) -> None:
    config = quick.override({"model.freeze": "conv*, fc1", "train.epochs": 1})
    run = nunbit.train(config, run_dir=tmp_path / "run", quiet=True)
    begun = nunbit.train(
        config.override({"optim.lr": 1e-12, "optim.name": "sgd"}),
        run_dir=tmp_path / "begun",
        quiet=True,
    )
    first, last = (r.classifier.module.state_dict() for r in (begun, run))
    same = {name for name in first if torch.equal(first[name], last[name])}
    assert same == {n for n in first if n.startswith(("conv", "fc1"))}
    for name in ("result.json", "model.safetensors"):
        (tmp_path / "run" / name).unlink()
    nunbit.resume(tmp_path / "run", quiet=True)
    with pytest.raises(UsageError, match="every parameter is frozen"):
        nunbit.train(config.override({"model.freeze": "*"}), run_dir=tmp_path / "no", quiet=True)
    with pytest.raises(UsageError, match="'cnv1' matches no layer"):
        nunbit.train(config.override({"model.freeze": "cnv1"}), run_dir=tmp_path / "no", quiet=True)
