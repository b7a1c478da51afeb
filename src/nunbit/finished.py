"""What a training ends in: the numbers that are printed, recorded and drawn."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from nunbit.bundle import MODEL_FILE, Classifier
from nunbit.config import EvalConfig, RunConfig
from nunbit.data.rows import Images, Stoppable
from nunbit.data.splits import Dataset
from nunbit.metrics import Metrics, measure
from nunbit.models.summary import count_parameters
from nunbit.runtime import Runtime, versions
from nunbit.start import describe_start
from nunbit.training.loop import EpochResult


def measure_views(
    classifier: Classifier, images: Images | Stoppable, labels: Tensor, config: EvalConfig
) -> Metrics | None:
    """Measure pictures in several views each, if `eval.views` asks for it; a figure of its own."""
    if config.views == "one":
        return None
    logits = classifier.logits(images, config.batch_size, config.views)
    return measure(logits, labels, classifier.class_names)


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A run that ended: its numbers, and what a report draws from."""

    run_dir: Path
    config: RunConfig
    runtime: Runtime
    dataset: Dataset
    classifier: Classifier
    epochs: tuple[EpochResult, ...]
    kept_epoch: int
    """The epoch whose weights, or whose average of them, were kept: the best on validation, or the
    last. 0 is the start of a pretrained network, with its fitted last layer."""
    train: Metrics
    test: Metrics
    test_logits: Tensor
    """float32 (N, K)."""
    train_logits: Tensor | None = None
    """float32 (N, K), of the training pictures; None leaves suspicious labels out of the report."""
    start_seconds: float = 0.0
    """Wall time before the first epoch: choosing the precision, building the network, whitening,
    fitting the last layer."""
    views: Metrics | None = None
    """Of the test pictures, each seen in several views (`eval.views`)."""

    @property
    def parameters(self) -> int:
        """Parameters of the network."""
        return count_parameters(self.classifier.module)

    @property
    def seconds(self) -> float:
        """Wall time of training with validation, over all parts of a resumed run, and of its start.

        A run that was resumed does not know how long its first start took.
        """
        return self.start_seconds + sum(epoch.seconds for epoch in self.epochs)

    def to_dict(self) -> dict[str, Any]:
        """Return the result as `nunbit train --json` prints it."""
        last = self.epochs[-1] if self.epochs else None
        images = sum(epoch.images for epoch in self.epochs) or self.train.n
        strategy = describe_start(self.config)
        return {
            **({"strategy": strategy} if strategy else {}),
            "run_dir": str(self.run_dir),
            "recipe": self.config.recipe,
            "model": self.config.model.name,
            "parameters": self.parameters,
            "epochs": last.epoch if last else 0,
            "steps": last.step if last else 0,
            "kept_epoch": self.kept_epoch,
            "seconds": round(self.seconds, 3),
            "images_per_second": round(images / self.seconds, 1),
            "final_loss": last.train_loss if last else self.train.loss,
            "train": {"accuracy": self.train.accuracy, "n": self.train.n},
            "test": {
                "accuracy": self.test.accuracy,
                "n": self.test.n,
                "ci95": list(self.test.ci95),
            },
            **({"test_views": self._views()} if self.views else {}),
            **self._decision(),
            "model_file": str(self.run_dir / MODEL_FILE),
        }

    def _decision(self) -> dict[str, Any]:
        """Return when the model declines, and what came of it on the test split."""
        decision, answers = self.classifier.decision, self.test.answers
        if decision is None or answers is None:
            return {}
        return {"decision": {**decision.to_dict(), "test": asdict(answers)}}

    def _views(self) -> dict[str, Any]:
        assert self.views is not None
        return {
            "views": self.config.eval.views,
            "accuracy": self.views.accuracy,
            "n": self.views.n,
            "ci95": list(self.views.ci95),
        }

    def record(self) -> dict[str, Any]:
        """Return the body of `result.json`."""
        return {
            **self.to_dict(),
            "start_seconds": self.start_seconds,
            "test_metrics": self.test.to_dict(),
            "data_fingerprint": self.dataset.fingerprint,
            "skipped": [asdict(fault) for fault in self.dataset.skipped],
            "leaks": self.dataset.leaks,
            "versions": versions(),
        }
