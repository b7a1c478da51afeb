"""Comparisons: the statistics against what is known, the plan, and whole comparisons of digits."""

import csv
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.stats import chi2
from torch import nn

import nunbit
from conftest import noisy_picture, write_classes
from nunbit.cli import main
from nunbit.cli.compare import print_table
from nunbit.comparison import compare as compare_module
from nunbit.comparison import pool, table, worker
from nunbit.comparison.compare import Comparison
from nunbit.comparison.findings import find_differences, summarize_findings
from nunbit.comparison.plan import PlannedRun, configure, plan_runs, require_own
from nunbit.comparison.samedata import data_key
from nunbit.comparison.statistics import (
    Correct,
    difference_interval,
    holm,
    mcnemar,
    mean_interval,
    seeds_interval,
    spread_test,
)
from nunbit.comparison.table import Row
from nunbit.config import RunConfig
from nunbit.data.pictures import Source
from nunbit.errors import (
    CannotCreateError,
    DataError,
    LockedError,
    MissingInputError,
    NunbitError,
    UsageError,
)
from nunbit.lock import locked
from nunbit.models.registry import BUILDERS, register_model
from nunbit.progress import Display
from nunbit.reading import OnceReader
from nunbit.recipes import get_recipe
from nunbit.recipes.texts import TEXTS
from nunbit.runfolder import read_config, read_losses, read_predictions, read_result
from nunbit.runtime import choose_runtime
from nunbit.signals import stop_requests
from nunbit.storage import temporary_name

SMALL = "digits/cnn:model.width=4"
WIDE = "digits/cnn:model.width=8"
PRETRAINED = "model.name=timm:test_vit,model.weights=pretrained"


def pair(both: int, only_a: int, only_b: int, neither: int) -> tuple[Correct, Correct]:
    """Two networks of one seed, by how many pictures which of them gets right."""
    counts = (both, only_a, only_b, neither)
    a = np.repeat([True, True, False, False], counts)[None]
    b = np.repeat([True, False, True, False], counts)[None]
    return a, b


def simulated(
    rng: np.random.Generator, seeds: int, accuracy: float, spread: float, pictures: int = 500,
    *, same: bool = False,
) -> Correct:  # fmt: skip  # one number a line would say no more
    """Pictures of unlike difficulty (the same in each call, if asked), seeds of unlike luck."""
    luck = rng.normal(0, spread, (seeds, 1))
    draw = np.random.default_rng(0) if same else rng
    shares = draw.beta(8 * accuracy, 8 * (1 - accuracy), (1, pictures))
    found: Correct = rng.random((seeds, pictures)) < np.clip(shares + luck, 0, 1)
    return found


def test_one_seed_is_mcnemars_exact_test() -> None:
    # 1 of 10 pictures that only one of the two got right: 2 * (1 + 10) / 2^10
    assert mcnemar(*pair(50, 9, 1, 40)) == pytest.approx(22 / 1024)
    assert mcnemar(*pair(50, 0, 0, 50)) == 1.0


def test_repeating_the_same_seed_proves_nothing_more() -> None:
    a, b = pair(500, 60, 30, 110)
    once = chi2.sf((60 - 30) ** 2 / (60 + 30), df=1)
    for times in (2, 5):  # pictures seen several times are not several pictures
        assert mcnemar(np.repeat(a, times, 0), np.repeat(b, times, 0)) == pytest.approx(once)


def test_holms_correction_of_a_known_example() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []
    assert holm([0.9, 0.8]) == [1.0, 1.0]


def test_the_interval_holds_the_truth_nineteen_times_of_twenty() -> None:
    rng = np.random.default_rng(0)
    held = [mean_interval(simulated(rng, 3, 0.8, 0.0)) for _ in range(400)]
    assert 0.92 < np.mean([low <= 0.8 <= high for low, high in held]) < 0.99


def test_equal_recipes_are_called_different_once_in_twenty_at_most() -> None:
    rng = np.random.default_rng(1)
    found = 0
    for _ in range(400):
        rows = [row(name, simulated(rng, 3, 0.8, 0.01)) for name in "ab"]
        found += find_differences(rows, 500)[0].real
    assert found / 400 < 0.05


def test_none_of_many_equal_recipes_is_called_different() -> None:
    rng = np.random.default_rng(4)
    found = 0
    for _ in range(100):  # with the seeds' spread outside of the correction it was one in seven
        rows = [row(name, simulated(rng, 3, 0.88, 0.006, 2000, same=True)) for name in "abcdefg"]
        found += any(difference.real for difference in find_differences(rows, 2000))
    assert found / 100 < 0.06


