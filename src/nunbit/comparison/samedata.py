"""One data set for a comparison: a recipe that saw other pictures is no better for it."""

from collections.abc import Hashable, Sequence

from nunbit.comparison.plan import PIXEL_FIELDS, SPLIT_FIELDS, PlannedRun
from nunbit.comparison.pool import naming
from nunbit.config import RunConfig
from nunbit.data.splits import Dataset
from nunbit.errors import DataError
from nunbit.language import tr
from nunbit.progress import Display
from nunbit.reading import Read
from nunbit.runfolder import (
    CONFIG_FILE,
    changes_since,
    is_finished,
    read_result,
    read_split,
    told_apart,
)
from nunbit.runtime import choose_runtime
from nunbit.signals import StopRequest


def data_key(config: RunConfig) -> Hashable:
    """Return the settings that a fingerprint of the data depends on: equal ones give one.

    Recipes may differ in them and still share their test pictures: in the share kept for
    validation, in the size, and in pretrained weights, which want pictures their own way. What
    changes training pictures as they are shown, or their normalisation, is no part of it.
    """
    fields = (*SPLIT_FIELDS, "val_fraction", *PIXEL_FIELDS)
    model = config.model
    weights = (model.name, model.weights) if model.weights else None
    return (*(getattr(config.data, field) for field in fields), weights)


def require_one_fingerprint(runs: Sequence[PlannedRun]) -> None:
    """Refuse finished runs of which one saw other data than another with the same settings.

    Raises:
        DataError: the data changed between two of them.
    """
    found: dict[Hashable, tuple[PlannedRun, str]] = {}
    for run in runs:
        fingerprint = read_result(run.run_dir)["data_fingerprint"]
        first, expected = found.setdefault(data_key(run.config), (run, fingerprint))
        if fingerprint != expected:
            raise DataError(
                "{run_dir} was not trained on the data of {first}: pictures or labels changed in "
                "between; choose another --run-dir, or put the data back and remove the run that "
                "saw them changed",
                run_dir=run.run_dir,
                first=first.run_dir,
            )


def require_shared_data(
    runs: Sequence[PlannedRun], read: Read, display: Display, stop: StopRequest
) -> None:
    """Refuse data that do not fit the runs that are there, or each other, before any training.

    Nothing is read where there is nothing to compare with.

    Args:
        runs: all of the comparison, of which some have not ended.
        read: gives the data of a run.
        display: where the progress of reading goes.
        stop: raises when a signal has come.

    Raises:
        DataError: the data changed since a run began, or recipes do not share their test pictures.
        NunbitError: data that cannot be used.
    """
    require_one_fingerprint([run for run in runs if is_finished(run.run_dir)])
    groups: dict[Hashable, list[PlannedRun]] = {}
    for run in runs:
        groups.setdefault(data_key(run.config), []).append(run)
    tests: list[tuple[PlannedRun, dict[str, str]]] = []
    for group in groups.values():
        begun = [run for run in group if (run.run_dir / CONFIG_FILE).exists()]
        todo = [run for run in group if not is_finished(run.run_dir)]
        if todo and (begun or len(groups) > 1):
            with naming(todo[0]):
                runtime = choose_runtime(todo[0].config.train)
                dataset = read(todo[0].config, runtime, display, stop)
            for run in begun:
                _require_unchanged(run, dataset)
            tests.append((todo[0], _test_of(dataset)))
            del dataset  # the next would not have to fit into memory beside it
        elif len(groups) > 1:
            tests.append((begun[0], _recorded_test(begun[0])))
    _require_one_test(tests)


def _require_unchanged(run: PlannedRun, dataset: Dataset) -> None:
    """Refuse other data than a run began with."""
    known = read_result(run.run_dir)["data_fingerprint"] if is_finished(run.run_dir) else None
    if known == dataset.fingerprint:
        return
    named = changes_since(run.run_dir, dataset)
    if known or named:
        raise DataError(
            "the data changed since {run_dir} began: {named}; choose another --run-dir, or put the "
            "data back",
            run_dir=run.run_dir,
            named=named or tr("the order of the pictures, or the table of corrections"),
        )


def _test_of(dataset: Dataset) -> dict[str, str]:
    labels = (dataset.class_names[i] for i in dataset.test.labels.tolist())
    return dict(zip(told_apart(dataset.test.names), labels, strict=True))


def _recorded_test(run: PlannedRun) -> dict[str, str]:
    rows = read_split(run.run_dir).items()
    return {name: label for name, (label, split, _) in rows if split == "test"}


def _require_one_test(tests: Sequence[tuple[PlannedRun, dict[str, str]]]) -> None:
    """Refuse test pictures that are not those of the first."""
    for run, labels in tests[1:]:
        first, expected = tests[0]
        if labels != expected:
            raise DataError(
                "{first} and {label} do not share their test pictures ({name} is the first that "
                "differs): at their sizes other pictures look the same, or the data changed; give "
                "one --data.size for all, or choose another --run-dir",
                first=first.label,
                label=run.label,
                name=min(name for name, _ in labels.items() ^ expected.items()),
            )
