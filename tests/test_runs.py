"""A run from settings to a model file, and the model file on its own."""

import json
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import nunbit
from conftest import noisy_picture, write_classes
from nunbit import bundle, runclaim
from nunbit.cli import main
from nunbit.config import RunConfig
from nunbit.data.pictures import Skipped
from nunbit.data.sources import open_source
from nunbit.errors import CannotCreateError, DataError, MissingInputError, UsageError
from nunbit.lock import locked
from nunbit.metrics import ANSWERED
from nunbit.prediction import Prediction, predicted
from nunbit.runclaim import claim_new
from nunbit.runfolder import read_split
from nunbit.storage import load_tensors, save_tensors


@pytest.fixture
def trained(colours: Path, quick: RunConfig, tmp_path: Path) -> Path:
    """The run folder of a network that tells the three colours apart."""
    config = replace(quick, model=replace(quick.model, name="cnn", args={"width": 8}))
    config = config.override({"train.epochs": 4, "train.batch_size": 16, "data.size": 16})
    nunbit.train(config, data=colours, run_dir=tmp_path / "run", quiet=True)
    return tmp_path / "run"


def test_a_run_folder_holds_what_was_promised(trained: Path) -> None:
    files = {str(p.relative_to(trained)) for p in trained.rglob("*") if p.is_file()}
    assert files >= {
        "config.json",
        "metrics.jsonl",
        "timings.jsonl",
        "model.safetensors",
        "split.csv",
        "result.json",
        "report.html",
        "figures/curves.png",
        "figures/confusion.png",
    }
    records = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    assert [r["epoch"] for r in records] == [1, 2, 3, 4]
    assert [r["step"] for r in records] == [3, 6, 9, 12]
    split = (trained / "split.csv").read_text().splitlines()
    assert split[0] == "picture,label,split,digest"
    assert len(split) == 61
    assert sum(",test," in line for line in split) == 12
    result = json.loads((trained / "result.json").read_text())
    assert result["test"]["n"] == 12
    assert result["test"]["accuracy"] == 1.0
    assert result["test"]["ci95"][0] < 0.8, "12 pictures prove little"


def test_the_report_is_one_file_that_loads_nothing(trained: Path) -> None:
    page = (trained / "report.html").read_text()
    assert "http://" not in page
    assert "https://" not in page
    assert 'src="data:image/' in page
    assert "100.0\N{NO-BREAK SPACE}%" in page
    data = page.split('id="nunbit-data">')[1].split("</script>")[0]
    assert json.loads(data)["test"]["n"] == 12
    assert len(page) < 5_000_000


def test_the_report_escapes_names(colours: Path, quick: RunConfig, tmp_path: Path) -> None:
    (colours / "red").rename(colours / "<script>alert(1)")
    config = quick.override({"train.epochs": 1, "data.size": 16})
    nunbit.train(config, data=colours, run_dir=tmp_path / "r", quiet=True)
    page = (tmp_path / "r" / "report.html").read_text()
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)" in page


def test_the_written_config_gives_the_same_weights_bit_for_bit(
    trained: Path, tmp_path: Path
) -> None:
    config = RunConfig.from_json((trained / "config.json").read_text())
    nunbit.train(config, run_dir=tmp_path / "again", quiet=True)
    first, card = load_tensors(trained / "model.safetensors")
    again, card_again = load_tensors(tmp_path / "again" / "model.safetensors")
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert card == card_again


def test_the_model_file_alone_is_enough(trained: Path, colours: Path, tmp_path: Path) -> None:
    shutil.copy(trained / "model.safetensors", tmp_path / "alone.safetensors")
    shutil.rmtree(trained)
    shutil.rmtree(colours)
    classifier = nunbit.load(tmp_path / "alone.safetensors")
    assert classifier.class_names == ("blue", "green", "red")
    picture = noisy_picture((210, 50, 40), 999, (30, 30))
    found = classifier.predict([picture, np.asarray(picture), np.asarray(picture)[:, :, ::-1]])
    assert [p.label for p in found] == ["red", "red", "blue"]
    assert found[0].top == found[1].top
    assert sum(p for _, p in found[0].top) == pytest.approx(1, abs=1e-5)
    metrics = classifier.card["metrics"]["test"]
    assert (metrics["split"], metrics["n"]) == ("test", 12)


