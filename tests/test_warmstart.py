"""Trainings that begin with a model of one's own: what is kept, what is new, what is refused."""

import shutil
import unicodedata
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor

import nunbit
from conftest import write_classes
from nunbit import running
from nunbit.cli import main
from nunbit.config import ModelConfig, RunConfig
from nunbit.errors import DataError, MissingInputError, StoppedError, UsageError
from nunbit.finished import Finished
from nunbit.modelfile import built_for
from nunbit.models.registry import all_options, build_model
from nunbit.progress import Display
from nunbit.run import resume_run, train_run
from nunbit.storage import own_metadata
from nunbit.warmstart import load_own

STILL = {"optim.lr": 1e-12, "optim.name": "sgd", "train.epochs": 1}  # changes no weight visibly


def trained(config: RunConfig, folder: Path) -> Finished:
    return train_run(config, folder, Display(quiet=True), lambda _finished: None)


@pytest.fixture
def first(quick: RunConfig, tmp_path: Path) -> Finished:
    """A finished run on the digits."""
    return trained(quick, tmp_path / "first")


def body(finished: Finished) -> dict[str, Tensor]:
    """Return the weights of a run without those of its last layer."""
    state = finished.classifier.module.state_dict()
    return {name: tensor for name, tensor in state.items() if not name.startswith("fc2.")}


@pytest.mark.parametrize("file", ["", "model.safetensors"])
def test_the_same_classes_keep_the_whole_network(
    file: str, first: Finished, quick: RunConfig, tmp_path: Path
) -> None:
    config = quick.override({**STILL, "model.weights": str(first.run_dir / file)})
    second = trained(config, tmp_path / "second")
    torch.testing.assert_close(second.test_logits, first.test_logits, rtol=0, atol=1e-5)
    origin = second.classifier.card["pretrained"]
    assert (origin["name"], origin["file"]) == ("net", "model.safetensors")
    loaded = nunbit.load(second.run_dir)
    assert loaded.card["model"] == {"name": "net", "args": {"width": 4}}
    torch.testing.assert_close(
        loaded.logits(second.dataset.test.images), second.test_logits, rtol=0, atol=1e-5
    )


def test_a_class_in_another_spelling_is_the_same(
    first: Finished, quick: RunConfig, tmp_path: Path
) -> None:
    """Models that were made before names were composed (NFC) have them as the folders had."""
    nfc, nfd = (unicodedata.normalize(form, "빨강") for form in ("NFC", "NFD"))
    model = nunbit.load(first.run_dir)
    old = nunbit.Classifier(
        model.module, ("blue", "green", nfd, *"3456789"), model.preprocess, model.card
    )
    old.save(tmp_path / "old.safetensors")
    write_classes(tmp_path / "d", 4)
    (tmp_path / "d/red").rename(tmp_path / "d" / nfc)
    measured = nunbit.load(tmp_path / "old.safetensors").evaluate(tmp_path / "d")
    assert [row.n for row in measured.per_class] == [4, 4, 4, *[0] * 7]
    settings = replace(quick.model, weights=str(tmp_path / "old.safetensors"))
    assert load_own(settings).class_names == ("blue", "green", nfc, *"3456789")


def test_more_epochs_make_it_better(first: Finished, quick: RunConfig, tmp_path: Path) -> None:
    config = quick.override({"model.weights": str(first.run_dir), "train.epochs": 4})
    second = trained(config, tmp_path / "second")
    assert second.epochs[0].running_accuracy > first.epochs[-1].running_accuracy
    assert second.test.accuracy > first.test.accuracy


def test_other_classes_get_a_new_last_layer_and_the_old_preprocessing(
    first: Finished, quick: RunConfig, colours: Path, tmp_path: Path
) -> None:
    config = quick.override(
        {**STILL, "data.source": str(colours), "model.weights": str(first.run_dir)}
    )
    second = trained(config, tmp_path / "second")
    assert second.dataset.class_names == ("blue", "green", "red")
    assert second.dataset.preprocess == first.dataset.preprocess, "8x8 grey, the digits' mean"
    assert second.test_logits.shape[1] == 3
    for name, tensor in body(first).items():
        torch.testing.assert_close(body(second)[name], tensor, rtol=0, atol=1e-6, msg=name)


def test_a_last_layer_is_fitted_on_its_features(
    first: Finished, quick: RunConfig, colours: Path, tmp_path: Path
) -> None:
    config = quick.override(
        {
            "data.source": str(colours),
            "model.weights": str(first.run_dir),
            "model.head": "logistic",
            "train.epochs": 0,
        }
    )
    second = trained(config, tmp_path / "second")
    for name, tensor in body(first).items():
        assert torch.equal(body(second)[name], tensor), name
    assert second.test.accuracy > 0.5, "three colours that differ in brightness"


