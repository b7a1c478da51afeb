"""What a run is: five frozen sections of settings, readable from and writable to JSON.

A run is described by one `RunConfig`. Recipes are functions that return one; the command line and
`nunbit.train` change single fields by name (`optim.lr=0.1`). Every field is checked when a section
is made, so that no wrong setting reaches the training. This module never imports torch.
"""

import dataclasses
import json
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from nunbit.errors import UsageError, did_you_mean
from nunbit.language import tr
from nunbit.sections import DataConfig, EvalConfig, ModelConfig, OptimConfig, TrainConfig, require
from nunbit.values import Setting, literal, typed, words_of

__all__ = [
    "PRETRAINED", "DataConfig", "EvalConfig", "ModelConfig", "OptimConfig", "RunConfig",
    "TrainConfig", "describe_settings", "section_fields",
]  # fmt: skip  # a list of words
FORMAT_VERSION = 1
PRETRAINED = "pretrained"  # the word in `model.weights` for the zoo's own


@dataclass(frozen=True, kw_only=True, slots=True)
class RunConfig:
    """One training run, whole: what a recipe returns and `config.json` holds."""

    recipe: str = "custom"
    """Name under which the run is listed."""
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)

    def __post_init__(self) -> None:
        for name, kind in SECTIONS.items():
            section = getattr(self, name)
            require(isinstance(section, kind), name, section, kind.__name__)
        object.__setattr__(self, "recipe", typed(str, "recipe", self.recipe))
        # The name becomes part of a folder's name.
        ok = self.recipe.isprintable() and 0 < len(self.recipe) <= 100 and self.recipe[0] != "."
        require(
            ok, "recipe", self.recipe, tr("a name of up to 100 characters, without a first dot")
        )
        trains = self.train.epochs > 0 or self.model.head == "logistic"
        require(trains, "train.epochs", 0, tr("1 or more; 0 only with model.head logistic"))

    def override(self, settings: Mapping[str, Setting]) -> "RunConfig":
        """Return a copy with fields replaced by dotted name.

        Args:
            settings: e.g. `{"optim.lr": 0.1, "model.width": "32"}`; strings are read as the
                field's type. `model.X` other than `model.name` is an option of the network.

        Raises:
            UsageError: an unknown section or field (with the nearest name), or a bad value.
        """
        settings = {key.replace("-", "_"): value for key, value in settings.items()}
        changes: dict[str, dict[str, Any]] = {}
        options: dict[str, Setting] = {}
        for key, value in settings.items():
            section, _, name = key.partition(".")
            if section not in SECTIONS or not name:
                known = [f"{s}.{f}" for s in SECTIONS for f in section_fields(s)]
                raise UsageError(
                    "no setting '{key}'; {hint}", key=key, hint=did_you_mean(key, known)
                )
            if section == "model" and name not in section_fields("model"):
                options[name] = literal(value)
                continue
            _require_field(section, name)
            changes.setdefault(section, {})[name] = value
        model = changes.get("model", {})
        # Options belong to a network; another one starts from its own defaults.
        is_same = model.get("name", self.model.name) == self.model.name
        if options or not (is_same or "args" in model):
            args = model.get("args", self.model.args if is_same else {})
            if isinstance(args, Mapping):  # else the section says what is allowed
                args = {**args, **options}
            changes["model"] = {**model, "args": args}
        replaced = {s: dataclasses.replace(getattr(self, s), **new) for s, new in changes.items()}
        return dataclasses.replace(self, **replaced)

    def to_json(self) -> str:
        """Return the text of `config.json`: every field, with the format's version."""
        body = {"format_version": FORMAT_VERSION, **dataclasses.asdict(self)}
        return json.dumps(body, indent=2, ensure_ascii=False) + "\n"

    def unlike(self, other: "RunConfig") -> dict[str, Any]:
        """Return the settings, by dotted name, that another run has otherwise."""
        theirs = dataclasses.asdict(other)
        return {
            f"{section}.{name}": value
            for section in SECTIONS
            for name, value in dataclasses.asdict(getattr(self, section)).items()
            if value != theirs[section][name]
        }

    @staticmethod
    def from_json(text: str) -> "RunConfig":
        """Read what `to_json` wrote; missing fields take their defaults.

        Raises:
            UsageError: not JSON, a newer format, an unknown section or field, or a bad value.
        """
        try:
            body = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise UsageError("the configuration is not JSON: {error}", error=error) from error
        if not isinstance(body, dict):
            raise UsageError("the configuration is not a JSON object with sections")
        version = body.pop("format_version", FORMAT_VERSION)
        if version != FORMAT_VERSION:
            raise UsageError(
                "configuration format {version}; this nunbit reads {format_version}",
                version=version,
                format_version=FORMAT_VERSION,
            )
        recipe = body.pop("recipe", "custom")
        settings: dict[str, Any] = {}
        for section, fields in body.items():
            if section not in SECTIONS or not isinstance(fields, dict):
                raise UsageError(
                    "no section '{section}'; {hint}",
                    section=section,
                    hint=did_you_mean(section, SECTIONS),
                )
            for name in fields:
                _require_field(section, name)
            settings |= {f"{section}.{name}": value for name, value in fields.items()}
        return dataclasses.replace(RunConfig().override(settings), recipe=recipe)


SECTIONS: dict[str, type] = {
    "data": DataConfig,
    "model": ModelConfig,
    "optim": OptimConfig,
    "train": TrainConfig,
    "eval": EvalConfig,
}


def section_fields(section: str) -> list[str]:
    """Return the field names of a section, in order."""
    return [f.name for f in dataclasses.fields(SECTIONS[section])]


def require_used(names: Iterable[str], command: str, *others: str) -> None:
    """Refuse settings that have no say where nothing but a network is built.

    Args:
        names: dotted.
        command: that does not use them.
        others: what it uses beside the network's options.

    Raises:
        UsageError: naming the first of them.
    """
    fields = section_fields("model")
    for name in names:
        section, _, option = name.partition(".")
        if name not in others and (section != "model" or option in fields):
            raise UsageError(
                "'{name}' is not used by {command}; allowed: {allowed}",
                name=name,
                command=command,
                allowed=", ".join((*others, "model.OPTION")),
            )


def describe_settings() -> list[dict[str, Any]]:
    """Return every setting with its default, the words it may have, and its docstring."""
    from docstring_parser import parse_from_object

    rows = []
    for section, kind in SECTIONS.items():
        meanings = {p.arg_name: p.description or "" for p in parse_from_object(kind).params}
        default, hints = kind(), typing.get_type_hints(kind)
        for name in section_fields(section):
            rows.append(
                {
                    "name": f"{section}.{name}",
                    "default": str(getattr(default, name)),
                    "allowed": words_of(hints[name]),
                    "meaning": " ".join(meanings[name].split()),
                }
            )
    return rows


def _require_field(section: str, name: str) -> None:
    names = section_fields(section)
    if name not in names:
        raise UsageError(
            "no setting '{section}.{name}'; {hint}",
            section=section,
            name=name[:80],
            hint=did_you_mean(name, names),
        )