def test_prediction_is_training_preprocessing(trained: Path, colours: Path) -> None:
    classifier = nunbit.load(trained)
    files = sorted(colours.rglob("*.png"))[:7]
    by_file = classifier.predict(files)
    assert classifier.predict(file for file in files) == by_file  # type: ignore[arg-type]
    pixels = np.stack([classifier.preprocess.to_pixels(Image.open(f)) for f in files])
    expected = classifier.logits(torch.from_numpy(pixels)).softmax(1)
    for prediction, row in zip(by_file, expected, strict=True):
        assert prediction.probability == pytest.approx(float(row.max()), abs=1e-5)


def test_containers_do_not_change_a_prediction(trained: Path, tmp_path: Path) -> None:
    picture = noisy_picture((40, 180, 60), 5, (32, 32)).resize((64, 64), Image.Resampling.BICUBIC)
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.save(tmp_path / "plain.png")
    turned = picture.transpose(Image.Transpose.ROTATE_90)
    turned.save(tmp_path / "exif.jpg", quality=97, subsampling=0, exif=exif)
    picture.convert("CMYK").save(tmp_path / "cmyk.jpg", quality=97, subsampling=0)
    alpha = picture.convert("RGBA")
    alpha.putalpha(255)
    alpha.save(tmp_path / "alpha.png")
    names = ("plain.png", "exif.jpg", "cmyk.jpg", "alpha.png")
    found = nunbit.predict(trained, [tmp_path / name for name in names])
    for prediction in found[1:]:
        assert prediction.label == found[0].label == "green"
        assert prediction.probability == pytest.approx(found[0].probability, abs=0.02)


def test_a_folder_is_predicted_picture_by_picture(trained: Path, colours: Path) -> None:
    found = nunbit.predict(trained, [colours / "red", colours / "blue" / "000.png"])
    assert len(found) == 21
    assert {p.label for p in found[:20]} == {"red"}
    with pytest.raises(UsageError, match="picture is empty"):
        nunbit.predict(trained, "")
    assert found[20].path.endswith("blue/000.png")


def test_pictures_are_classified_while_they_come(trained: Path, colours: Path) -> None:
    classifier = nunbit.load(trained)
    files = sorted(colours.rglob("*.png"))[:10]
    taken: list[Path] = []

    def camera() -> Iterator[Path]:
        for file in files:
            taken.append(file)
            yield file

    stream = classifier.predict_each(camera(), batch_size=4)
    first = next(stream)
    assert len(taken) == 4, "no further than a batch needs"
    expected = classifier.predict(files)
    for one, other in zip([first, *stream], expected, strict=True):
        assert isinstance(one, Prediction)
        assert (one.path, one.label) == (other.path, other.label)
        assert one.probability == pytest.approx(other.probability, abs=1e-5)
    with pytest.raises(UsageError, match="batch_size is 0"):
        classifier.predict_each(files, batch_size=0)
    assert [one.path for one in classifier.predict_each(files[0])] == [str(files[0])]  # type: ignore[union-attr]
    assert list(classifier.predict_each([])) == []
    stream = classifier.predict_each(camera())
    next(stream)
    stream.close()  # a reader may go away


def test_a_frame_that_is_filled_again_is_read_before(trained: Path) -> None:
    classifier = nunbit.load(trained)
    frame = np.empty((16, 16, 3), np.uint8)

    def camera() -> Iterator[np.ndarray]:
        for colour in ((210, 50, 40), (50, 50, 210), (40, 180, 60)):
            frame[:] = colour
            yield frame

    said = [one.label for one in classifier.predict_each(camera())]  # type: ignore[union-attr]
    assert said == ["red", "blue", "green"]
    one = next((trained.parent / "colours").rglob("*.png"))
    with Image.open(one) as lazy:
        first, second = classifier.predict([lazy, lazy])
    assert first.top == second.top


def test_an_unreadable_picture_stops_no_other(trained: Path, colours: Path, tmp_path: Path) -> None:
    classifier = nunbit.load(trained)
    good = sorted(colours.rglob("*.png"))[:2]
    (tmp_path / "bad.png").write_text("no picture")
    with Image.open(good[0]) as closed:
        pass
    (tmp_path / "gone.png").symlink_to("nowhere")
    bad = [tmp_path / "bad.png", np.zeros((2, 2, 7), np.uint8), closed, tmp_path / "gone.png", 7]
    mixed = [good[0], *bad, good[1]]
    said = list(classifier.predict_each(mixed))  # type: ignore[arg-type]  # 7
    skipped = [one for one in said[1:-1] if isinstance(one, Skipped)]
    assert [one.name for one in skipped] == [str(bad[0]), "#2", "#3", str(bad[3]), "#5"]
    reasons = ["not a picture: text", "an array of", "damaged:", "No such file", "a int; allowed"]
    for one, reason in zip(skipped, reasons, strict=True):
        assert one.reason.startswith(reason)
    assert [one.path for one in said if isinstance(one, Prediction)] == [str(g) for g in good]
    with pytest.raises(MissingInputError, match=r"no picture nowhere\.png"):
        classifier.predict(["nowhere.png"])
    with pytest.raises(DataError, match=r"bad.png cannot be read: not a picture: text"):
        classifier.predict(mixed[:2])  # type: ignore[arg-type]