def test_the_spread_test_and_the_interval_agree() -> None:
    rng = np.random.default_rng(5)
    for seeds in (1, 2, 5):
        for _ in range(50):
            a, b = simulated(rng, seeds, 0.8, 0.01), simulated(rng, seeds, 0.78, 0.01)
            low, high = difference_interval(a, b)
            assert (spread_test(a, b) < 0.05) == (not low <= 0 <= high)


def test_few_pictures_prove_little() -> None:
    right = np.ones((3, 10), dtype=bool)
    low, high = mean_interval(right)
    assert (0.6 < low < 0.75, high) == (True, 1.0)
    low, high = difference_interval(right, right)
    assert low == -high < -0.2
    luck = np.array([[True] * 9 + [False], [False] * 9 + [True]])  # one seed diverged
    assert difference_interval(luck, ~luck) == (-1.0, 1.0)
    assert spread_test(right, right) == 1.0


def test_a_paired_difference_is_sharper_than_two_intervals() -> None:
    rng = np.random.default_rng(2)
    difficulty = rng.random((1, 4000))
    draws = rng.random((2, 3, 4000))
    a, b = draws[0] < difficulty, draws[1] < difficulty * 0.98
    low, high = difference_interval(a, b)
    (a_low, a_high), (b_low, b_high) = mean_interval(a), mean_interval(b)
    assert high - low < (a_high - a_low) + (b_high - b_low)


def test_other_seeds_end_inside_their_interval_in_95_of_100() -> None:
    rng = np.random.default_rng(0)
    held = [seeds_interval((0.9 + rng.normal(0, 0.004, 3)).tolist()) for _ in range(2000)]
    assert np.mean([ends and ends[0] <= 0.9 <= ends[1] for ends in held]) == pytest.approx(
        0.95, abs=0.012
    )
    low, high = seeds_interval([0.9, 0.92, 0.94]) or (0.0, 0.0)
    assert (low, high) == pytest.approx((0.92 - 0.04968, 0.92 + 0.04968), abs=1e-4)
    assert seeds_interval([0.9, 1.0]) == pytest.approx((0.3147, 1.0), abs=1e-3), (
        "no share is above 1"
    )
    assert seeds_interval([0.9]) is None


def row(name: str, correct: Correct) -> Row:
    tests = tuple(map(float, correct.mean(1)))
    return Row(
        recipe=name, parameters=1, epochs=1, seeds=len(correct), train_mean=1.0, train_ci95=None,
        test_mean=float(correct.mean()), test_std=float(np.std(tests, ddof=1)) if len(tests) > 1
        else None, test_ci95=mean_interval(correct), final_loss=0.1, seconds=1.0, tests=tests,
        classic=True, losses=((0.1,),) * len(tests), correct=correct,
    )  # fmt: skip


def test_sentences_say_what_can_be_told_apart() -> None:
    rng = np.random.default_rng(3)
    rows = [
        row("birds/net", simulated(rng, 3, 0.7, 0.001)),
        row("birds/width", simulated(rng, 3, 0.9, 0.001)),
        row("birds/res", simulated(rng, 3, 0.9, 0.001)),
    ]
    differences = find_differences(rows, 500)
    assert [d.real for d in differences] == [True, True, False]
    assert "not distinguishable with 500 pictures and 3 seeds" in differences[2].sentence
    assert "points better than birds/net (95 % interval" in differences[0].sentence
    findings = " ".join(summarize_findings(rows, differences, 500))
    assert "2 of 3 pairs differ beyond chance" in findings
    assert "another seed alone moves an accuracy by" in findings
    assert "--seeds 3" not in findings
    # The texts order net below width and res, which are equal there.
    assert "the texts' ranking is supported: of the 2 pairs" in findings


@pytest.mark.parametrize(("seeds", "said"), [(1, True), (2, True), (3, False)])
def test_few_seeds_are_called_few(seeds: int, said: bool) -> None:
    rng = np.random.default_rng(3)
    rows = [row(name, simulated(rng, seeds, 0.9, 0.001)) for name in ("a", "b")]
    findings = summarize_findings(rows, find_differences(rows, 500), 500)
    assert ("--seeds 3" in " ".join(findings)) == said


@pytest.mark.parametrize("label", ["birds/net", "birds/resdeep:model.shared=true"])
def test_the_texts_figures_stand_beside_what_has_their_settings(label: str, tmp_path: Path) -> None:
    config = configure(label, None, {}).override({"train.seed": 2, "train.precision": "bf16"})
    assert TEXTS[label].test > 0.8
    assert table.is_classic(PlannedRun(label, config, tmp_path))
    longer = config.override({"train.epochs": 101})
    assert not table.is_classic(PlannedRun(label, longer, tmp_path))


