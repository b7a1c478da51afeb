"""Pictures of other sets shown to a classifier of real photographs."""

import shutil
from pathlib import Path

import numpy as np
import pytest

import nunbit
from nunbit.data.sources import open_source

pytestmark = pytest.mark.real
PER_CLASS, SHOWN = 120, 100


@pytest.fixture(scope="module")
def flowers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of some flowers."""
    from conftest import REAL_DATA, START_FOLDER

    root = START_FOLDER / REAL_DATA.split(":")[0] / "flowers"
    if not REAL_DATA or not root.is_dir():
        pytest.skip("NUNBIT_DATA does not name the real data sets")
    folder = tmp_path_factory.mktemp("flowers")
    for kind in sorted(path for path in root.iterdir() if path.is_dir()):
        files = sorted(kind.glob("*.jpg"))
        (folder / kind.name).mkdir()
        for i in np.random.default_rng(0).permutation(len(files))[:PER_CLASS]:
            shutil.copy(files[i], folder / kind.name)
    return folder


def fitted(flowers: Path, folder: Path) -> nunbit.Finished:
    """A last layer for the flowers, that may decline."""
    return nunbit.finetune(
        flowers, strategy="head", budget="1h", run_dir=folder / "run", quiet=True, data__size=128,
        data__val_fraction=0.3,
    )  # fmt: skip


def test_digits_and_photographs_of_other_things_are_foreign(
    flowers: Path, real_data: Path, tmp_path: Path
) -> None:
    run = fitted(flowers, tmp_path)
    decision, answers = run.classifier.decision, run.test.answers
    assert decision is not None
    assert answers is not None
    assert answers.foreign / answers.n <= 0.05  # at most 2 % on average over validation parts
    assert answers.error is None or answers.error <= 0.1
    clf = nunbit.load(run.run_dir)
    for name, least in (("digits", 0.9), ("mnist", 0.9), ("cifar10", 0.6)):
        source = open_source(name)
        part = next(source.parts[key] for key in ("test", "all") if key in source.parts)
        shown = [part.items[i] for i in np.linspace(0, len(part) - 1, SHOWN).astype(int)]
        verdicts = [said.verdict for said in clf.predict(shown)]
        assert verdicts.count("foreign") >= least * SHOWN, name


def test_a_file_for_other_programs_says_the_same_of_photographs(
    flowers: Path, tmp_path: Path
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    run = fitted(flowers, tmp_path)
    made = nunbit.export(run.run_dir)
    images = run.dataset.test.images[:]
    outputs, verdicts = made.classifier.outputs(images)  # the file's float32, where nunbit has bf16
    session = onnxruntime.InferenceSession(made.path, providers=["CPUExecutionProvider"])
    probabilities, declined = session.run(None, {"images": images.numpy()})
    assert np.abs(probabilities - outputs.logits.softmax(1).numpy()).max() < 1e-4
    assert (probabilities.argmax(1) == outputs.logits.argmax(1).numpy()).all()
    assert verdicts is not None
    assert (declined == verdicts.numpy()).all()
    assert len(set(declined.tolist())) > 1
    accuracy = (probabilities.argmax(1) == run.dataset.test.labels.numpy()).mean()
    assert abs(accuracy - run.test.accuracy) < 0.03  # of some 120: three that bf16 rounds otherwise
