"""One training from settings to a measured model in a run folder."""

import csv
import io
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nunbit.bundle import MODEL_FILE, Classifier
from nunbit.config import RunConfig
from nunbit.data.loader import TrainLoader
from nunbit.data.sources import open_source
from nunbit.data.splits import Dataset, open_dataset
from nunbit.errors import CannotCreateError
from nunbit.evaluation import collect_logits
from nunbit.metrics import Metrics, measure
from nunbit.models.registry import build_model
from nunbit.models.summary import count_parameters
from nunbit.progress import Display
from nunbit.runtime import Runtime, choose_runtime, limited_threads, seeded, versions
from nunbit.storage import atomic_write, make_folder
from nunbit.training.loop import EpochResult, fit, keep_best, should_stop
from nunbit.training.optim import build_optimizer
from nunbit.training.state import TrainState

RUNS = Path("runs")


@dataclass(frozen=True)
class Finished:
    """A run that ended: its numbers, and what a report draws from."""

    run_dir: Path
    config: RunConfig
    runtime: Runtime
    dataset: Dataset
    classifier: Classifier
    epochs: tuple[EpochResult, ...]
    kept_epoch: int
    """The epoch whose weights were kept: the best on validation, or the last."""
    seconds: float
    """Wall time of training with validation."""
    train: Metrics
    test: Metrics
    test_logits: Tensor
    """float32 (N, K)."""

    @property
    def parameters(self) -> int:
        """Parameters of the network."""
        return count_parameters(self.classifier.module)

    def to_dict(self) -> dict[str, Any]:
        """Return the result as `nunbit train --json` prints it."""
        last = self.epochs[-1]
        images = len(self.epochs) * self.train.n
        return {
            "run_dir": str(self.run_dir),
            "recipe": self.config.recipe,
            "model": self.config.model.name,
            "parameters": self.parameters,
            "epochs": last.epoch,
            "steps": last.step,
            "kept_epoch": self.kept_epoch,
            "seconds": round(self.seconds, 3),
            "images_per_second": round(images / self.seconds, 1),
            "final_loss": last.train_loss,
            "train": {"accuracy": self.train.accuracy, "n": self.train.n},
            "test": {
                "accuracy": self.test.accuracy,
                "n": self.test.n,
                "ci95": list(self.test.ci95),
            },
            "model_file": str(self.run_dir / MODEL_FILE),
        }


def train_run(config: RunConfig, run_dir: Path, display: Display) -> Finished:
    """Train one model as `config` says and write the run folder.

    Raises:
        NunbitError: bad settings or data, before the folder is made; or a stop while training.
    """
    runtime = choose_runtime(config.train)
    config = _resolved(config, runtime)
    dataset = open_dataset(
        open_source(config.data.source), config.data, runtime.threads, display.track
    )
    model = _new_model(config, dataset).to(runtime.device)
    make_folder(run_dir)
    _write_beginning(run_dir, config, dataset)
    for fault in dataset.skipped:
        display.say(f"left out {fault.name}: {fault.reason}")
    display.say(_header(config, dataset, runtime, model))

    state = TrainState(model, build_optimizer(model, config.optim))
    state.sums = state.sums.to(runtime.device)
    start = time.perf_counter()
    epochs = list(_epochs(state, dataset, config, runtime, run_dir, display))
    seconds = time.perf_counter() - start
    kept = keep_best(model, state) or state.epoch
    with limited_threads(runtime.threads):
        train, _ = _measure(model, dataset, "train", config, runtime)
        test, test_logits = _measure(model, dataset, "test", config, runtime)
    classifier = Classifier(
        model, dataset.class_names, dataset.preprocess, _card(config, dataset, train, test), runtime
    )
    classifier.save(run_dir / MODEL_FILE)
    finished = Finished(
        run_dir, config, runtime, dataset, classifier, tuple(epochs), kept, seconds,
        train, test, test_logits,
    )  # fmt: skip  # one name a line would take twelve
    _write_end(finished)
    return finished


def next_run_dir(recipe: str) -> Path:
    """Return the first free folder for a recipe: runs/birds-net, runs/birds-net-2, ..."""
    base = recipe.replace("/", "-")
    number = 1
    while (path := RUNS / (base if number == 1 else f"{base}-{number}")).exists():
        number += 1
    return path


def require_new(run_dir: Path) -> None:
    """Refuse a run folder that holds something: nothing is ever written over.

    Raises:
        CannotCreateError: it exists and is not an empty folder.
    """
    if run_dir.exists() and (not run_dir.is_dir() or any(run_dir.iterdir())):
        raise CannotCreateError(f"{run_dir} exists and is not empty; choose another --run-dir")