def test_the_printed_table_has_both_accuracies_of_a_text(
    capsys: pytest.CaptureFixture[str],
) -> None:
    right = np.ones((2, 40), dtype=bool)
    print_table([row(name, right).to_dict() for name in ("birds/net", "birds/mlp", "digits/cnn")])
    words = [line.split() for line in capsys.readouterr().out.splitlines()]
    ends = {line[0]: line[-3:] for line in words if line}
    assert ends["birds/net"] == ["93.5", "/", "89"]
    assert ends["birds/mlp"] == ["-", "/", "82"]
    assert ends["digits/cnn"][-1] == "-"


def test_the_printed_interval_has_its_own_ends(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    line = row("birds/net", np.array([[True] * 497 + [False] * 3])).to_dict()
    line["test_ci95"] = (0.9783, 1.0)
    print_table([line])
    shown = capsys.readouterr().out
    assert "99.4 (97.8 to 100.0)" in shown
    assert "parameters" in shown
    monkeypatch.setenv("FORCE_COLOR", "1")  # which rich takes for a terminal
    monkeypatch.setenv("COLUMNS", "80")
    print_table([line])
    narrow = capsys.readouterr().out
    assert "99.4 (97.8 to 100.0)" in narrow
    assert "93.5 / 89" in narrow
    assert "loss" not in narrow
    assert "…" not in narrow


def test_pretrained_networks_see_pictures_their_own_way(colours: Path) -> None:
    plain = get_recipe("photos/cnn", str(colours))
    own = {"model.name": "timm:test_efficientnet", "model.weights": "pretrained"}
    read, display = OnceReader(), Display(quiet=True)
    sides = []
    for config in (plain, plain.override(own), plain):
        with stop_requests() as stop:
            sides.append(
                read(config, choose_runtime(config.train), display, stop).preprocess.height
            )
    assert sides == [16, 160, 16]


def test_data_is_found_once_before_several_processes_look_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = []

    def missing(spec: str, _track: object) -> Source:
        opened.append(spec)
        raise MissingInputError("{spec} is nowhere", spec=spec)

    monkeypatch.setattr(compare_module, "open_source", missing)
    with pytest.raises(NunbitError, match=r"digits/cnn:model\.width=4, seed 0: digits is nowhere"):
        nunbit.compare([SMALL, WIDE], seeds=2, run_dir=tmp_path / "c", quiet=True)
    assert opened == ["digits"]


@pytest.mark.slow
def test_a_worker_imports_nothing_from_the_current_folder(tmp_path: Path) -> None:
    (tmp_path / "random.py").write_text("raise SystemExit('not the library')")
    found = nunbit.compare(
        [SMALL, WIDE],
        seeds=1,
        epochs=1,
        run_dir=tmp_path / "c",
        quiet=True,
        train__precision="fp32",
    )
    assert len(found.rows) == 2


def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Let workers be Python processes with code of the test's."""
    program = tmp_path / "stand-in"
    program.write_text(f"#!{sys.executable}\n{code}")
    program.chmod(0o755)
    monkeypatch.setattr(pool.sys, "executable", str(program))


@pytest.mark.parametrize(
    ("code", "how"),
    [
        ("raise SystemExit(3)", "exit code 3"),
        (
            "import os; os.kill(os.getpid(), 9)",
            "killed by SIGKILL, probably by the system because memory",
        ),
        ("import os; os.kill(os.getpid(), 11)", "killed by SIGSEGV"),
    ],
)
def test_a_worker_that_died_is_no_bad_data(
    code: str, how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(tmp_path, monkeypatch, code)
    with pytest.raises(NunbitError) as caught:
        nunbit.compare(
            [SMALL, WIDE], seeds=1, run_dir="c", jobs=1, quiet=True, train__precision="fp32"
        )
    said = str(caught.value)
    assert f"{SMALL}, seed 0: its process died ({how}" in said
    assert f"see {tmp_path / 'c' / 'workers.log'}" in said
    assert caught.value.exit_code == 1


def test_a_training_that_fails_does_not_end_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stand_in(
        tmp_path, monkeypatch,
        "import json, pathlib, sys\n"
        "for line in sys.stdin:\n"
        "    folder = pathlib.Path(json.loads(line)['run_dir'])\n"
        "    answer = {'run_dir': str(folder)}\n"
        "    if 'width=8' in str(folder):\n"
        "        raise SystemExit(3)\n"
        "    if 'width=5' in str(folder):\n"
        "        answer = {'error': 'the loss is nan', 'exit_code': 65}\n"
        "    folder.mkdir(parents=True)\n"
        "    (folder / 'result.json').write_text('{\"test\": {\"accuracy\": 0.5}}')\n"
        "    print(json.dumps(answer), flush=True)\n",
    )  # fmt: skip
    names, folder = [SMALL, "digits/cnn:model.width=5", WIDE], tmp_path / "my folder"
    with pytest.raises(NunbitError) as caught:
        nunbit.compare(names, seeds=2, run_dir=folder, jobs=1, train__precision="fp32")
    said = str(caught.value)
    for seed in (0, 1):
        assert f"digits/cnn:model.width=5, seed {seed}: the loss is nan" in said
        assert f"{WIDE}, seed {seed}: its process died (exit code 3)" in said
    assert f"--run-dir '{folder}' goes on with what is trained" in said
    assert SMALL not in said
    assert caught.value.exit_code == 65
    assert f"2/6 {SMALL}, seed 1: test 50.00%" in capsys.readouterr().err


def test_an_error_of_the_system_has_its_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO), "photos/a.jpg")

    monkeypatch.setattr(worker, "_train", fail)
    job = {"run_dir": str(tmp_path), "config": get_recipe("digits/cnn").to_json()}
    answer = worker._answer(job, Display(quiet=True), OnceReader())
    assert answer == {"error": "photos/a.jpg: Input/output error", "exit_code": 74}


