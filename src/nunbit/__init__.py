"""nunbit: train, compare, explain and ship image classifiers, on the machine you have."""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nunbit.api import evaluate, import_weights, load, predict, resume, train
    from nunbit.bundle import Classifier
    from nunbit.config import RunConfig
    from nunbit.errors import NunbitError
    from nunbit.models.registry import build_model, register_model
    from nunbit.recipes import get_recipe

try:
    __version__ = version("nunbit")
except PackageNotFoundError:  # run from a source tree that is not installed
    __version__ = "0+unknown"

_PUBLIC = {
    "train": "nunbit.api",
    "load": "nunbit.api",
    "predict": "nunbit.api",
    "evaluate": "nunbit.api",
    "resume": "nunbit.api",
    "import_weights": "nunbit.api",
    "Classifier": "nunbit.bundle",
    "RunConfig": "nunbit.config",
    "NunbitError": "nunbit.errors",
    "build_model": "nunbit.models.registry",
    "register_model": "nunbit.models.registry",
    "get_recipe": "nunbit.recipes",
}

__all__ = [
    "Classifier",
    "NunbitError",
    "RunConfig",
    "build_model",
    "evaluate",
    "get_recipe",
    "import_weights",
    "load",
    "predict",
    "register_model",
    "resume",
    "train",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: `import nunbit` costs no torch."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'nunbit' has no attribute '{name}'")
    return getattr(import_module(_PUBLIC[name]), name)