def test_evaluate_measures_the_held_out_pictures_or_new_ones(
    trained: Path, colours: Path, tmp_path: Path
) -> None:
    own = nunbit.evaluate(trained, quiet=True)
    assert (own.n, own.accuracy) == (12, 1.0)
    assert nunbit.evaluate(trained, colours, quiet=True) == own, "training data is split again"
    new = write_classes(tmp_path / "new", 7, first_seed=50_000)
    shutil.rmtree(new / "blue")
    found = nunbit.evaluate(trained, new, quiet=True)
    assert (found.n, found.correct) == (14, 14)
    assert [row.n for row in found.per_class] == [0, 7, 7]
    (new / "purple").mkdir()
    shutil.copy(new / "red" / "000.png", new / "purple")
    with pytest.raises(DataError, match=r"classes \['purple'\]; this model knows: blue"):
        nunbit.evaluate(trained, new, quiet=True)


def test_the_classifier_measures_what_the_command_measures(trained: Path, colours: Path) -> None:
    classifier = nunbit.load(trained)
    assert classifier.evaluate(colours) == classifier.evaluate() == nunbit.evaluate(trained)


def test_one_class_can_be_measured(trained: Path, tmp_path: Path) -> None:
    new = write_classes(tmp_path / "new", 4, first_seed=90_000)
    shutil.rmtree(new / "blue")
    shutil.rmtree(new / "green")
    assert nunbit.evaluate(trained, new, quiet=True).n == 4


def test_a_picture_is_the_same_as_file_bytes_and_object(trained: Path, tmp_path: Path) -> None:
    picture = noisy_picture((40, 180, 60), 5, (200, 120))
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.save(tmp_path / "p.jpg", exif=exif)
    path = tmp_path / "p.jpg"
    classifier = nunbit.load(trained)
    found = classifier.predict([path, path.read_bytes(), Image.open(path)])
    assert found[0].top == found[1].top
    assert found[2].probability == pytest.approx(found[0].probability, abs=0.02)
    assert classifier.predict(str(path))[0].top == found[0].top
    with pytest.raises(UsageError, match="top is 0"):
        classifier.predict(path, top=0)


def test_a_changed_test_picture_is_noticed(trained: Path, colours: Path) -> None:
    lines = (trained / "split.csv").read_text().splitlines()
    name = next(line.split(",")[0] for line in lines if ",test," in line)
    noisy_picture((1, 2, 3), 1, (20, 16)).save(colours / name)
    with pytest.raises(DataError, match="has changed since the training"):
        nunbit.evaluate(trained, quiet=True)


def test_any_class_name_can_be_drawn(colours: Path, quick: RunConfig, tmp_path: Path) -> None:
    (colours / "red").rename(colours / "$_$")
    nunbit.train(quick, data=colours, epochs=1, size=16, run_dir=tmp_path / "r", quiet=True)
    assert (tmp_path / "r" / "report.html").exists()


def test_the_losses_of_training_and_validation_are_the_same_measure(
    quick: RunConfig, tmp_path: Path
) -> None:
    """With weights that hardly move both are near ln 10, whatever the smoothing."""
    still = {"lr": 1e-9, "label_smoothing": 0.9, "epochs": 1}
    finished = nunbit.train(quick, run_dir=tmp_path / "r", quiet=True, **still)
    epoch = finished.epochs[0]
    assert epoch.train_loss == pytest.approx(epoch.val_loss, abs=0.02)


