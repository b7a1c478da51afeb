"""Runs that were never trained: pictures, labels and predictions as a test wants them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from nunbit.bundle import Classifier
from nunbit.comparison.compare import Comparison
from nunbit.comparison.findings import find_differences, summarize_findings
from nunbit.comparison.statistics import mean_interval, seeds_interval
from nunbit.comparison.table import Row, TestSet
from nunbit.config import RunConfig
from nunbit.data.pictures import ImageSet
from nunbit.data.preprocess import Preprocess
from nunbit.data.splits import Dataset
from nunbit.finished import Finished
from nunbit.metrics import measure
from nunbit.models.registry import build_model
from nunbit.runtime import choose_runtime
from nunbit.training.loop import EpochResult


def pictures_of(labels: Sequence[int], part: str, side: int = 16) -> ImageSet:
    """Return pictures of one flat colour each, all different, named by part and number."""
    n = len(labels)
    generator = torch.Generator().manual_seed(0)
    colours = torch.randint(20, 235, (n, 1, 1, 3), generator=generator, dtype=torch.uint8)
    images = colours.expand(n, side, side, 3).clone()
    names = [f"{part}/{i}.png" for i in range(n)]
    return ImageSet(images, torch.tensor(labels), names, [f"{i:016x}" for i in range(n)])


def logits_of(predicted: Sequence[int], confidence: Sequence[float], classes: int) -> Tensor:
    """Return logits (N, K) whose softmax gives each prediction this confidence."""
    p = torch.tensor(confidence, dtype=torch.float64)[:, None]
    others = (1 - p) / (classes - 1)
    rows = others.expand(-1, classes).clone()
    rows.scatter_(1, torch.tensor(predicted)[:, None], p)
    return rows.log()


def fake_run(
    run_dir: Path, class_names: Sequence[str], labels: Sequence[int], logits_NK: Tensor
) -> Finished:
    """Return a run that trained and tested on the same pictures."""
    config = RunConfig(recipe="fake").override({"data.source": "digits", "train.threads": 1})
    preprocess = Preprocess(
        height=16, width=16, channels=3, resize="crop", mean=(0.5,) * 3, std=(0.25,) * 3
    )
    names, runtime = tuple(class_names), choose_runtime(config.train)
    train, test = pictures_of(labels, "train"), pictures_of(labels, "test")
    dataset = Dataset(train, None, test, names, preprocess, (), "fingerprint", 0)
    model = build_model("net", num_classes=len(names), in_channels=3, image_size=(16, 16), args={})
    epochs = tuple(
        EpochResult(i, 10 * i, 0.1, 1 / i, 0.5, None, None, len(labels), 2.0, 100.0)
        for i in range(1, 4)
    )
    metrics = measure(logits_NK, test.labels, names)
    classifier = Classifier(model, names, preprocess, {}, runtime)
    return Finished(
        run_dir=run_dir, config=config, runtime=runtime, dataset=dataset, classifier=classifier,
        epochs=epochs, kept_epoch=3, train=metrics, test=metrics, test_logits=logits_NK,
        train_logits=logits_NK,
    )  # fmt: skip  # one name a line would take eleven


def fake_comparison(folder: Path, accuracies: dict[str, float], *, seeds: int = 3) -> Comparison:
    """Return a comparison of recipes that were never trained, on 400 pictures.

    Args:
        folder: where it says it lies.
        accuracies: of each recipe; seeds lie around it.
        seeds: trainings of each.
    """
    rng = np.random.default_rng(0)
    rows = [
        _fake_row(name, rng.random((seeds, 400)) < accuracy, 1000 * 3**i)
        for i, (name, accuracy) in enumerate(accuracies.items())
    ]
    differences = find_differences(rows, 400)
    findings = summarize_findings(rows, differences, 400)
    test = TestSet(400, 0.1)
    return Comparison(folder, tuple(rows), tuple(differences), tuple(findings), test, 2, 60.0)


def _fake_row(name: str, correct: np.ndarray, parameters: int) -> Row:
    tests = tuple(correct.mean(axis=1).tolist())
    losses = tuple(tuple(2.0 / (epoch + seed) for epoch in range(1, 9)) for seed in (1, 2, 3))
    return Row(
        recipe=name, parameters=parameters, epochs=8, seeds=len(tests),
        train_mean=float(np.mean(tests)), train_ci95=seeds_interval(tests),
        test_mean=float(np.mean(tests)),
        test_std=float(np.std(tests, ddof=1)) if len(tests) > 1 else None,
        test_ci95=mean_interval(correct), final_loss=0.25, seconds=parameters / 500,
        tests=tests, classic=True, losses=losses[: len(tests)], correct=correct,
    )  # fmt: skip  # name and value pairs
