"""When not to answer: temperature, threshold, foreign pictures, and whole runs that decline."""

import json
import runpy
import shutil
import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from scipy.special import bdtr
from torch import Tensor, nn

import nunbit
from conftest import write_classes
from nunbit.bundle import MODEL_FILE
from nunbit.cli import main
from nunbit.config import EvalConfig, ModelConfig, OptimConfig, RunConfig, TrainConfig
from nunbit.data.preprocess import Preprocess
from nunbit.decision import Decision, fit_decision, fit_temperature, promised_probability
from nunbit.errors import DataError, UsageError
from nunbit.evaluation import Outputs, collect_logits, collect_outputs
from nunbit.metrics import ANSWERED, FOREIGN, UNSURE, measure
from nunbit.models.head import cool_head
from nunbit.models.registry import BUILDERS, build_model, list_models
from nunbit.models.stages import stage_names, watched
from nunbit.outliers import ACCEPTANCE, Gaussian, fit_familiar
from nunbit.prediction import predicted
from nunbit.reporting.render import NBSP
from nunbit.runtime import choose_runtime, limited_threads, seeded
from nunbit.storage import load_tensors, save_tensors


def drawn(n: int, seed: int, difficulty: float = 1.0) -> tuple[Tensor, Tensor]:
    """Return logits (N, 3) that are true log-probabilities, and labels drawn from them."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(n, 3, generator=generator) * 4 / difficulty
    labels = torch.multinomial(logits.softmax(1), 1, generator=generator).flatten()
    return logits, labels


@pytest.mark.parametrize("factor", [0.25, 1.0, 3.0])
def test_the_temperature_undoes_what_was_multiplied(factor: float) -> None:
    logits, labels = drawn(20_000, 0)
    assert fit_temperature(logits * factor, labels) == pytest.approx(factor, rel=0.05)


def test_few_right_pictures_are_no_proof_of_certainty() -> None:
    logits, labels = torch.eye(3).repeat(3, 1) * 5, torch.arange(3).repeat(3)
    surest = (logits / fit_temperature(logits, labels)).softmax(1).amax()
    assert surest == pytest.approx(10 / 11, abs=0.01)  # of 9 pictures


def test_no_promise_is_made_without_enough_pictures() -> None:
    right = torch.zeros(148, dtype=torch.bool)
    sure = torch.linspace(0.9, 1, 148)
    assert promised_probability(sure, right, 0.02) is None  # ln 0.05 / ln 0.98 = 148.3
    assert promised_probability(sure, right, 0.05) == pytest.approx(0.9)
    more = torch.zeros(149, dtype=torch.bool)
    assert promised_probability(torch.linspace(0.9, 1, 149), more, 0.02) == pytest.approx(0.9)
    assert promised_probability(torch.ones(149), ~more, 0.02) is None


def test_a_promise_counts_all_that_are_as_sure() -> None:
    """Equal probabilities are common in bf16; a label is given from one of them on."""
    sure, is_wrong = torch.full((200,), 0.9), torch.zeros(200, dtype=torch.bool)
    is_wrong[::10] = True
    for order in (torch.arange(200), is_wrong.int().argsort()):  # the mistakes last
        assert promised_probability(sure, is_wrong[order], 0.05) is None
        assert promised_probability(sure, is_wrong[order], 0.2) == pytest.approx(0.9)
    surer = torch.cat([torch.full((100,), 0.99), sure])  # whatever is less sure
    wrong = torch.cat([torch.zeros(100, dtype=torch.bool), is_wrong])
    assert promised_probability(surer, wrong, 0.05) == pytest.approx(0.99)


def test_the_promise_is_kept_in_19_of_20_draws() -> None:
    kept = made = 0
    answered = []
    for seed in range(200):
        logits, labels = drawn(600, seed, 1.2)
        confidence, said = logits.softmax(1).max(1)
        least = promised_probability(confidence, said != labels, 0.05)
        if least is None:
            continue
        made += 1
        logits, labels = drawn(20_000, 10_000 + seed, 1.2)
        confidence, said = logits.softmax(1).max(1)
        is_given = confidence >= least
        kept += float((said != labels)[is_given].float().mean()) <= 0.05
        answered.append(float(is_given.float().mean()))
    assert made >= 150
    assert kept / made >= 0.95
    assert np.mean(answered) > 0.3  # of 0.61 that could be answered at all


def in_a_thread(work: Callable[[], object]) -> None:
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def test_what_is_seen_is_not_what_another_thread_shows() -> None:
    with seeded(0, "threads"):
        model = build_model("cnn", num_classes=2, in_channels=3, image_size=(8, 8)).eval()
    mine, others = torch.rand(2, 3, 8, 8), torch.rand(3, 3, 8, 8)
    with torch.no_grad(), watched(model) as sight:
        model(mine)
        before = sight.stages()
        in_a_thread(lambda: model(others))
        after = sight.stages()
    assert all(torch.equal(one, two) for one, two in zip(before, after, strict=True))


def test_overlapping_limits_leave_the_number_of_threads_as_it_was() -> None:
    first, second, seen = limited_threads(3), limited_threads(2), []
    in_a_thread(first.__enter__)
    in_a_thread(second.__enter__)
    in_a_thread(lambda: first.__exit__(None, None, None))
    in_a_thread(lambda: second.__exit__(None, None, None))
    in_a_thread(lambda: seen.append(torch.get_num_threads()))
    assert seen == [torch.get_num_threads()]


def views(n: int, seed: int, shift: float = 0.0) -> tuple[Tensor, ...]:
    """Return two stages' views (N, 5) and (N, 100) of pictures with 5 hidden causes."""
    generator = torch.Generator().manual_seed(seed)
    causes = torch.randn(n, 5, generator=generator)
    loadings = torch.randn(5, 100, generator=torch.Generator().manual_seed(7))
    noise = 0.05 * torch.randn(n, 100, generator=generator)
    return causes, causes @ loadings + noise + shift