def test_training_data_is_known_wherever_it_lies(
    trained: Path, colours: Path, tmp_path: Path
) -> None:
    before = nunbit.evaluate(trained, quiet=True)
    shutil.copytree(colours, tmp_path / "elsewhere" / "photos")
    after = nunbit.evaluate(trained, data=tmp_path / "elsewhere" / "photos", quiet=True)
    assert (after.n, after.loss) == (before.n, before.loss) == (12, before.loss)
    noisy_picture((1, 2, 3), 1, (20, 16)).save(tmp_path / "elsewhere" / "photos" / "red" / "x.png")
    other = nunbit.evaluate(trained, data=tmp_path / "elsewhere" / "photos", quiet=True)
    assert other.n == 61, "other data is measured whole"


def test_other_data_that_holds_training_pictures_says_so(
    trained: Path, colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A copy of the training's folder with one file more was measured whole without a word."""
    other = write_classes(tmp_path / "other", 5, first_seed=900)
    nunbit.evaluate(trained, data=other)
    assert "flatters" not in capsys.readouterr().err
    shutil.copytree(colours, tmp_path / "copy")
    (tmp_path / "copy" / "red" / "000.png").unlink()
    nunbit.evaluate(trained, data=tmp_path / "copy")
    held_out = sum(split == "test" for _, split, _ in read_split(trained).values())
    seen = 60 - held_out - int(read_split(trained)["red/000.png"][1] != "test")
    line = f"the model was trained on {seen} of these 59 pictures, or chosen by them"
    assert line in capsys.readouterr().err
    shutil.copy(trained / "model.safetensors", tmp_path / "alone.safetensors")
    nunbit.evaluate(tmp_path / "alone.safetensors", data=tmp_path / "copy")
    assert "flatters" not in capsys.readouterr().err, "nobody knows"
    (trained / "split.csv").write_text("torn")
    assert nunbit.evaluate(trained, data=tmp_path / "copy").n == 59, "and measures all the same"


def test_a_lost_table_of_overrides_is_no_reason_to_measure_training_pictures(
    colours: Path, quick: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "fixes.csv").write_text("path,action,label,reason\nred/000.png,drop,,blurred\n")
    settings = {"data__overrides": tmp_path / "fixes.csv", "size": 16, "epochs": 1}
    nunbit.train(quick, data=colours, run_dir=tmp_path / "r", quiet=True, **settings)
    before = nunbit.evaluate(tmp_path / "r", quiet=True)
    shutil.copytree(colours, tmp_path / "copy")
    after = nunbit.evaluate(tmp_path / "r", data=tmp_path / "copy", quiet=True)
    assert (after.n, after.loss) == (before.n, before.loss)
    published = replace(open_source(str(tmp_path / "copy")), is_published=True)
    with monkeypatch.context() as patched:
        patched.setattr(bundle, "open_source", lambda *_: published)
        assert nunbit.evaluate(tmp_path / "r", data="mnist", quiet=True).n == 60, "other data"
    (tmp_path / "fixes.csv").unlink()
    with pytest.raises(MissingInputError, match="no table"):
        nunbit.evaluate(tmp_path / "r", data=tmp_path / "copy", quiet=True)
    shutil.rmtree(tmp_path / "copy" / "red")
    write_classes(tmp_path / "copy", 2, first_seed=900)
    assert nunbit.evaluate(tmp_path / "r", data=tmp_path / "copy", quiet=True).n == 42


@pytest.mark.parametrize("verb", ["train", "finetune", "compare"])
def test_results_never_lie_inside_the_data(
    verb: str, colours: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(colours)
    words = {
        "train": ["train", "--data", "."],
        "finetune": ["finetune", "."],
        "compare": ["compare", "photos/cnn", "--data", "."],
    }
    assert main([*words[verb], "--quiet"]) == 2
    assert (
        "would lie inside the data; choose another place with --run-dir" in capsys.readouterr().err
    )
    assert sorted(path.name for path in colours.iterdir()) == ["blue", "green", "red"]


def test_an_empty_name_is_not_some_other_data(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "--data", "", "--budget", "60s"]) == 2
    assert "data.source is ''; allowed: a name, folder" in capsys.readouterr().err
    assert main(["evaluate", str(trained), "--data", ""]) == 2
    assert "no data: its name is empty" in capsys.readouterr().err


def test_evaluate_refuses_training_data_that_changed(trained: Path, colours: Path) -> None:
    (colours / "red" / "000.png").unlink()
    with pytest.raises(DataError, match="has changed since the training"):
        nunbit.evaluate(trained, quiet=True)


def test_nothing_is_written_over(trained: Path, quick: RunConfig) -> None:
    def contents() -> dict[Path, bytes]:
        files = (p for p in trained.rglob("*") if p.is_file() and p.name != ".lock")
        return {p: p.read_bytes() for p in files}

    before = contents()
    with pytest.raises(CannotCreateError, match="exists and is not empty"):
        nunbit.train(quick, run_dir=trained, quiet=True)
    assert before == contents()


def test_a_name_that_is_no_text_is_refused_before_the_training(
    quick: RunConfig, colours: Path, tmp_path: Path
) -> None:
    name = os.fsdecode(b"caf\xe9")
    says = r"caf\\xe9.* is not in UTF-8; rename it"
    with pytest.raises(UsageError, match=says):
        nunbit.train(quick, run_dir=tmp_path / name, quiet=True)
    assert not (tmp_path / name).exists()
    (tmp_path / name).write_text("path,action,label\n")
    with pytest.raises(UsageError, match=says):
        nunbit.train(quick, data=colours, data__overrides=name, quiet=True)
    with pytest.raises(UsageError, match=says):
        nunbit.finetune(colours, weights=name, quiet=True)
    assert not (tmp_path / "runs").exists()
    (tmp_path / name).unlink()
    (tmp_path / name).mkdir()
    (tmp_path / name / "config.json").write_text(quick.to_json())
    with pytest.raises(UsageError, match=says):
        nunbit.resume(tmp_path / name, quiet=True)


def test_run_folders_are_numbered(quick: RunConfig) -> None:
    config = quick.override({"train.epochs": 1})
    folders = [nunbit.train(config, quiet=True).run_dir for _ in range(3)]
    assert [str(f) for f in folders] == ["runs/quick", "runs/quick-2", "runs/quick-3"]


def test_bad_model_files_are_refused(trained: Path, tmp_path: Path) -> None:
    tensors, card = load_tensors(trained / "model.safetensors")
    path = tmp_path / "m.safetensors"
    for change, says in (
        ({"format_version": 99}, "format 99"),
        ({"model": {"name": "os.system", "args": {}}}, "no network 'os.system'"),
        ({"class_names": ["a", "b"]}, "does not describe its own weights"),
        ({"preprocess": {"height": 3}}, "preprocessing is not understood"),
    ):
        save_tensors(path, tensors, {**card, **change})
        with pytest.raises((DataError, UsageError), match=says):
            nunbit.load(path)
    with pytest.raises(MissingInputError, match=r"holds no model\.safetensors"):
        nunbit.load(tmp_path)


def test_two_that_start_at_once_take_two_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = iter((tmp_path / "mine", tmp_path / "locked", tmp_path / "taken", tmp_path / "b"))
    monkeypatch.setattr(runclaim, "next_run_dir", lambda _recipe: next(free))
    (tmp_path / "locked").mkdir()
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "split.csv").touch()
    with claim_new(None, "quick") as mine, locked(tmp_path / "locked"):
        assert mine == tmp_path / "mine"
        with claim_new(None, "quick") as folder:
            assert folder == tmp_path / "b"


