"""Weights of torch.save become a model that predicts the same, and go back."""

import json
import os
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import nunbit
from conftest import noisy_picture, write_classes
from nunbit.cli import main
from nunbit.errors import DataError, NunbitError, UsageError
from nunbit.legacy import convert
from nunbit.legacy.child import RefusedError, read_state_dict

DOCUMENT = Path(__file__).parents[1] / "docs" / "import.md"
BIRDS = {"mean": [0.4914, 0.4822, 0.4465], "std": [0.2470, 0.2435, 0.2616]}


def net(classes: int = 2, **options: int) -> nn.Module:
    torch.manual_seed(0)
    shape = {"num_classes": classes, "in_channels": 3, "image_size": (32, 32)}
    return nunbit.build_model("net", **shape, args=options).eval()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", DOCUMENT.read_text(), flags=re.S)


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read in this process: starting another with torch takes seconds, and one test does it."""
    import safetensors.torch

    def read(source: Path, target: Path) -> None:
        safetensors.torch.save_file(read_state_dict(source), target)

    monkeypatch.setattr(convert, "read_in_child", read)


def test_the_document_works(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(net().state_dict(), "birds.pt")
    noisy_picture((90, 90, 200), 0, (40, 36)).save("photo.png")
    for folder in ("airplane", "bird"):
        (tmp_path / "photos" / folder).mkdir(parents=True)
        for i in range(3):
            noisy_picture((90, 90, 200), i, (32, 32)).save(f"photos/{folder}/{i}.png")
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    for line in lines:
        assert main(shlex.split(line)[1:]) == 0, capsys.readouterr().err
    shown = capsys.readouterr().out
    assert "18,090 parameters, 2 classes" in shown
    assert "photo.png: " in shown
    assert "n=6" in shown
    exec(compile("\n".join(blocks("python")), "import.md", "exec"), {})
    assert "('airplane', 'bird')" in capsys.readouterr().out
    state = torch.load("plain.pt", map_location="cpu", weights_only=True)
    assert all(torch.equal(tensor, state[name]) for name, tensor in net().state_dict().items())


@pytest.mark.usefixtures("in_process")
def test_an_imported_model_gives_the_same_logits() -> None:
    torch.save(net().state_dict(), "w.pt")
    made = nunbit.import_weights("w.pt", "net", classes=["airplane", "bird"], **BIRDS)
    images = torch.randint(0, 256, (5, 32, 32, 3), dtype=torch.uint8)
    mean, std = (torch.tensor(BIRDS[name]).view(3, 1, 1) for name in ("mean", "std"))
    x = (images.permute(0, 3, 1, 2) / 255 - mean) / std
    with torch.no_grad():
        expected = net()(x)
    torch.testing.assert_close(nunbit.load(made.path).logits(images), expected)
    card = nunbit.load("w.safetensors").card
    assert card["recipe"] == "imported"
    assert card["metrics"] == {}
    assert card["source"]["file"] == "w.pt"


def prefixed(state: dict[str, Tensor]) -> object:
    return {f"_orig_mod.module.{name}": tensor for name, tensor in state.items()}


def in_checkpoint(state: dict[str, Tensor]) -> object:
    return {"epoch": 3, "state_dict": state, "optimizer": {"lr": 0.1}}


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize("wrap", [dict, prefixed, in_checkpoint, lambda s: {"model": s}])
def test_usual_ways_of_saving_are_understood(wrap: Callable[[dict[str, Tensor]], object]) -> None:
    torch.save(wrap(net(7).state_dict()), "w.pt")
    made = nunbit.import_weights("w.pt", "net")
    assert made.classifier.class_names == ("0", "1", "2", "3", "4", "5", "6")


@pytest.mark.usefixtures("in_process")
def test_one_block_used_many_times_and_half_precision() -> None:
    args = {"shared": True, "blocks": 30}
    shape = {"num_classes": 2, "in_channels": 3, "image_size": (32, 32)}
    module = nunbit.build_model("net-resdeep", **shape, args=args)
    torch.save(module.half().state_dict(), "w.pt")
    made = nunbit.import_weights("w.pt", "net-resdeep", model__shared=True, model__blocks=30)
    assert nunbit.load(made.path).module.state_dict().keys() == module.state_dict().keys()


@pytest.mark.usefixtures("in_process")
def test_weights_that_do_not_fit_are_named() -> None:
    def refused(state: dict[str, Tensor], says: str, **more: object) -> None:
        torch.save(state, "w.pt")
        with pytest.raises(DataError, match=says):
            nunbit.import_weights("w.pt", "net", **more)  # type: ignore[arg-type]
        assert not Path("w.safetensors").exists()

    whole = net().state_dict()
    less = {name: tensor for name, tensor in whole.items() if name != "conv2.bias"}
    refused(less, "conv2.bias is missing; check --model")
    refused({**whole, "extra": torch.ones(1)}, "'extra' is foreign")
    refused(net(width=32).state_dict(), r"conv1.weight is 32x3x3x3, needed 16x3x3x3; .* more")
    refused(whole, "fc2.weight is 2x32, needed 3x32", classes=["a", "b", "c"])
    refused({**whole, "fc2.bias": torch.tensor([0, 1])}, "fc2.bias is torch.int64, needed")
    refused({**whole, "fc2.bias": torch.tensor([0, torch.nan])}, "fc2.bias has values that are not")


@pytest.mark.usefixtures("in_process")
def test_wrong_arguments_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(net().state_dict(), "w.pt")
    Path("taken.safetensors").touch()
    wrong = {
        "none.pt --model net": (66, "no file none.pt"),
        "w.pt": (2, "--model"),
        "w.pt --model nett": (2, "did you mean 'net'"),
        "w.pt --model net --output taken.safetensors": (73, "exists already"),
        "w.pt --model net --classes a,a": (2, "two classes are named 'a'"),
        "w.pt --model net --classes a,,b": (2, "class names are"),
        "w.pt --model net --size 0": (2, "height is 0; allowed: 1 to 1024"),
        "w.pt --model net --channels 2": (2, "allowed: 0, 1 or 3"),
        "w.pt --model net --std 0": (2, "above 0"),
        "w.pt --model net --mean 0.5,0.5": (2, "3, one a channel"),
        "w.pt --model net --mean x": (2, "numbers with commas"),
        "w.pt --model net --train.epochs 3": (2, "not used by import"),
    }
    for words, (code, hint) in wrong.items():
        assert main(["import", *words.split()]) == code, words
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1), err
        assert hint in err, err


def test_a_file_that_needs_too_much_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save(net().state_dict(), "w.pt")
    monkeypatch.setattr(convert, "TIMEOUT_SECONDS", 0.01)
    with pytest.raises(DataError, match=r"w\.pt is refused: reading it takes more than"):
        nunbit.import_weights("w.pt", "net")
    monkeypatch.setattr(torch, "__version__", "2.9.1+cpu")
    with pytest.raises(UsageError, match=r"needs torch 2\.10 or newer; this is 2\.9\.1"):
        nunbit.import_weights("w.pt", "net")


def test_an_imported_model_is_measured_on_given_data_only(
    colours: Path, in_process: None, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(net(3).state_dict(), "w.pt")
    nunbit.import_weights("w.pt", "net", classes=["blue", "green", "red"])
    assert main(["evaluate", "w.safetensors", "--data", str(colours), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["n"] == 60
    assert main(["evaluate", "w.safetensors"]) == 2
    assert "does not say what it was trained on; add --data" in capsys.readouterr().err
    write_classes(colours, 1)
    with pytest.raises(NunbitError):
        nunbit.evaluate("w.safetensors", "digits")


def test_sharing_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nunbit.legacy.child.SHARED_BYTES", 1 << 10)
    one = torch.ones(1000)
    torch.save({str(i): one for i in range(100)}, "w.pt")
    with pytest.raises(RefusedError, match="share their memory too often"):
        read_state_dict(Path("w.pt"))


@pytest.mark.usefixtures("in_process")
def test_weights_of_any_name_are_taken_where_the_output_has_a_text_for_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = os.fsdecode(b"caf\xe9.pt")
    torch.save(net().state_dict(), tmp_path / name)
    assert main(["import", name, "--model", "net"]) == 2
    assert r"caf\xe9.safetensors is not in UTF-8; rename it" in capsys.readouterr().err
    assert main(["import", name, "--model", "net", "--output", "net.safetensors"]) == 0
    assert nunbit.load("net.safetensors").card["source"]["file"] == r"caf\xe9.pt"