def test_distances_are_one_on_average_and_grow_off_the_plane() -> None:
    x = views(500, 0)[1]
    gaussian = Gaussian.fit(x)
    assert float(gaussian(x).mean()) == pytest.approx(1.0)
    off = x[:1] + 0.5 * torch.randn(1, 100, generator=torch.Generator().manual_seed(1))
    assert float(gaussian(off)) > 10


def test_pictures_alike_are_accepted_and_others_are_not() -> None:
    familiar = fit_familiar(views(500, 0), views(200, 1))
    assert familiar.acceptance >= ACCEPTANCE
    alike = familiar.distances(views(2000, 2)) <= familiar.limit
    assert float(alike.float().mean()) > 0.96
    strange = familiar.distances(views(200, 3, shift=0.5)) <= familiar.limit
    assert float(strange.float().mean()) < 0.05


def test_few_validation_pictures_promise_less() -> None:
    familiar = fit_familiar(views(50, 0), views(9, 1))
    assert familiar.acceptance == pytest.approx(0.9)
    assert torch.isfinite(familiar.distances(views(5, 3, shift=1e3))).all()
    flat = tuple(torch.zeros_like(x) for x in views(50, 0))  # one picture fifty times
    assert torch.isfinite(fit_familiar(flat, views(9, 1)).distances(views(5, 2))).all()


def a_decision(**changes: object) -> Decision:
    facts = {
        "temperature": 1.0,
        "least_probability": 0.9,
        "max_error": 0.05,
        "is_promised": False,
        "val_n": 200,
        "familiar": fit_familiar(views(500, 0), views(200, 1)),
    }
    return Decision(**{**facts, **changes})  # type: ignore[arg-type]


def test_verdicts_and_answers_are_counted() -> None:
    near, far = views(3, 2), views(1, 3, shift=9.0)
    stages = tuple(torch.cat(pair) for pair in zip(near, far, strict=True))
    p = torch.tensor([[0.95, 0.05], [0.92, 0.08], [0.6, 0.4], [0.99, 0.01]])
    verdicts = a_decision().verdicts(Outputs(p.log(), stages))
    assert verdicts.tolist() == [ANSWERED, ANSWERED, UNSURE, FOREIGN]
    answers = measure(p.log(), torch.tensor([0, 1, 0, 0]), ("a", "b"), verdicts).answers
    assert answers is not None
    assert (answers.answered, answers.wrong, answers.unsure, answers.foreign) == (2, 1, 1, 1)
    assert (answers.coverage, answers.error) == (0.5, 0.5)
    assert answers.error_ci95 == pytest.approx((0.0945, 0.9055), abs=1e-3)
    none = measure(p.log(), torch.zeros(4, dtype=torch.long), ("a", "b"), verdicts * 0 + UNSURE)
    assert none.answers is not None
    assert none.answers.error is None
    assert "answers" not in measure(p.log(), torch.zeros(4, dtype=torch.long), ("a", "b")).to_dict()


