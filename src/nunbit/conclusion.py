"""What follows the last update: the decision when not to answer, and the numbers of every split."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial

import torch
from torch import Tensor, nn

from nunbit.config import RunConfig
from nunbit.data.pictures import ImageSet
from nunbit.data.rows import Stoppable
from nunbit.data.splits import Dataset
from nunbit.decision import Decision, fit_decision, fit_temperature
from nunbit.evaluation import Outputs, collect_logits, collect_outputs
from nunbit.headstart import HeadStart
from nunbit.language import tr
from nunbit.metrics import Answers, Metrics, measure
from nunbit.models.head import cool_head
from nunbit.runtime import Runtime, limited_threads


@dataclass(frozen=True)
class Conclusion:
    """A finished network, measured."""

    train: Metrics
    test: Metrics
    train_logits: Tensor | None
    """float32 (N, K); None where only some training pictures were measured."""
    test_logits: Tensor
    decision: Decision | None
    """None where every picture is answered (`eval.max_error` 0)."""


def conclude(
    model: nn.Module,
    config: RunConfig,
    dataset: Dataset,
    runtime: Runtime,
    head: HeadStart | None,
    check: Callable[[], None],
) -> Conclusion:
    """Measure a network after its last update; its last layer takes in the temperature, if any.

    Args:
        model: with the weights that are kept.
        config: of the run.
        dataset: of the run.
        runtime: of the run.
        head: fitted last layer of a network that was not trained after that; its known features
            are not computed again.
        check: raises when the run should stop; asked before each batch, and at the end.
    """
    measured = measured_train(dataset.train, config)

    def outputs(part: str) -> Outputs:
        check()
        if head is not None:
            return head.outputs(part, model, runtime)
        pictures: ImageSet = measured if part == "train" else getattr(dataset, part)
        arguments = (Stoppable(pictures.images, check), dataset.preprocess, runtime)
        if config.eval.max_error:
            return collect_outputs(model, *arguments, config.eval.batch_size)
        return Outputs(collect_logits(model, *arguments, config.eval.batch_size))

    with limited_threads(runtime.threads):
        train, decision = outputs("train"), None
        if config.eval.max_error:
            assert dataset.val is not None  # `read_dataset` asks for it
            val, labels = partial(outputs, "val"), dataset.val.labels
            train, decision = _calibrated(model, train, val, labels, config.eval.max_error)
        test = outputs("test")
        verdicts = decision.verdicts(test) if decision else None
    check()
    names = dataset.class_names
    return Conclusion(
        train=measure(train.logits, measured.labels, names),
        test=measure(test.logits, dataset.test.labels, names, verdicts),
        train_logits=train.logits if len(measured) == len(dataset.train) else None,
        test_logits=test.logits,
        decision=decision,
    )


def _calibrated(
    model: nn.Module,
    train: Outputs,
    val: Callable[[], Outputs],
    val_labels_N: Tensor,
    max_error: float,
) -> tuple[Outputs, Decision]:
    """Cool a network; return what it then says of the training pictures, and its decision.

    Validation is measured twice: bf16 rounds the cooled weights otherwise, and these ship.
    """
    temperature = fit_temperature(val().logits, val_labels_N)
    cool_head(model, temperature)
    train = train.cooled(temperature)
    return train, fit_decision(train.stages, val(), val_labels_N, max_error, temperature)


def measured_train(pictures: ImageSet, config: RunConfig) -> ImageSet:
    """Return the training pictures that are measured: all, or some at equal distances.

    A fitted last layer that no epoch followed is measured on all, whose features it knows.
    """
    most = config.eval.train_pictures
    if not most or len(pictures) <= most or not config.train.epochs:
        return pictures
    return pictures.select(torch.arange(most) * len(pictures) // most)


def describe_promise(decision: Decision) -> str:
    """Say when a label is given, and what is promised of it."""
    numbers = {
        "least": decision.least_probability,
        "max_error": decision.max_error,
        "n": decision.val_n,
    }
    if decision.is_promised:
        return tr(
            "labels from a probability of {least:.1%} on: with 95 % confidence at most "
            "{max_error:.1%} of them are wrong, by {n:,} validation pictures",
            **numbers,
        )
    return tr(
        "labels from a probability of {least:.1%} on; {n:,} validation pictures are too few, or "
        "too many of them wrong, to promise at most {max_error:.1%} wrong",
        **numbers,
    )


def describe_answers(answers: Answers) -> str:
    """Say how many pictures were answered, and how many of the answers are wrong."""
    numbers = asdict(answers)
    if answers.error_ci95 is None:
        return tr(
            "answered none of {n:,}: unsure {unsure:,}, called foreign {foreign:,}", **numbers
        )
    low, high = answers.error_ci95
    return tr(
        "answered {coverage:.1%} of {n:,}, {error:.1%} of them wrong ({low:.1%} to {high:.1%}); "
        "unsure {unsure:,}, called foreign {foreign:,}",
        low=low,
        high=high,
        **numbers,
    )