@pytest.mark.parametrize("words", [["train", "--budget", "9s", "--data"], ["finetune"]])
def test_a_folder_that_is_taken_is_refused_before_anything_is_read(
    words: list[str], colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (colours / "red" / "000.png").write_text("no picture")
    (tmp_path / "file").touch()
    for place in (tmp_path, tmp_path / "file" / "run"):
        assert main([*words, str(colours), "--run-dir", str(place)]) == 73
        assert len(capsys.readouterr().err.splitlines()) == 1


def test_settings_by_keyword_and_their_mistakes(quick: RunConfig, tmp_path: Path) -> None:
    finished = nunbit.train(quick, epochs=1, optim__lr=0.01, run_dir=tmp_path / "r", quiet=True)
    assert finished.config.train.epochs == 1
    assert finished.config.optim.lr == 0.01
    with pytest.raises(UsageError, match="did you mean 'epochs'"):
        nunbit.train(quick, epoch=3)
    with pytest.raises(UsageError, match=r"'train\.epochs' is given twice"):
        nunbit.train(quick, epochs=3, train__epochs=4)


def test_importing_nunbit_costs_no_torch_and_names_what_it_has() -> None:
    import subprocess

    code = "import nunbit, sys; assert 'torch' not in sys.modules; print(nunbit.__all__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "train" in done.stdout
    for name in nunbit.__all__:
        assert getattr(nunbit, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        nunbit.trian  # noqa: B018  # the attribute access is what is tested


def test_initial_weights_are_chosen_by_name(quick: RunConfig, tmp_path: Path) -> None:
    config = quick.override({"model.init": "normal", "optim.lr": 1e-9, "optim.name": "sgd"})
    run = nunbit.train(config, run_dir=tmp_path / "run", epochs=1, quiet=True)
    weights = torch.cat([p.flatten() for p in run.classifier.module.parameters() if p.dim() > 1])
    assert weights.std().item() == pytest.approx(0.01, rel=0.05)  # as `initialize` documents
    again = RunConfig.from_json((tmp_path / "run" / "config.json").read_text())
    assert again.model.init == "normal"
    with pytest.raises(UsageError, match=r"model\.init"):
        quick.override({"model.init": "xaver"})


def test_one_that_lost_its_folder_to_another_takes_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who looks first may make `runs` and remove it again, between two steps of the other."""
    original, gone = runclaim.create_folder, []

    def vanishing(folder: Path) -> None:
        original(folder)
        if not gone:
            gone.append(True)
            shutil.rmtree(folder.parent)

    monkeypatch.setattr(runclaim, "create_folder", vanishing)
    with claim_new(None, "quick") as folder:
        assert gone
        assert folder == Path("runs/quick")


def test_a_folder_of_somebody_is_not_searched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "disk" / "deep").mkdir(parents=True)
    monkeypatch.setattr(Path, "rglob", lambda *_: pytest.fail("it may be the whole disk"))
    with pytest.raises(CannotCreateError, match="not empty"), claim_new(tmp_path / "disk", "quick"):
        pass


def test_a_current_folder_that_is_gone_is_one_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises((CannotCreateError, OSError)), claim_new(None, "quick"):
        pass


def test_evaluate_can_leave_out_what_cannot_be_read(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new = write_classes(tmp_path / "new", 4, first_seed=90_000)
    (new / "red" / "000.png").write_bytes(b"torn")
    words = ["evaluate", str(trained), "--data", str(new)]
    assert main(words) == 65
    assert "1 pictures cannot be read (--skip-bad leaves them out)" in capsys.readouterr().err
    assert main([*words, "--skip-bad", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["n"] == 11
    assert "left out red/000.png: not a picture" in err
    assert main(["evaluate", str(trained), "--data", str(new), "--skip-bad", "--quiet"]) == 0


def test_training_data_is_known_by_every_spelling_of_its_name(
    trained: Path, colours: Path, quick: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What changed since is refused; measured whole, it would be mostly training pictures."""
    monkeypatch.setenv("HOME", str(colours.parent))
    assert nunbit.evaluate(trained, "~/colours", quiet=True) == nunbit.evaluate(trained, quiet=True)
    noisy_picture((1, 2, 3), 1, (20, 16)).save(colours / "red" / "new.png")
    for name in ("~/colours", str(colours), f"{colours}/../colours"):
        with pytest.raises(DataError, match="has changed since the training"):
            nunbit.evaluate(trained, name, quiet=True)
    shutil.copytree(colours, tmp_path / "digits")
    nunbit.train(quick, data="./digits", size=8, channels=1, run_dir="d", quiet=True)
    with pytest.raises(DataError, match="the data has classes"):
        nunbit.evaluate("d", "digits", quiet=True)


def test_moved_training_data_with_a_damaged_picture_is_not_measured_whole(
    trained: Path, colours: Path, tmp_path: Path
) -> None:
    shutil.copytree(colours, tmp_path / "copy")
    (tmp_path / "copy" / "red" / "000.png").write_bytes(b"torn")
    with pytest.raises(DataError, match="cannot be read, so that nobody can tell which pictures"):
        nunbit.evaluate(trained, tmp_path / "copy", skip_bad=True, quiet=True)
    write_classes(tmp_path / "copy", 50, first_seed=90_000)  # other data, and more of it
    (tmp_path / "copy" / "blue" / "000.png").write_bytes(b"torn")
    assert nunbit.evaluate(trained, tmp_path / "copy", skip_bad=True, quiet=True).n == 149


def test_of_equally_probable_classes_the_first_is_named() -> None:
    """As argmax does where accuracy is measured; bf16 gives many equal logits."""
    names = tuple("abcdefghij")
    for tied in ([3, 7], [1, 2, 5, 9], list(range(10))):
        p = torch.zeros(10)
        p[tied] = 1 / len(tied)
        said = predicted("x", p, names, 3, ANSWERED)
        assert said.label == names[int(p.argmax())] == names[tied[0]]
        assert [label for label, _ in said.top][: len(tied)] == [names[i] for i in tied[:3]]