def test_an_answer_names_what_it_hesitates_between() -> None:
    p, names = torch.tensor([0.1, 0.6, 0.3]), ("a", "b", "c")
    said = {v: predicted("x.png", p, names, 1, v) for v in (ANSWERED, UNSURE, FOREIGN)}
    assert [s.answer for s in said.values()] == ["b", "unsure: b | c", "not one of your classes"]
    assert [s.verdict for s in said.values()] == ["label", "unsure", "foreign"]
    assert {s.label for s in said.values()} == {"b"}
    assert [len(s.top) for s in said.values()] == [1, 2, 1], "a probability for each name"


def test_a_decision_of_hard_pictures_declines_more() -> None:
    logits, labels = drawn(600, 3)
    stages = tuple(views(600, 4))
    strict, loose = (
        fit_decision(views(500, 0), Outputs(logits, stages), labels, e, 1.0) for e in (0.05, 0.3)
    )
    assert strict.is_promised
    assert strict.least_probability > loose.least_probability
    tiny = fit_decision(views(500, 0), Outputs(logits[:30], views(30, 4)), labels[:30], 0.02, 1.0)
    assert not tiny.is_promised
    assert tiny.least_probability == 0.98


@pytest.mark.parametrize("name", list_models())
def test_a_cooled_head_divides_the_logits_of_every_network(name: str) -> None:
    side = 224 if name == "alexnet" else 32
    channels = 1 if name == "mnist-cnn" else 3
    side = 28 if name == "mnist-cnn" else side
    args = {"blocks": 2} if name == "net-resdeep" else {}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build_model(
            name, num_classes=3, in_channels=channels, image_size=(side, side), args=args
        )
    preprocess = Preprocess(
        height=side, width=side, channels=channels, resize="crop",
        mean=(0.5,) * channels, std=(0.5,) * channels,
    )  # fmt: skip
    runtime = choose_runtime(TrainConfig(threads=1, device="cpu", precision="fp32"))
    images = torch.randint(0, 256, (2, side, side, channels), dtype=torch.uint8)
    plain = (model, images, preprocess, runtime, 2)
    before = collect_outputs(*plain)
    torch.testing.assert_close(before.logits, collect_logits(*plain))
    assert all(stage.shape[0] == 2 and stage.shape[1] <= 512 for stage in before.stages)
    assert before.stages
    cool_head(model, 2.0)
    expected = (before.logits / 2).softmax(1)
    torch.testing.assert_close(collect_logits(*plain).softmax(1), expected)


def test_stages_are_the_blocks_before_the_head() -> None:
    tiny = build_model("timm:test_efficientnet", num_classes=2, in_channels=3, image_size=(32, 32))
    names = stage_names(tiny)
    assert names[0] == "conv_stem"
    assert "blocks.1" in names
    assert "classifier" not in names