def test_one_training_under_two_names_is_refused_however_it_is_written(tmp_path: Path) -> None:
    for names in (
        ["birds/net:model.width=32", "birds/width"],
        ["birds/net", "birds/net:model.width=16"],
    ):
        with pytest.raises(UsageError, match="are the same training: leave one of them out"):
            plan_runs(names, 2, None, {}, tmp_path)


def test_all_workers_are_told_to_stop_before_one_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(
        tmp_path, monkeypatch,
        "import os, pathlib, sys, time\n"
        f"folder = pathlib.Path({str(tmp_path)!r})\n"
        "(folder / ('ready-' + str(os.getpid()))).touch()\n"
        "sys.stdin.read()\n"
        "(folder / ('told-' + str(os.getpid()))).write_text(str(time.time()))\n"
        "time.sleep(1)\n",
    )  # fmt: skip
    _, runs = plan_runs([SMALL, WIDE], 1, None, {"train.threads": 1}, tmp_path)
    with stop_requests() as stop:
        training = pool.train_all(runs, 2, tmp_path / "log", stop)
        next(training)
        while len(list(tmp_path.glob("ready-*"))) < 2:
            time.sleep(0.01)
        training.close()
    first, second = (float(file.read_text()) for file in tmp_path.glob("told-*"))
    assert abs(first - second) < 0.8


def test_a_folder_that_a_mac_looked_into_goes_on(tmp_path: Path) -> None:
    folder, runs = plan_runs([SMALL, WIDE], 1, None, {}, tmp_path / "c")
    runs[0].run_dir.mkdir(parents=True)
    (runs[0].run_dir.parent / ".DS_Store").write_bytes(b"")
    require_own(folder, runs)
    (runs[0].run_dir.parent / "thesis.txt").write_bytes(b"")
    with pytest.raises(CannotCreateError, match="which is not of a comparison"):
        require_own(folder, runs)


def test_files_that_a_killed_comparison_left_half_written_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "c"
    (folder / "figures").mkdir(parents=True)
    litter = [
        folder / temporary_name("comparison.json"),
        folder / "figures" / temporary_name("cost.png"),
    ]
    for path in (*litter, folder / ".DS_Store"):
        path.write_bytes(b"")
    monkeypatch.setattr(compare_module, "train_all", no_training)
    with locked(folder), pytest.raises(LockedError):
        nunbit.compare([SMALL, WIDE], run_dir=folder, quiet=True, train__precision="fp32")
    assert all(path.exists() for path in litter), "another process may be writing them"
    with pytest.raises(AssertionError, match="a training began"):
        nunbit.compare([SMALL, WIDE], run_dir=folder, quiet=True, train__precision="fp32")
    assert not any(path.exists() for path in litter)
    assert (folder / ".DS_Store").exists()


def test_every_recipe_of_a_row_must_have_its_validation_pictures(colours: Path) -> None:
    plain = get_recipe("photos/cnn", str(colours)).override({"data.val_fraction": 0.0})
    promising = plain.override({"eval.max_error": 0.05})
    read, display, runtime = OnceReader(), Display(quiet=True), choose_runtime(plain.train)
    with stop_requests() as stop:
        assert read(plain, runtime, display, stop).val is None
        with pytest.raises(UsageError, match="needs validation pictures"):
            read(promising, runtime, display, stop)


