"""nunbit: train, compare, explain and ship image classifiers, on the machine you have."""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from nunbit.language import tr

if TYPE_CHECKING:
    from nunbit.api import (
        compare,
        doctor,
        evaluate,
        explain,
        finetune,
        load,
        predict,
        report,
        resume,
        train,
    )
    from nunbit.bundle import Classifier
    from nunbit.comparison.compare import Comparison
    from nunbit.config import RunConfig
    from nunbit.data.pictures import Skipped
    from nunbit.diagnosis.doctor import Diagnosis
    from nunbit.errors import (
        CannotCreateError,
        DataError,
        DivergedError,
        LockedError,
        MissingInputError,
        NunbitError,
        StorageError,
        UsageError,
    )
    from nunbit.explaining.explanation import Explanation
    from nunbit.exporting import Exported, export
    from nunbit.finished import Finished
    from nunbit.lrfind import LrSearch, lr_find
    from nunbit.metrics import Metrics
    from nunbit.models.freeze import freeze, unfreeze
    from nunbit.models.head import reset_head
    from nunbit.models.registry import build_model, register_model
    from nunbit.networks import import_weights
    from nunbit.prediction import Prediction
    from nunbit.previewing import Preview, preview
    from nunbit.recipes import get_recipe
    from nunbit.zoo import load_pretrained

try:
    __version__ = version("nunbit")
except PackageNotFoundError:  # run from a source tree that is not installed
    __version__ = "0+unknown"

_PUBLIC = {
    "train": "nunbit.api",
    "lr_find": "nunbit.lrfind",
    "compare": "nunbit.api",
    "load": "nunbit.api",
    "predict": "nunbit.api",
    "evaluate": "nunbit.api",
    "finetune": "nunbit.api",
    "explain": "nunbit.api",
    "doctor": "nunbit.api",
    "resume": "nunbit.api",
    "report": "nunbit.api",
    "import_weights": "nunbit.networks",
    "preview": "nunbit.previewing",
    "export": "nunbit.exporting",
    "Classifier": "nunbit.bundle",
    "Prediction": "nunbit.prediction",
    "Preview": "nunbit.previewing",
    "RunConfig": "nunbit.config",
    "Skipped": "nunbit.data.pictures",
    "Comparison": "nunbit.comparison.compare",
    "Diagnosis": "nunbit.diagnosis.doctor",
    "Explanation": "nunbit.explaining.explanation",
    "Exported": "nunbit.exporting",
    "Finished": "nunbit.finished",
    "LrSearch": "nunbit.lrfind",
    "Metrics": "nunbit.metrics",
    "CannotCreateError": "nunbit.errors",
    "DataError": "nunbit.errors",
    "DivergedError": "nunbit.errors",
    "LockedError": "nunbit.errors",
    "MissingInputError": "nunbit.errors",
    "NunbitError": "nunbit.errors",
    "StorageError": "nunbit.errors",
    "UsageError": "nunbit.errors",
    "build_model": "nunbit.models.registry",
    "freeze": "nunbit.models.freeze",
    "load_pretrained": "nunbit.zoo",
    "reset_head": "nunbit.models.head",
    "unfreeze": "nunbit.models.freeze",
    "register_model": "nunbit.models.registry",
    "get_recipe": "nunbit.recipes",
}

__all__ = [
    "CannotCreateError",
    "Classifier",
    "Comparison",
    "DataError",
    "Diagnosis",
    "DivergedError",
    "Explanation",
    "Exported",
    "Finished",
    "LockedError",
    "LrSearch",
    "Metrics",
    "MissingInputError",
    "NunbitError",
    "Prediction",
    "Preview",
    "RunConfig",
    "Skipped",
    "StorageError",
    "UsageError",
    "build_model",
    "compare",
    "doctor",
    "evaluate",
    "explain",
    "export",
    "finetune",
    "freeze",
    "get_recipe",
    "import_weights",
    "load",
    "load_pretrained",
    "lr_find",
    "predict",
    "preview",
    "register_model",
    "report",
    "reset_head",
    "resume",
    "train",
    "unfreeze",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: `import nunbit` costs no torch."""
    if name not in _PUBLIC:
        raise AttributeError(tr("module 'nunbit' has no attribute '{name}'", name=name))
    return getattr(import_module(_PUBLIC[name]), name)
