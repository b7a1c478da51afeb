"""The twelve mistakes: their experiments show what the document says, and the guards hold."""

import importlib
import re
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

import pytest
import torch

import nunbit
from nunbit.config import OptimConfig, RunConfig
from nunbit.errors import UsageError
from nunbit.finished import Finished
from nunbit.legacy.child import read_state_dict
from nunbit.models.registry import build_model
from nunbit.progress import Display
from nunbit.run import train_run
from nunbit.runtime import seeded
from nunbit.training.optim import build_optimizer
from nunbit.training.state import TrainState

ROOT = Path(__file__).parents[1]
EXAMPLES, PAGE = ROOT / "examples" / "mistakes", ROOT / "docs" / "mistakes.md"
NAMES = sorted(path.stem for path in EXAMPLES.glob("[a-l]_*.py"))
Pairs = dict[str, tuple[Any, Any]]


def example(name: str) -> ModuleType:
    with patch.object(sys, "path", [str(EXAMPLES), *sys.path]):
        return importlib.import_module(name)


@pytest.fixture(scope="module")
def data() -> Any:
    whole = example("plain").read()
    return replace(whole, x_train=whole.x_train[:512], y_train=whole.y_train[:512])


def measured(name: str, data: Any, epochs: int) -> Pairs:
    """Run one experiment with one seed and return (wrong, right) by what was measured."""
    rows = example(name).measure(data, 1, epochs)
    assert example("plain").table(rows).count("\n") == len(rows) + 1
    return {row.what: (row.wrong, row.right) for row in rows}


def found(pairs: Pairs, words: str) -> tuple[Any, Any]:
    """Return the only row whose text has these words, accuracies as numbers."""
    (row,) = (pair for what, pair in pairs.items() if words in what)
    wrong, right = (cell[0] if isinstance(cell, list) else cell for cell in row)
    return wrong, right


def test_an_added_factor_has_no_effect_and_a_multiplied_one_has(data: Any) -> None:
    pairs = measured("a_penalty", data, epochs=2)
    still, changed = map(float, found(pairs, "largest change"))
    assert still == 0.0
    assert changed > 0.0
    small, large = map(float, found(pairs, "squared weights"))
    assert small < 0.1 * large


def test_ten_repeated_blocks_have_the_parameters_of_one(data: Any) -> None:
    pairs = measured("b_repeated_block", data, epochs=1)
    one, ten = found(pairs, "parameters of 10 blocks")
    assert ten == 10 * one
    refused, saved = found(pairs, "saving with safetensors")
    assert "share memory" in refused
    assert saved == "no error"


def test_a_foreign_optimizer_moves_nothing(data: Any) -> None:
    pairs = measured("c_optimizer", data, epochs=1)
    assert found(pairs, "tensors that moved") == (0, 6)
    piled, normal = map(float, found(pairs, "length of the last gradient"))
    assert piled > normal


def test_sorted_pictures_teach_the_last_class_alone(data: Any) -> None:
    pairs = measured("d_unshuffled", data, epochs=4)
    wrong, right = found(pairs, "sorted by class: test")
    assert wrong < right - 0.3


def test_measuring_without_eval_is_random_and_changes_the_model(data: Any) -> None:
    pairs = measured("e_eval_mode", data, epochs=1)
    differing, same = found(pairs, "second pass")
    assert differing > 0
    assert same == 0
    assert found(pairs, "measuring changed") == (6, 0), "two norms: mean, variance and a counter"


def test_the_last_batch_is_lost_or_cut_wrongly(data: Any) -> None:
    pairs = measured("f_last_batch", data, epochs=1)
    assert found(pairs, "pictures measured") == (256, 359)
    assert found(pairs, "pictures of class 9") == (0, 36)
    assert found(pairs, "view alone") == (256, 192)
    assert "cannot be multiplied" in found(pairs, "linear layer")[0]


def test_a_log_behind_the_loop_has_one_record(data: Any) -> None:
    pairs = measured("g_logging", data, epochs=6)
    assert found(pairs, "records") == (1, 6)
    late, early = found(pairs, "until it is seen")
    assert late == 6
    assert early <= 3


def test_a_missing_flatten_is_an_error_or_nonsense(data: Any) -> None:
    pairs = measured("h_flatten", data, epochs=1)
    assert "cannot be multiplied" in found(pairs, "a layer for 128 numbers")[0]
    assert found(pairs, "shape") == ("64 x 8 x 4 x 10", "64 x 10")
    assert "targets" in found(pairs, "its loss")[0]
    assert [right for _, right in pairs.values()].count("no error") == 2


def test_forward_leaves_hooks_out(data: Any) -> None:
    pairs = measured("i_forward", data, epochs=1)
    assert found(pairs, "calls of a hook") == (0, 1)
    assert found(pairs, "without a gradient") == (1, 0)
    same = found(pairs, "no hooks")
    assert same[0] == same[1], "nothing but hooks is lost"