def test_a_family_is_all_its_recipes_and_seeds_come_first(tmp_path: Path) -> None:
    _, runs = plan_runs(["birds"], 2, None, {}, tmp_path)
    assert [run.label for run in runs[:3]] == ["birds/mlp", "birds/mlp-deep", "birds/net"]
    assert len(runs) == 22
    assert {run.config.train.seed for run in runs[:11]} == {0}
    assert len({run.run_dir for run in runs}) == 22


def test_the_default_folder_follows_from_the_settings_but_not_from_the_seeds() -> None:
    def folder(**settings: Any) -> Path:
        return plan_runs([SMALL, WIDE], settings.pop("seeds", 3), None, settings, None)[0]

    assert folder() == folder(seeds=5)
    assert folder() != folder(**{"train.epochs": 2})


def test_only_what_is_not_a_default_names_a_folder() -> None:
    """So that a setting that is new tomorrow leaves the folders of today their names."""
    config = get_recipe("digits/cnn").override({"optim.lr": 0.125})
    assert config.unlike(RunConfig())["optim.lr"] == 0.125
    assert "train.precise_bn" not in config.unlike(RunConfig())
    assert config.unlike(get_recipe("digits/cnn")) == {"optim.lr": 0.125}
    folder, _ = plan_runs([SMALL, WIDE], 3, None, {"optim.lr": 0.125}, None)
    assert folder.name == "compare-digits-cnn-model.width=4-dc6b7a-and-1-mo-31e9d5"


def test_the_most_threads_that_a_run_asks_for_decide_how_many_run_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("nunbit.runtime._usable_cores", lambda: 8)

    def jobs(*names: str) -> int:
        runs = plan_runs(names, 1, None, {"train.device": "cpu"}, None)[1]
        return compare_module._choose_jobs(runs)

    assert jobs(SMALL, WIDE) == 8
    assert jobs(SMALL, f"{WIDE},train.threads=4") == jobs(f"{WIDE},train.threads=4", SMALL) == 2


def test_the_runs_that_are_left_share_all_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nunbit.runtime._usable_cores", lambda: 8)
    settings: dict[str, Any] = {"train.device": "cpu", "train.precision": "fp32"}
    _, runs = plan_runs([SMALL, WIDE], 4, None, settings, tmp_path)
    left = list(runs)
    monkeypatch.setattr(compare_module, "is_finished", lambda folder: folder not in folders(left))
    monkeypatch.setattr(compare_module, "_prepared", lambda _runs, todo, *_: todo)
    trained: list[tuple[int, int, set[int]]] = []

    def train(todo: list[PlannedRun], jobs: int, *_: object) -> None:
        trained.append((len(todo), jobs, {run.config.train.threads for run in todo}))

    def call() -> int:
        with stop_requests() as stop:
            return compare_module._train_missing(runs, 0, tmp_path, Display(quiet=True), stop)

    monkeypatch.setattr(compare_module, "_train", train)
    assert call() == 8
    del left[2:]
    assert call() == 8, "most of the times in the table are of the first call"
    left.clear()
    assert call() == 8
    assert trained == [(8, 8, {1}), (2, 2, {4})]


def folders(runs: list[PlannedRun]) -> list[Path]:
    return [run.run_dir for run in runs]


def test_a_process_has_the_threads_of_all_it_may_train(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def start(_messages: object, threads: int) -> None:
        asked.append(threads)
        raise OSError

    monkeypatch.setattr(pool, "_process", start)
    names = [f"{SMALL},train.threads=1", f"{WIDE},train.threads=2"]
    _, runs = plan_runs(names, 1, None, {}, tmp_path)
    with stop_requests() as stop, pytest.raises(OSError):  # noqa: PT011  # the test's own
        next(pool.train_all(runs, 1, tmp_path / "log", stop))
    assert asked == [2]


def test_networks_of_a_program_are_refused_before_anything_is_trained() -> None:
    name = "mine-in-a-test"

    @register_model(name)
    def mine(*, num_classes: int, in_channels: int, image_size: tuple[int, int]) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.LazyLinear(num_classes))

    try:
        with pytest.raises(UsageError, match=f"processes of its own, which do not know '{name}'"):
            plan_runs([SMALL, f"digits/cnn:model.name={name}"], 1, None, {}, None)
    finally:
        del BUILDERS[name]