def test_finetune_takes_it_too(
    first: Finished, colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = f"finetune {colours} --weights {first.run_dir} --model net --model.width 4 --quiet"
    assert main([*words.split(), "--run-dir", str(tmp_path / "second")]) == 0, capsys.readouterr()
    assert nunbit.load(tmp_path / "second").class_names == ("blue", "green", "red")


def test_it_is_resumed_like_any_other(
    first: Finished, quick: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = quick.override(
        {"model.weights": str(first.run_dir), "train.checkpoint_every": "5steps"}
    )
    whole = trained(config, tmp_path / "whole")
    original = running.fit

    def stopping(*args: object) -> object:
        for result in original(*args):  # type: ignore[arg-type]
            yield result
            raise StoppedError("stopped", 2)

    monkeypatch.setattr(running, "fit", stopping)
    with pytest.raises(StoppedError):
        trained(config, tmp_path / "cut")
    monkeypatch.undo()
    resume_run(tmp_path / "cut", Display(quiet=True), lambda _finished: None)
    again = nunbit.load(tmp_path / "cut").module.state_dict()
    for name, tensor in whole.classifier.module.state_dict().items():
        assert torch.equal(tensor, again[name]), name


def test_another_network_is_refused_with_the_words_to_write(
    first: Finished, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", "digits/cnn", "--model.weights", str(first.run_dir), "--quiet"]
    assert main([*words, "--run-dir", str(tmp_path / "r")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "holds 'net width=4', and the settings ask for 'cnn width=32'" in line
    asked = line.rpartition("write: ")[2].split()
    assert asked == ["--model.name", "net", "--model.width", "4"]
    assert not (tmp_path / "r").exists()
    assert main([*words, *asked, "--train.epochs", "1", "--run-dir", str(tmp_path / "r")]) == 0


@pytest.mark.parametrize(
    ("held", "words"),
    [
        ({"model.name": "cnn", "model.args": {"width": 8}}, "--model.name cnn --model.width 8"),
        (
            {"model.name": "net-resdeep", "model.args": {"blocks": 2, "shared": True, "width": 4}},
            "--model.name net-resdeep --model.width 4 --model.blocks 2 --model.shared true",
        ),
    ],
)
def test_the_words_for_defaults_and_truth_values_are_enough(
    held: dict[str, Any], words: str, quick: RunConfig, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip  # one fixture a line would say no more
    trained(quick.override({**held, "train.epochs": 1}), tmp_path / "held")
    begin = f"train digits/cnn --model.weights {tmp_path / 'held'} --train.epochs 1 --quiet"
    assert main([*begin.split(), "--run-dir", "r"]) == 2
    assert capsys.readouterr().err.rstrip().endswith(f"write: {words}")
    assert main([*begin.split(), *words.split(), "--run-dir", "r"]) == 0


def test_what_is_no_model_is_refused(first: Finished, quick: RunConfig, tmp_path: Path) -> None:
    def begin(weights: Path) -> None:
        trained(quick.override({"model.weights": str(weights)}), tmp_path / "r")

    (tmp_path / "empty").mkdir()
    with pytest.raises(MissingInputError, match=r"empty holds no model\.safetensors"):
        begin(tmp_path / "empty")
    with pytest.raises(MissingInputError, match=r"no file .*gone"):
        begin(tmp_path / "gone")
    torch.save({}, tmp_path / "weights.pt")
    with pytest.raises(UsageError, match="has no pretrained weights; allowed"):
        begin(tmp_path / "weights.pt")
    damaged = bytearray((first.run_dir / "model.safetensors").read_bytes())
    damaged[-3] ^= 1
    (tmp_path / "damaged.safetensors").write_bytes(damaged)
    with pytest.raises(DataError, match="damaged"):
        begin(tmp_path / "damaged.safetensors")
    with pytest.raises(UsageError, match="'net' has no pretrained weights"):
        begin(Path("pretrained"))
    assert not (tmp_path / "r").exists()


def test_only_files_of_nunbit_are_its_own(first: Finished, tmp_path: Path) -> None:
    assert own_metadata(first.run_dir / "model.safetensors")
    safetensors.torch.save_file({"a": torch.zeros(1)}, tmp_path / "plain.safetensors")
    for name, data in (("short", b"\0"), ("json", b"{}"), ("long", b"\xff" * 8 + b"{")):
        (tmp_path / name).write_bytes(data)
        assert own_metadata(tmp_path / name) is None, name
    assert own_metadata(tmp_path / "plain.safetensors") is None
    assert own_metadata(tmp_path) is None


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ("preprocess", "written with another preprocessing"),
        ("weights", "began with other weights"),
    ],
)
def test_a_run_is_not_resumed_with_another_model(
    changed: str, said: str, first: Finished, quick: RunConfig, tmp_path: Path
) -> None:
    config = quick.override({"model.weights": str(first.run_dir), "train.epochs": 1})
    second = trained(config, tmp_path / "second")
    (second.run_dir / "result.json").unlink()
    other = first.classifier
    if changed == "preprocess":
        other.preprocess = replace(other.preprocess, mean=(0.9,))
    else:
        with torch.no_grad():
            next(other.module.parameters()).mul_(2)
    other.save(first.run_dir / "model.safetensors")
    with pytest.raises(DataError, match=said):
        resume_run(second.run_dir, Display(quiet=True), lambda _finished: None)


def test_another_size_of_pictures_is_the_same_network(
    quick: RunConfig, colours: Path, tmp_path: Path
) -> None:
    """Strides of `cnn` follow from the size that it is built for: none of these could be loaded."""
    data = {"data.source": str(colours), "data.size": 32, "train.epochs": 1}
    config = replace(quick.override(data), model=ModelConfig(name="cnn", args={"width": 4}))
    run = trained(config, tmp_path / "32")
    shapes = [tensor.shape for tensor in run.classifier.module.state_dict().values()]
    for size in (96, 48):  # each from the one before, and neither would be built like the first
        other = build_model(
            "cnn", num_classes=3, in_channels=3, image_size=(size, size), args={"width": 4}
        )
        assert [tensor.shape for tensor in other.state_dict().values()] != shapes
        again = {"data.size": size, "model.weights": str(run.run_dir)}
        run = trained(config.override(again), tmp_path / str(size))
        model = nunbit.load(run.run_dir)
        assert (model.preprocess.height, model.card["built_for"]) == (size, [32, 32])
        assert [tensor.shape for tensor in model.module.state_dict().values()] == shapes
        assert model.evaluate().accuracy == run.test.accuracy


@pytest.mark.parametrize("size", ["32", [32], [32, 0], [32, 32.0], [32, 10**6], None])
def test_a_forged_size_is_refused(size: object, first: Finished) -> None:
    with pytest.raises(ValueError, match="built_for is no size"):
        built_for({"built_for": size}, first.dataset.preprocess)
    assert built_for({}, first.dataset.preprocess) == (8, 8)


def test_pictures_that_the_model_was_trained_on_are_not_held_out(
    quick: RunConfig, colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = quick.override({"data.source": str(colours), "data.size": 16, "train.epochs": 1})
    trained(config, tmp_path / "first")
    again = config.override({"model.weights": str(tmp_path / "first"), "data.size": 0})
    trained(again, tmp_path / "same")  # the same pictures, split in the same way
    other = write_classes(tmp_path / "other", 12, first_seed=70_000)
    trained(again.override({"data.source": str(other)}), tmp_path / "new")
    write_classes(tmp_path / "colours", 40)  # twenty more a class beside those of before
    with pytest.raises(
        DataError, match=r"first was trained on \d+ pictures that are held out here"
    ):
        trained(again, tmp_path / "more")
    grandchild = again.override({"model.weights": str(tmp_path / "new")})
    with pytest.raises(
        DataError, match=r"first was trained on \d+ pictures that are held out here"
    ):
        trained(grandchild, tmp_path / "more")
    assert not (tmp_path / "more").exists()
    assert "nobody can tell" not in capsys.readouterr().err


def test_where_nobody_can_tell_what_a_model_has_seen_a_line_says_so(
    first: Finished, quick: RunConfig, colours: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip  # one fixture a line would say no more
    shutil.copy(first.run_dir / "model.safetensors", tmp_path / "mailed.safetensors")
    weights = {"model.weights": str(tmp_path / "mailed.safetensors"), "train.epochs": 1}
    config = quick.override({**weights, "data.source": str(colours)})
    train_run(config, tmp_path / "r", Display(), lambda _finished: None)
    assert "nobody can tell whether the model of" in capsys.readouterr().err
    train_run(quick.override(weights), tmp_path / "s", Display(), lambda _finished: None)
    assert "nobody can tell" not in capsys.readouterr().err, "the same data, the same split"


def test_a_default_that_is_written_out_is_the_same_network(
    quick: RunConfig, tmp_path: Path
) -> None:
    plain = quick.override({"model.name": "net-dropout", "model.args": {}})
    held = trained(plain.override({"train.epochs": 1}), tmp_path / "held")
    assert all_options("net-dropout", {}) == {"width": 32, "dropout": 0.4}
    written = {"model.args": {"width": 32}, "model.weights": str(held.run_dir)}
    second = trained(plain.override({**STILL, **written}), tmp_path / "again")
    torch.testing.assert_close(second.test_logits, held.test_logits, rtol=0, atol=1e-5)