def test_a_pickle_runs_what_is_in_it(data: Any) -> None:
    pairs = measured("j_load", data, epochs=1)
    assert found(pairs, "ran") == ("yes", "no")
    assert "Weights only load failed" in found(pairs, "torch.load")[1]
    on_cpu, mapped = found(pairs, "GPU")
    assert mapped == "no error"
    assert torch.cuda.is_available() or "CUDA" in on_cpu


def test_other_constants_at_prediction_cost_accuracy(data: Any) -> None:
    pairs = measured("k_normalisation", data, epochs=4)
    wrong, right = found(pairs, "from 0 to 255")
    assert wrong < right - 0.02
    averaged, whole = map(float, found(pairs, "value of that std"))
    assert averaged < whole


def test_running_accuracy_with_dropout_is_too_low(data: Any) -> None:
    pairs = measured("l_running_accuracy", data, epochs=4)
    running, in_eval = found(pairs, "dropout 0.4: training")
    assert running < in_eval - 0.02


def test_the_page_has_every_experiment_and_names_only_tests_that_exist() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert [name[0] for name in NAMES] == list("abcdefghijkl")
    for name in NAMES:
        assert f"`{name}.py`" in page
        assert f"](#{name[0]})" in page
        assert f'<a id="{name[0]}"></a>' in page
    named = re.findall(r"`(test_\w+)\.py`: `(test_\w+)`", page)
    assert len(named) >= 12
    for file, test in named:
        assert f"def {test}(" in (ROOT / "tests" / f"{file}.py").read_text(), (file, test)
    for path in re.findall(r"`((?:data|models|training|legacy)/\w+\.py|evaluation\.py)`", page):
        assert (Path(nunbit.__file__).parent / path).exists(), path


def test_the_page_has_one_place_for_each_table() -> None:
    runner, page = example("all"), PAGE.read_text(encoding="utf-8")
    assert list(runner.GUARDS) == NAMES
    parts = {part: f"new {part}" for part in ("all", "how", *"abcdefghijkl")}
    filled = runner.fill(page, parts)
    assert all(f"\n{text}\n" in filled for text in parts.values())
    assert filled.count("<!-- end -->") == len(parts)
    with pytest.raises(ValueError, match="0 places for 'm'"):
        runner.fill(page, {"m": ""})


# The guards of nunbit that no other test holds.


def finish(config: RunConfig, folder: Path) -> Finished:
    """Do a whole run, but for its report."""
    return train_run(config, folder / "run", Display(quiet=True), lambda _finished: None)


def test_every_weight_of_a_run_has_moved(quick: RunConfig, tmp_path: Path) -> None:
    """(c): the optimizer of a whole run is that of the network that is saved."""
    config = quick.override({"train.epochs": 1})
    finished = finish(config, tmp_path)
    with seeded(config.train.seed, "init"):
        fresh = build_model(
            "net", num_classes=10, in_channels=1, image_size=(8, 8), args=config.model.args
        )
    after = dict(finished.classifier.module.named_parameters())
    for name, before in fresh.named_parameters():
        assert not torch.equal(before, after[name]), f"{name} was not trained"


def test_reported_accuracies_are_those_without_dropout(quick: RunConfig, tmp_path: Path) -> None:
    """(e), (l): a run reports what a plain loop in eval mode counts after the last update."""
    config = quick.override(
        {"model.name": "net-dropout", "train.epochs": 1, "data.val_fraction": 0}
    )
    finished = finish(config, tmp_path)
    model, dataset = finished.classifier.module.eval(), finished.dataset
    for reported, pictures in ((finished.train, dataset.train), (finished.test, dataset.test)):
        with torch.no_grad():
            logits = model(dataset.preprocess.normalize(pictures.images[:]))
        counted = (logits.argmax(1) == pictures.labels).double().mean()
        assert reported.accuracy == pytest.approx(float(counted), abs=1e-9)
    assert finished.epochs[0].running_accuracy < finished.train.accuracy


def test_weights_of_a_gpu_are_read_without_one(tmp_path: Path) -> None:
    """(j): the import maps to the CPU."""
    weights = {"weight": torch.arange(3.0)}
    with patch.object(torch.serialization, "location_tag", lambda _storage: "cuda:0"):
        torch.save(weights, tmp_path / "gpu.pt")
    assert torch.equal(read_state_dict(tmp_path / "gpu.pt")["weight"], weights["weight"])


def test_an_optimizer_of_another_network_is_refused() -> None:
    with seeded(0, "test"):
        model, other = (
            build_model("net", num_classes=2, in_channels=3, image_size=(8, 8)) for _ in range(2)
        )
    with pytest.raises(UsageError, match="8 of 8 tensors of the optimizer are not of the network"):
        TrainState(model, build_optimizer(other, OptimConfig()))
    optimizer = build_optimizer(model, OptimConfig())
    model.reset_head(3)  # type: ignore[operator]  # too late: the optimizer holds the old head
    with pytest.raises(UsageError, match="2 of 8"):
        TrainState(model, optimizer)
