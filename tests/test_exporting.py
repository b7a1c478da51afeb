"""A model as an ONNX file: it answers as the model does, and a program without torch can use it."""

import json
import os
import runpy
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import nunbit
from conftest import COLOURS, noisy_picture, write_classes
from nunbit import exporting
from nunbit.bundle import Classifier
from nunbit.cli import main
from nunbit.data.decode import decode
from nunbit.data.preprocess import Preprocess
from nunbit.errors import CannotCreateError, NunbitError, UsageError
from nunbit.exporting import METADATA_KEY, Exported, export_onnx, require_same
from nunbit.metrics import ANSWERED, FOREIGN
from nunbit.models.registry import build_model, list_models
from nunbit.runtime import Runtime

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
SCRIPT = Path(__file__).parents[1] / "examples" / "onnx_predict.py"
CPU = Runtime(torch.device("cpu"), "fp32", 1)
AS_IT_IS = Preprocess(
    height=32, width=32, channels=3, resize="crop", mean=(0.5, 0.4, 0.5), std=(0.2, 0.25, 0.2)
)


def untrained(module: nn.Module, preprocess: Preprocess = AS_IT_IS) -> Classifier:
    return Classifier(module, ["a", "b"], preprocess, {"model": {"name": "mine"}}, CPU)


def said_by(file: Path, images: Tensor) -> list[Tensor]:
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    return [torch.from_numpy(x) for x in session.run(None, {"images": images.numpy()})]


@dataclass(frozen=True)
class Shipped:
    """A model that may decline, and its file."""

    run: Path
    made: Exported


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Shipped:
    folder = tmp_path_factory.mktemp("exporting")
    pictures = write_classes(folder / "colours", 40)
    nunbit.train(
        data=pictures, model="net", epochs=4, size=16, run_dir=folder / "run", quiet=True,
        train__threads=1, train__batch_size=16, eval__max_error=0.1, data__val_fraction=0.3,
    )  # fmt: skip
    return Shipped(folder / "run", nunbit.export(folder / "run", quiet=True))


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 3, 70])
def test_the_file_says_what_the_model_says(count: int, shipped: Shipped, tmp_path: Path) -> None:
    classifier = nunbit.load(shipped.run)
    # New ones: a validation picture lies on the border itself, where rounding decides.
    files = sorted(write_classes(tmp_path, 30, first_seed=500).glob("*/*.png"))[: count - 1]
    shown = [classifier.preprocess.to_pixels(decode(file, "RGB")) for file in files]
    strange = np.indices((16, 16)).sum(0) % 2 * 255  # a chessboard
    shown.append(np.stack([strange] * 3, 2).astype(np.uint8))
    images = torch.from_numpy(np.stack(shown))
    outputs, verdicts = classifier.outputs(images)
    probabilities, found = said_by(shipped.made.path, images)
    torch.testing.assert_close(probabilities, outputs.logits.softmax(1), atol=1e-5, rtol=0)
    assert verdicts is not None
    assert found.tolist() == verdicts.tolist()
    assert found[-1] == FOREIGN
    assert (found[:-1] == ANSWERED).double().mean() > 0.9 or count == 1
    assert shipped.made.max_difference < 1e-4


@pytest.mark.slow
def test_the_metadata_has_what_a_program_needs(shipped: Shipped) -> None:
    session = onnxruntime.InferenceSession(shipped.made.path, providers=["CPUExecutionProvider"])
    about = json.loads(session.get_modelmeta().custom_metadata_map[METADATA_KEY])
    classifier = nunbit.load(shipped.run)
    assert about["class_names"] == ["blue", "green", "red"]
    assert Preprocess.from_dict(about["preprocess"]) == classifier.preprocess
    assert about["verdicts"] == ["label", "unsure", "foreign"]
    for tensors, described in (
        (session.get_inputs(), shipped.made.inputs),
        (session.get_outputs(), shipped.made.outputs),
    ):
        assert [tensor.name for tensor in tensors] == list(described)
        for tensor, (_, first, *rest) in zip(tensors, described.values(), strict=True):
            assert first == "N"
            assert isinstance(tensor.shape[0], str), "any number of pictures"
            assert tensor.shape[1:] == rest