@pytest.fixture(scope="session")
def declined(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on the digits that declines; read only."""
    config = RunConfig(
        recipe="quick",
        model=ModelConfig(name="net", args={"width": 4}),
        optim=OptimConfig(name="adamw", lr=5e-3),
        train=TrainConfig(epochs=12, threads=1, device="cpu", precision="fp32"),
        eval=EvalConfig(max_error=0.05),
    )
    folder = tmp_path_factory.mktemp("declined") / "run"
    return nunbit.train(config, run_dir=folder, quiet=True).run_dir


@pytest.fixture
def declining(declined: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(declined, tmp_path / "run"))


def test_a_training_declines_if_asked(
    declining: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = json.loads((declining / "result.json").read_text())
    told = result["decision"]["test"]
    assert told["answered"] + told["unsure"] + told["foreign"] == result["test"]["n"]
    assert told["coverage"] > 0.3
    assert told["error"] <= 0.05
    assert result["test_metrics"]["answers"] == told
    clf = nunbit.load(declining)
    assert clf.decision is not None
    assert json.loads(json.dumps(clf.evaluate().to_dict()))["answers"] == told
    noise = np.random.default_rng(0).integers(0, 256, (8, 8), dtype=np.uint8)
    assert clf.predict(noise)[0].answer == "not one of your classes"
    Image.fromarray(noise).save(tmp_path / "noise.png")
    capsys.readouterr()
    assert main(["predict", str(declining), str(tmp_path / "noise.png"), "--json"]) == 0
    out = capsys.readouterr()
    assert json.loads(out.out.splitlines()[-1])["predictions"][0]["verdict"] == "foreign"
    assert main(["predict", str(declining), str(tmp_path / "noise.png")]) == 0
    assert "noise.png: not one of your classes" in "".join(capsys.readouterr())
    assert main(["evaluate", str(declining)]) == 0
    assert f"answered {told['coverage']:.1%} of {told['n']}" in "".join(capsys.readouterr())


def test_the_decision_is_made_of_what_the_stored_weights_say(
    quick: RunConfig, tmp_path: Path
) -> None:
    """Of weights before the cooling bf16 rounds otherwise: the border was none of their values."""
    config = quick.override({"train.precision": "bf16", "eval.max_error": 0.2, "train.epochs": 8})
    run = nunbit.train(config, run_dir=tmp_path / "run", quiet=True)
    assert run.classifier.decision is not None
    assert run.dataset.val is not None
    decision, val = run.classifier.decision, run.dataset.val
    assert decision.is_promised
    outputs, verdicts = run.classifier.outputs(val.images[:])
    probabilities, predicted = outputs.logits.softmax(1).max(1)
    assert decision.least_probability in probabilities.tolist()
    assert verdicts is not None
    given = verdicts == ANSWERED
    wrong = int((predicted != val.labels)[given].sum())
    assert bdtr(wrong, int(given.sum()), 0.2) <= 0.05


def test_without_being_asked_everything_is_answered(quick: RunConfig, tmp_path: Path) -> None:
    run = nunbit.train(quick, run_dir=tmp_path / "run", quiet=True)
    assert "decision" not in run.to_dict()
    assert load_tensors(run.run_dir / MODEL_FILE)[1]["format_version"] == 1
    noise = np.random.default_rng(0).integers(0, 256, (8, 8), dtype=np.uint8)
    said = nunbit.load(run.run_dir).predict(noise)[0]
    assert said.verdict == "label"
    assert said.answer == said.label


def test_probabilities_are_calibrated_everywhere(declining: Path, quick: RunConfig) -> None:
    clf = nunbit.load(declining)
    assert clf.decision is not None
    plain = nunbit.train(quick.override({"train.epochs": 12}), run_dir="plain", quiet=True)
    ratio = (
        plain.classifier.module.state_dict()["fc2.weight"] / clf.module.state_dict()["fc2.weight"]
    )
    torch.testing.assert_close(ratio, torch.full_like(ratio, clf.decision.temperature))


def test_the_page_is_written_again_with_the_same_answers(declining: Path) -> None:
    before = (declining / "report.html").read_text()
    page = nunbit.report(declining, quiet=True).read_text()
    assert "not one of your classes" in before
    told = json.loads((declining / "result.json").read_text())["decision"]["test"]
    for text in (before, page):
        assert f"{100 * told['coverage']:.1f}{NBSP}%" in text


def test_declining_needs_validation(quick: RunConfig) -> None:
    config = quick.override({"eval.max_error": 0.02, "data.val_fraction": 0})
    with pytest.raises(UsageError, match=r"eval\.max_error needs validation pictures"):
        nunbit.train(config, quiet=True)


@pytest.mark.parametrize(
    "change",
    [
        {"temperature": -1.0}, {"temperature": "1"}, {"val_n": 0.5}, {"max_error": 2.0},
        {"is_promised": 1}, {"familiar": None}, {"familiar": {}}, {"__class__": 1},
        {"least_probability": float("inf")},
    ],
)  # fmt: skip
def test_a_forged_decision_is_refused(
    change: dict[str, object], declining: Path, tmp_path: Path
) -> None:
    tensors, card = load_tensors(declining / MODEL_FILE)
    forged = {**card, "decision": {**card["decision"], **change}}
    if change.get("least_probability"):
        forged["decision"]["familiar"] = {**card["decision"]["familiar"], "limit": -1.0}
        forged["decision"]["least_probability"] = 0.5
    path = tmp_path / "m.safetensors"
    save_tensors(path, tensors, forged)
    with pytest.raises(DataError, match="does not describe its own weights"):
        nunbit.load(path)


def test_forged_distances_are_refused(declining: Path, tmp_path: Path) -> None:
    tensors, card = load_tensors(declining / MODEL_FILE)
    path, name = tmp_path / "m.safetensors", "outliers/0/variances"
    for forged in (
        {k: t for k, t in tensors.items() if k != name},
        {**tensors, name: -tensors[name]},
        {**tensors, name: tensors[name][:1]},
        {**tensors, name: tensors[name] * float("nan")},
        {**tensors, "outliers/99/mean": tensors[name]},
    ):
        save_tensors(path, forged, card)
        with pytest.raises(DataError, match="does not describe its own weights"):
            nunbit.load(path)
    save_tensors(path, tensors, {**card, "format_version": 1})
    with pytest.raises(DataError, match="does not describe its own weights"):
        nunbit.load(path)  # the older format knows no such tensors
    save_tensors(path, tensors, card)
    assert nunbit.load(path).decision is not None
    wider = {**tensors, "outliers/0/mean": torch.ones(99), "outliers/0/axes": torch.ones(99, 1)}
    save_tensors(path, {**wider, name: torch.ones(1)}, card)
    with pytest.raises(DataError, match="not those of its network"):
        nunbit.load(path).predict(np.zeros((8, 8), dtype=np.uint8))


def test_a_flipped_byte_of_the_decision_is_seen(declining: Path) -> None:
    file = declining / MODEL_FILE
    content = bytearray(file.read_bytes())
    at = content.find(b"least_probability") + len(b'least_probability\\": 0.')
    content[at] ^= 1
    file.write_bytes(bytes(content))
    with pytest.raises(DataError):
        nunbit.load(declining)


def test_a_finetuned_classifier_declines(tmp_path: Path) -> None:
    with seeded(0, "tiny"):
        network = build_model(
            "timm:test_efficientnet", num_classes=1000, in_channels=3, image_size=(160, 160)
        )
    save_file(network.state_dict(), tmp_path / "w.safetensors")
    run = nunbit.finetune(
        write_classes(tmp_path / "data", 40), model="timm:test_efficientnet", threads=1,
        weights=tmp_path / "w.safetensors", run_dir=tmp_path / "run", quiet=True, data__size=48,
        strategy="head",
    )  # fmt: skip
    assert run.to_dict()["decision"]["max_error"] == 0.02
    clf = nunbit.load(run.run_dir)
    stripes = np.zeros((64, 64, 3), dtype=np.uint8)
    stripes[::2] = 255
    assert clf.predict(stripes)[0].verdict == "foreign"
    assert isinstance(clf.module, nn.Module)


def test_the_example_tells_what_it_does_not_know(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = Path(__file__).parents[1] / "examples" / "unknown.py"
    with seeded(0, "tiny"):
        network = build_model(
            "timm:test_efficientnet", num_classes=1000, in_channels=3, image_size=(160, 160)
        )
    save_file(network.state_dict(), tmp_path / "w.safetensors")
    small = partial(
        nunbit.finetune, model="timm:test_efficientnet", weights=tmp_path / "w.safetensors",
        data__size=48, strategy="head", threads=1,
    )  # fmt: skip
    monkeypatch.setattr(nunbit, "finetune", small)
    data = write_classes(tmp_path / "data", 40)
    stripes = np.zeros((64, 64, 3), dtype=np.uint8)
    stripes[::2] = 255
    Image.fromarray(stripes).save(tmp_path / "stripes.png")
    main_of = runpy.run_path(str(file))["main"]
    main_of(str(data), str(tmp_path / "stripes.png"), str(data / "red" / "000.png"))
    lines = capsys.readouterr().out.splitlines()
    assert "test pictures got a label; 0 wrong" in lines[-3]
    assert lines[-2].endswith("stripes.png: not one of your classes")
    assert "red" in lines[-1]


def test_a_network_that_cannot_be_calibrated_is_refused_before_the_training(
    quick: RunConfig, tmp_path: Path
) -> None:
    @nunbit.register_model("two-heads")
    def two_heads(
        *, num_classes: int, in_channels: int, image_size: tuple[int, int]
    ) -> torch.nn.Module:
        """As timm describes a network with two heads."""
        height, width = image_size
        model = torch.nn.Sequential(
            torch.nn.Flatten(), torch.nn.Linear(in_channels * height * width, num_classes)
        )
        model.pretrained_cfg = {"classifier": ("head", "head_dist")}  # type: ignore[assignment]
        return model

    config = quick.override({"model.name": "two-heads"})
    config = replace(config, model=replace(config.model, args={}))
    try:
        with pytest.raises(UsageError, match="has several heads: head, head_dist"):
            nunbit.train(config.override({"eval.max_error": 0.02}), run_dir=tmp_path / "run")
        assert not (tmp_path / "run").exists()
        assert (
            nunbit.train(config, run_dir=tmp_path / "run", quiet=True).classifier.decision is None
        )
    finally:
        BUILDERS.pop("two-heads")