def _epochs(
    state: TrainState,
    dataset: Dataset,
    config: RunConfig,
    runtime: Runtime,
    run_dir: Path,
    display: Display,
) -> Iterator[EpochResult]:
    """Train, logging and showing each epoch, until the end or until validation stalls."""
    loader = TrainLoader(dataset.train, dataset.preprocess, config, runtime.device)
    with (run_dir / "metrics.jsonl").open("w", encoding="utf-8") as log:
        for result in fit(state, loader, dataset.val, runtime, display.track):
            log.write(json.dumps(result.to_dict(), allow_nan=False) + "\n")
            log.flush()
            display.say(_line(result, config.train.epochs))
            yield result
            if should_stop(state, config):
                display.say(f"no better validation result for {config.train.patience} epochs: stop")
                break


def _resolved(config: RunConfig, runtime: Runtime) -> RunConfig:
    """Return the settings with what the machine chose, so that the run can be repeated."""
    train = replace(
        config.train,
        device=str(runtime.device),
        precision=runtime.precision,
        threads=runtime.threads,
    )
    return replace(config, train=train)


def _new_model(config: RunConfig, dataset: Dataset) -> nn.Module:
    preprocess = dataset.preprocess
    with seeded(config.train.seed, "init"):
        return build_model(
            config.model.name,
            num_classes=len(dataset.class_names),
            in_channels=preprocess.channels,
            image_size=(preprocess.height, preprocess.width),
            args=config.model.args,
        ).to(memory_format=torch.channels_last)


def _measure(
    model: nn.Module, dataset: Dataset, part: str, config: RunConfig, runtime: Runtime
) -> tuple[Metrics, Tensor]:
    images = dataset.train if part == "train" else dataset.test
    size = config.eval.batch_size
    logits = collect_logits(model, images.images, dataset.preprocess, runtime, size)
    return measure(logits, images.labels, dataset.class_names), logits


def _card(config: RunConfig, dataset: Dataset, train: Metrics, test: Metrics) -> dict[str, Any]:
    """Return what travels with the weights."""
    return {
        "recipe": config.recipe,
        "model": {"name": config.model.name, "args": dict(config.model.args)},
        "metrics": {
            part: {"split": part, "n": m.n, "accuracy": m.accuracy, "ci95": list(m.ci95)}
            for part, m in (("train", train), ("test", test))
        },
        "config": json.loads(config.to_json()),
        "data": {"source": config.data.source, "fingerprint": dataset.fingerprint},
        "versions": versions(),
    }


def _header(config: RunConfig, dataset: Dataset, runtime: Runtime, model: nn.Module) -> str:
    p = dataset.preprocess
    val = f" + {len(dataset.val):,} validation" if dataset.val else ""
    return (
        f"{config.recipe}: {config.model.name}, {count_parameters(model):,} parameters; "
        f"{len(dataset.train):,} training{val} + {len(dataset.test):,} test pictures, "
        f"{len(dataset.class_names)} classes, {p.width}x{p.height}x{p.channels}; "
        f"{runtime.describe()}"
    )


def _line(result: EpochResult, epochs: int) -> str:
    width = len(str(epochs))
    val = (
        f"  val {result.val_accuracy:6.2%} (loss {result.val_loss:.3f})"
        if result.val_accuracy is not None
        else ""
    )
    return (
        f"epoch {result.epoch:{width}}/{epochs}  loss {result.train_loss:.4f}  "
        f"running {result.running_accuracy:6.2%}{val}  "
        f"{result.images_per_second:,.0f} images/s  {result.seconds:.1f} s"
    )


def _write_beginning(run_dir: Path, config: RunConfig, dataset: Dataset) -> None:
    atomic_write(run_dir / "config.json", config.to_json().encode())
    atomic_write(run_dir / "split.csv", _split_table(dataset).encode())
    if dataset.skipped:
        lines = "".join(f"{fault.name}\t{fault.reason}\n" for fault in dataset.skipped)
        atomic_write(run_dir / "skipped.txt", lines.encode())


def _split_table(dataset: Dataset) -> str:
    """Return which picture is in which split, as CSV."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(("picture", "label", "split"))
    for part in ("train", "val", "test"):
        pictures = getattr(dataset, part)
        if pictures is not None:
            labels = (dataset.class_names[i] for i in pictures.labels.tolist())
            writer.writerows(
                (n, label, part) for n, label in zip(pictures.names, labels, strict=True)
            )
    return table.getvalue()


def _write_end(finished: Finished) -> None:
    body = {
        **finished.to_dict(),
        "test_metrics": finished.test.to_dict(),
        "data_fingerprint": finished.dataset.fingerprint,
        "skipped": [asdict(fault) for fault in finished.dataset.skipped],
        "versions": versions(),
    }
    text = json.dumps(body, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    atomic_write(finished.run_dir / "result.json", text.encode())