@pytest.mark.slow
@pytest.mark.parametrize(("least", "answer"), [(0.0, "blue (9"), (2.0, "unsure: blue | ")])
def test_a_program_without_torch_says_what_nunbit_says(
    least: float, answer: str, shipped: Shipped, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A label, two that are likely, and neither, in the same words."""
    model, file = nunbit.load(shipped.run), tmp_path / "model.safetensors"
    assert model.decision is not None
    model.decision = replace(model.decision, least_probability=max(least, 1e-6))
    model.save(file)
    made = nunbit.export(file, quiet=True)
    noisy_picture(COLOURS["blue"], 7, (300, 200)).save(tmp_path / "wide.jpg")
    strange = np.indices((64, 64)).sum(0) // 4 % 2 * 255
    Image.fromarray(strange.astype(np.uint8)).save(tmp_path / "strange.png")
    shown = [str(tmp_path / name) for name in ("wide.jpg", "strange.png")]
    assert main(["predict", str(file), *shown]) == 0
    wanted = capsys.readouterr().out.splitlines()
    alone = f"""import runpy, sys
sys.modules |= dict.fromkeys(("torch", "nunbit"))  # importing them fails
sys.argv = [{str(SCRIPT)!r}, {str(made.path)!r}, *{shown!r}]
runpy.run_path(sys.argv[0], run_name="__main__")"""
    done = subprocess.run(
        [sys.executable, "-c", alone], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == wanted
    assert wanted[0].startswith(f"{shown[0]}: {answer}")
    assert wanted[1] == f"{shown[1]}: not one of your classes"


@pytest.mark.parametrize(
    ("name", "picture"),
    [("deep.png", Image.new("I;16", (40, 40), 3000)), ("ink.jpg", Image.new("CMYK", (40, 40)))],
)
def test_the_program_refuses_what_it_would_get_wrong(
    name: str, picture: Image.Image, tmp_path: Path
) -> None:
    picture.save(tmp_path / name)
    pixels = runpy.run_path(str(SCRIPT))["pixels"]
    with pytest.raises(SystemExit, match=f"{name}: pixels of .*, which `nunbit predict` can read"):
        pixels(tmp_path / name, AS_IT_IS.to_dict())


@pytest.mark.parametrize(
    "preprocess",
    [
        {"resize": "crop"},
        {"resize": "squash"},
        {"resize": "pad"},
        {"resize": "crop", "resize_to": 36, "interpolation": "bicubic"},
        {"resize": "squash", "resize_to": 36},
        {"resize": "pad", "channels": 1, "mean": [0.5], "std": [0.5]},
        {"resize": "crop", "height": 24},
    ],
)
def test_the_programs_pixels_are_nunbits(preprocess: dict[str, object], tmp_path: Path) -> None:
    known = Preprocess.from_dict({**AS_IT_IS.to_dict(), **preprocess})
    pixels = runpy.run_path(str(SCRIPT))["pixels"]
    turned = Image.Exif()
    turned[0x0112] = 6
    clear = noisy_picture((200, 50, 40), 1, (41, 30)).convert("RGBA")
    clear.putalpha(Image.linear_gradient("L").resize(clear.size))
    palette = noisy_picture((90, 150, 40), 2, (50, 50)).quantize(20)
    for name, image, options in (
        ("wide.png", noisy_picture((40, 60, 200), 0, (61, 33)), {}),
        ("high.jpg", noisy_picture((40, 60, 200), 3, (33, 62)), {}),
        ("large.jpg", noisy_picture((40, 200, 60), 4, (640, 411)), {}),
        ("turned.jpg", noisy_picture((40, 200, 60), 5, (64, 40)), {"exif": turned}),
        ("clear.png", clear, {}),
        ("palette.png", palette, {}),
        ("palette.gif", palette, {"transparency": 3}),
        ("grey.png", clear.convert("L"), {}),
        ("right.png", noisy_picture((40, 60, 200), 6, (known.width, known.height)), {}),
    ):
        image.save(tmp_path / name, **options)
        wanted = known.to_pixels(decode(tmp_path / name, known.mode, known.near_side))
        assert np.array_equal(pixels(tmp_path / name, known.to_dict()), wanted), name


@pytest.mark.slow
@pytest.mark.parametrize("name", list_models())
def test_every_network_has_such_a_file(name: str, tmp_path: Path) -> None:
    args = {"blocks": 2} if name == "net-resdeep" else {}
    args |= {"width": 8} if name.startswith("resnet") else {}
    side = 64 if name == "alexnet" else 32
    shape = {"num_classes": 2, "in_channels": 3, "image_size": (side, side)}
    preprocess = replace(AS_IT_IS, height=side, width=side)
    made = export_onnx(
        untrained(build_model(name, **shape, args=args), preprocess), tmp_path / "a.onnx"
    )
    images = torch.randint(0, 256, (5, side, side, 3), dtype=torch.uint8)
    (probabilities,) = said_by(made.path, images)
    wanted = made.classifier.logits(images).softmax(1)
    torch.testing.assert_close(probabilities, wanted, atol=1e-5, rtol=0)
    assert made.outputs == {"probabilities": ["float32", "N", 2]}


@pytest.mark.slow
def test_a_network_of_the_zoo_with_its_own_preprocessing(tmp_path: Path) -> None:
    pytest.importorskip("timm")
    shape = {"num_classes": 2, "in_channels": 3, "image_size": (64, 64)}
    preprocess = Preprocess.from_dict({**AS_IT_IS.to_dict(), "height": 64, "width": 64})
    module = build_model("timm:test_efficientnet", **shape)
    made = export_onnx(untrained(module, preprocess), tmp_path / "a.onnx")
    assert made.max_difference < 1e-4


@pytest.mark.slow
def test_a_file_that_answers_otherwise_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shape = {"num_classes": 2, "in_channels": 3, "image_size": (32, 32)}
    classifier = untrained(build_model("net", **shape))
    traced = exporting._traced

    def wrong(*given: Any) -> tuple[bytes, int]:
        with torch.no_grad():
            next(classifier.module.parameters()).mul_(3)
        return traced(*given)

    monkeypatch.setattr(exporting, "_traced", wrong)
    with pytest.raises(NunbitError, match="does not answer as mine does"):
        export_onnx(classifier, tmp_path / "a.onnx")
    assert not list(tmp_path.iterdir())


def test_what_is_the_same_is_said_of_probabilities_and_of_verdicts() -> None:
    p, verdicts = torch.tensor([[0.9, 0.1], [0.999, 0.001]]), torch.tensor([0, 2])
    assert require_same((p, verdicts), (p + 1e-7, verdicts), "mine") == pytest.approx(1e-7, rel=0.2)
    sure = torch.tensor([[0.9, 0.1], [0.9985, 0.0015]])  # half as much again of what is left
    for other in (sure, p * torch.nan):
        with pytest.raises(NunbitError, match="a probability differs by"):
            require_same((other, verdicts), (p, verdicts), "mine")
    with pytest.raises(NunbitError, match="other verdicts for 1 of 2 pictures"):
        require_same((p, torch.tensor([0, 1])), (p, verdicts), "mine")
    with pytest.raises(ValueError, match="argument"):
        require_same((p,), (p, verdicts), "mine")


@pytest.mark.slow
def test_what_onnx_runtime_refuses_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its errors are no RuntimeError."""
    monkeypatch.setattr(exporting, "_traced", lambda *_given: (b"no file", 20))
    shape = {"num_classes": 2, "in_channels": 3, "image_size": (32, 32)}
    with pytest.raises(UsageError, match="mine cannot be exported to ONNX: "):
        export_onnx(untrained(build_model("net", **shape)), tmp_path / "a.onnx")
    assert not list(tmp_path.iterdir())


class Asks(nn.Module):
    """Goes another way for bright pictures, which no graph can."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        means = x.mean((2, 3))
        return self.head(means) if means.sum().item() > 0 else self.head(-means)


@pytest.mark.slow
def test_a_network_without_such_a_form_is_one_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UsageError, match="mine cannot be exported to ONNX: ") as caught:
        export_onnx(untrained(Asks()), tmp_path / "a.onnx")
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())
    assert capfd.readouterr() == ("", ""), "the exporter's own words"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model file of an untrained network."""
    shape = {"num_classes": 2, "in_channels": 3, "image_size": (32, 32)}
    torch.save(build_model("net", **shape).state_dict(), tmp_path / "weights.pt")
    return nunbit.import_weights(tmp_path / "weights.pt", "net").path


def test_nothing_is_written_over(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = model.with_suffix(".onnx")
    mine.write_bytes(b"mine")
    assert main(["export", str(model)]) == CannotCreateError.exit_code
    assert f"{mine} exists already; choose another --output" in capsys.readouterr().err
    assert mine.read_bytes() == b"mine"
    nowhere = model.parent / "nowhere"
    for words in (
        ["export", str(model)],
        ["import", str(model.with_name("weights.pt")), "--model", "net"],
    ):
        assert main([*words, "--output", str(nowhere / "a")]) == CannotCreateError.exit_code
        assert f"{nowhere} is no folder; create it, or" in capsys.readouterr().err
    for words in (["export", "run/photos"], ["import", "nowhere/w.pt", "--model", "net"]):
        assert main(words) == 66, "the folder of the output is missing since that of the input is"
        assert capsys.readouterr().err == f"nunbit: no file {words[1]}\n"


def test_what_cannot_be_exported_is_one_line(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(tmp_path / "nothing")]) == 66
    assert capsys.readouterr().err.count("\n") == 1
    with pytest.raises(UsageError, match="format is 'tflite'; allowed: onnx"):
        nunbit.export(model, format="tflite")
    monkeypatch.setattr(exporting, "LARGEST_BYTES", 1000)
    assert main(["export", str(model)]) == 2
    assert "net is larger than the 2 GB that an ONNX file can hold" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert main(["export", str(model)]) == 2
    assert 'exporting needs: pip install "nunbit[onnx]"' in capsys.readouterr().err
    assert not model.with_suffix(".onnx").exists()


@pytest.mark.slow
def test_the_command_says_what_the_file_takes_and_gives(
    model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(model), "--output", str(tmp_path / "a.onnx")]) == 0
    out, err = capfd.readouterr()
    assert err == "tracing the network takes some seconds\n"
    said, taken, checked, written = out.splitlines()
    assert said == "input:   images, uint8 (N, 32, 32, 3)"
    assert taken == "outputs: probabilities, float32 (N, 2)"
    assert checked.startswith("checked: ONNX Runtime ")
    assert written.startswith(f"model:   {tmp_path / 'a.onnx'} (0.")
    assert main(["export", str(model), "--output", str(tmp_path / "b.onnx"), "--json"]) == 0
    answer = json.loads(capfd.readouterr().out)
    assert answer["bytes"] == os.path.getsize(tmp_path / "b.onnx")
    assert answer["inputs"] == {"images": ["uint8", "N", 32, 32, 3]}
    assert answer["max_difference"] < 1e-4
