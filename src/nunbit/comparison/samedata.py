"""One data set for a comparison: a recipe that saw other pictures is no better for it."""

from collections.abc import Hashable, Sequence

from nunbit.comparison.plan import PIXEL_FIELDS, SPLIT_FIELDS, PlannedRun
from nunbit.config import RunConfig
from nunbit.errors import DataError
from nunbit.runfolder import read_result


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