def test_epochs_are_not_told_where_a_number_of_updates_ends_a_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(compare_module, "train_all", lambda *_: (None for _ in ()))
    with stop_requests() as stop:
        for settings, said in (
            ({}, "2 trainings, 40 epochs, 1 at once"),
            ({"train.max_steps": 9}, "2 trainings, 1 at once"),
        ):
            _, runs = plan_runs([SMALL, WIDE], 1, None, {"train.epochs": 20, **settings}, tmp_path)
            compare_module._train(runs, 1, tmp_path, Display(), stop)
            assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["birds/nett", "birds/net"], "did you mean 'birds/net'"),
        (["bird"], "did you mean 'birds'"),
        (["digits/cnn", "--seeds", "1"], "two recipes, or several seeds of one (--seeds 3); only"),
        (["digits/cnn", "digits/cnn", "--seeds", "1"], "two recipes, or several seeds"),
        ([], "none was given"),
        (["digits/cnn", "digits/cnn:"], "digits/cnn and digits/cnn: are the same training"),
        (
            ["digits/cnn:optim.lr=0.1,train.epochs=2", "digits/cnn:train.epochs=2,optim.lr=0.1"],
            "are the same training: leave one of them out",
        ),
        (["digits/cnn", "birds/net"], "do not share their test pictures"),
        (["digits/cnn", "digits/cnn:width"], "write optim.lr=0.1"),
        (["digits/cnn", "digits/cnn:optim.lrr=1"], "optim.lr"),
        (["digits/cnn", "digits/cnn:data.split_seed=1"], "data.split_seed is 0 and 1"),
        (["digits/cnn", "digits/cnn:data.group_duplicates=true"], "data.group_duplicates is"),
        (["digits/cnn", "digits/cnn:data.overrides=fixes.csv"], "data.overrides is"),
        (
            ["digits/cnn", "digits/cnn:data.size=16", "--data.group_duplicates", "true"],
            "data.size is 0 and 16",
        ),
        (
            ["digits/cnn", f"digits/cnn:{PRETRAINED}", "--data.group_duplicates", "true"],
            "they resize pictures in different ways",
        ),
    ],
)
def test_what_cannot_be_compared_is_one_line(
    names: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", *names]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_the_seeds_of_a_row_have_one_precision(tmp_path: Path) -> None:
    def planned(precision: str) -> list[PlannedRun]:
        return plan_runs(["digits/cnn"], 2, None, {"train.precision": precision}, tmp_path)[1]

    begun = planned("fp32")[0]
    begun.run_dir.mkdir(parents=True)
    (begun.run_dir / "config.json").write_text(begun.config.to_json())
    require_own(tmp_path, planned("auto"))
    with pytest.raises(CannotCreateError, match="was trained in fp32; leave out"):
        require_own(tmp_path, planned("bf16"))


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(CannotCreateError, match=r"thesis\.txt"):
        nunbit.compare([SMALL, WIDE], run_dir=tmp_path, quiet=True)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize(("field", "value"), [("seeds", 0), ("jobs", -1)])
def test_impossible_numbers_are_refused(tmp_path: Path, field: str, value: int) -> None:
    with pytest.raises(UsageError, match=f"{field} is {value}"):
        nunbit.compare([SMALL, WIDE], run_dir=tmp_path / "c", quiet=True, **{field: value})


def test_runs_of_one_row_and_of_like_recipes_have_seen_one_data_set(tmp_path: Path) -> None:
    _, runs = plan_runs([SMALL, WIDE, f"{SMALL},data.size=16"], 2, None, {}, tmp_path)
    for run, fingerprint in zip(
        runs, ("a", "a", "other size", "a", "b", "other size"), strict=True
    ):
        run.run_dir.mkdir(parents=True)
        result = json.dumps({"data_fingerprint": fingerprint})
        (run.run_dir / "result.json").write_text(result)
    with pytest.raises(
        DataError, match=r"seed-1 was not trained on the data of .*seed-0"
    ) as caught:
        table.read_rows(runs)
    assert str(runs[4].run_dir) in str(caught.value)


def no_training(*_: object) -> Generator[None]:
    """Stand in for `train_all` where it must not be reached."""
    raise AssertionError("a training began")
    yield


def test_data_that_changed_is_found_before_anything_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "photos"
    write_classes(data / "train", 6)
    write_classes(data / "test", 3, first_seed=500)
    settings: dict[str, Any] = {"train.epochs": 1, "train.threads": 1, "train.precision": "fp32"}
    _, runs = plan_runs(["photos/cnn"], 2, str(data), settings, tmp_path / "c")
    nunbit.train(runs[0].config, run_dir=runs[0].run_dir, quiet=True)
    monkeypatch.setattr(compare_module, "train_all", no_training)

    def compare(seeds: int) -> None:
        given = {name.replace(".", "__"): value for name, value in settings.items()}
        nunbit.compare(
            ["photos/cnn"], seeds=seeds, data=data, run_dir=tmp_path / "c", quiet=True, **given
        )

    with pytest.raises(AssertionError, match="a training began"):
        compare(2)
    noisy_picture((210, 50, 40), 9, (20, 16)).save(data / "train" / "red" / "more.png")
    with pytest.raises(
        DataError, match=r"changed since .*seed-0 began: .*more\.png is new"
    ) as caught:
        compare(2)
    assert "put the data back" in str(caught.value)


def test_test_pictures_that_differ_by_size_are_found_before_anything_is_trained(
    colours: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for file in sorted(colours.rglob("*.png")):  # a twin each, which looks the same when small
        picture = np.asarray(Image.open(file)).copy()
        picture[0, 0, 0] ^= 4
        Image.fromarray(picture).save(file.with_name(f"twin-{file.name}"))
    monkeypatch.setattr(compare_module, "train_all", no_training)
    with pytest.raises(DataError, match="do not share their test pictures") as caught:
        nunbit.compare(
            ["photos/cnn", "photos/cnn:data.size=2"], seeds=1, data=colours,
            run_dir=tmp_path / "c", quiet=True,
        )  # fmt: skip
    assert "photos/cnn and photos/cnn:data.size=2" in str(caught.value)


def test_what_a_fingerprint_depends_on_and_what_not(tmp_path: Path) -> None:
    plain = get_recipe("photos/cnn", str(tmp_path))
    own = {"model.name": "timm:test_vit", "model.weights": "pretrained"}

    def has_same_key(**settings: Any) -> bool:
        dotted = {name.replace("__", "."): value for name, value in settings.items()}
        return data_key(plain.override(dotted)) == data_key(plain)

    assert has_same_key(data__flip=True, data__normalize="half", train__seed=3, model__width=4)
    assert has_same_key(model__name="net")
    assert not has_same_key(data__val_fraction=0.2)
    assert not has_same_key(data__channels=1)
    assert data_key(plain.override(own)) != data_key(plain)


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    folder = tmp_path_factory.mktemp("comparison") / "c"
    return nunbit.compare(
        [SMALL, WIDE], seeds=2, run_dir=folder, epochs=2, quiet=True, train__precision="fp32"
    )


@pytest.mark.slow
def test_a_comparison_writes_everything_it_names(comparison: Comparison) -> None:
    result = json.loads((comparison.folder / "comparison.json").read_text())
    assert [line["recipe"] for line in result["table"]] == [SMALL, WIDE]
    assert Path(result["figure"]).read_bytes().startswith(b"\x89PNG")
    with (comparison.folder / "comparison.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert float(lines[1]["test_mean"]) == result["table"][1]["test_mean"]
    page = (comparison.folder / "comparison.html").read_text()
    assert comparison.findings[0] in page
    assert "http" not in page.replace("http-equiv", "")


@pytest.mark.slow
def test_one_recipe_shows_what_a_seed_is_worth(comparison: Comparison, tmp_path: Path) -> None:
    shutil.copytree(comparison.folder, tmp_path / "c")  # where both seeds are trained already
    alone = nunbit.compare(
        [SMALL], seeds=2, run_dir=tmp_path / "c", epochs=2, quiet=True, train__precision="fp32"
    )
    assert [line.to_dict() for line in alone.rows] == [comparison.rows[0].to_dict()]
    assert alone.differences == ()
    mean, std = 100 * alone.rows[0].test_mean, 100 * (alone.rows[0].test_std or 0)
    start = f"{SMALL} has {mean:.1f} % of 359 test pictures right, mean of"
    assert alone.findings[0].startswith(start)
    assert f"by {std:.2f} points" in alone.findings[1]
    page = (tmp_path / "c" / "comparison.html").read_text()
    assert "One recipe, 2 trainings with a seed each" in page
    assert "Every pair" not in page


@pytest.mark.slow
def test_the_table_is_counted_from_the_runs(comparison: Comparison) -> None:
    for line in comparison.rows:
        folders = sorted(comparison.folder.glob("*/seed-*"))
        of_recipe = [f for f in folders if read_result(f)["parameters"] == line.parameters]
        accuracies = [read_result(f)["test"]["accuracy"] for f in of_recipe]
        assert sorted(line.tests) == pytest.approx(sorted(accuracies))
        for folder, accuracy in zip(of_recipe, accuracies, strict=True):
            said = read_predictions(folder).values()
            assert np.mean([a == b for a, b in said]) == pytest.approx(accuracy)


@pytest.mark.slow
def test_a_run_of_a_comparison_is_the_run_that_train_gives(
    comparison: Comparison, tmp_path: Path
) -> None:
    alone = nunbit.train(
        "digits/cnn", run_dir=tmp_path / "r", epochs=2, seed=1, threads=1, quiet=True,
        model__width=4, train__precision="fp32",
    )  # fmt: skip
    beside = comparison.folder / comparison_folder(comparison, SMALL) / "seed-1"
    assert (beside / "metrics.jsonl").read_text() == (alone.run_dir / "metrics.jsonl").read_text()


def comparison_folder(comparison: Comparison, label: str) -> str:
    _, runs = plan_runs([SMALL, WIDE], 1, None, {}, comparison.folder)
    return next(run.run_dir.parent.name for run in runs if run.label == label)


@pytest.mark.slow
def test_the_same_call_again_trains_nothing_and_more_seeds_train_the_rest(
    comparison: Comparison,
) -> None:
    def written() -> dict[Path, int]:
        files = comparison.folder.glob("*/seed-[01]/model.safetensors")
        return {path: path.stat().st_mtime_ns for path in files}

    before = written()
    assert len(before) == 4
    settings: dict[str, Any] = {"run_dir": comparison.folder, "epochs": 2, "quiet": True}
    again = nunbit.compare([SMALL, WIDE], seeds=2, **settings)
    assert [r.to_dict() for r in again.rows] == [r.to_dict() for r in comparison.rows]
    assert written() == before
    with pytest.raises(CannotCreateError, match="other settings"):
        nunbit.compare([SMALL, WIDE], seeds=2, **{**settings, "epochs": 3})
    assert written() == before


@pytest.mark.slow
def test_a_run_that_fails_is_named_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(nunbit.NunbitError, match=r"photos/cnn.*, seed 0: .*empty") as caught:
        nunbit.compare(
            ["photos/cnn", "photos/cnn:optim.lr=0.1"], seeds=1, data=tmp_path / "empty", jobs=1,
            run_dir=tmp_path / "c", quiet=True,
        )  # fmt: skip
    assert caught.value.exit_code == 65


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_comparison_leaves_no_process_and_goes_on_to_the_same_result(
    tmp_path: Path, number: signal.Signals
) -> None:
    words = [sys.executable, "-m", "nunbit", "compare", SMALL, WIDE, "--seeds", "2", "--json"]
    # Two comparisons may choose another precision each, by the clock.
    words += ["--train.epochs", "8", "--train.precision", "fp32", "--run-dir"]
    whole = subprocess.run([*words, "whole"], cwd=tmp_path, capture_output=True, text=True)
    process = subprocess.Popen([*words, "killed"], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    while not list(tmp_path.glob("killed/*/seed-*/metrics.jsonl")):
        time.sleep(0.05)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == (-9 if number == signal.SIGKILL else 143)
    if number == signal.SIGTERM:
        assert "the same command goes on" in said
    deadline = time.monotonic() + 30
    while workers_in(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not workers_in(tmp_path)
    again = subprocess.run([*words, "killed"], cwd=tmp_path, capture_output=True, text=True)
    results = [json.loads(done.stdout.splitlines()[-1]) for done in (whole, again)]
    for result in results:
        for line in result["table"]:
            del line["seconds"]
    assert results[0]["table"] == results[1]["table"]


def workers_in(folder: Path) -> list[str]:
    """Return the other processes whose current folder is this one."""
    found = []
    for link in Path("/proc").glob("[0-9]*/cwd"):
        try:
            is_own = link.parent.name == str(os.getpid())
            if not is_own and os.readlink(link) == str(folder):
                found.append(link.parent.name)
        except OSError:
            continue  # it ended meanwhile, or is somebody else's
    return found


@pytest.mark.slow
def test_no_more_trainings_at_once_than_there_are(tmp_path: Path) -> None:
    """Sixteen cores got one thread each of two trainings, and fourteen had nothing to do."""
    found = nunbit.compare(
        ["digits/cnn"], seeds=2, run_dir=tmp_path / "c", jobs=9, quiet=True, epochs=1, threads=1
    )
    assert found.jobs == 2


@pytest.mark.slow
def test_a_damaged_file_of_a_run_is_named(comparison: Comparison, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(comparison.folder, tmp_path / "copied"))
    run = next(folder.rglob("metrics.jsonl")).parent
    (run / "metrics.jsonl").write_text('{"epoch": 1, "trai')
    with pytest.raises(DataError, match=r"metrics\.jsonl cannot be read"):
        read_losses(run)
    (run / "config.json").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match=r"config\.json cannot be read"):
        read_config(run)
