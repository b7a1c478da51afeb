"""What a run is: five frozen sections of settings, readable from and writable to JSON.

A run is described by one `RunConfig`. Recipes are functions that return one; the command line and
`nunbit.train` change single fields by name (`optim.lr=0.1`). Every field is checked when a section
is made, so that no wrong setting reaches the training. This module never imports torch.
"""

import dataclasses
import json
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from nunbit.errors import UsageError, did_you_mean
from nunbit.language import tr
from nunbit.values import Interval, Setting, is_plain, literal, typed

FORMAT_VERSION = 1


def _require(ok: bool, name: str, value: object, allowed: str) -> None:
    if not ok:
        shown = f"{value!r:.200}"  # a configuration from elsewhere may hold anything
        raise UsageError(
            "{name} is {shown}; allowed: {allowed}", name=name, shown=shown, allowed=allowed
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class DataConfig:
    """Which pictures, how they are split, resized, normalised and augmented."""

    source: str = "digits"
    """A known name (digits, mnist, fashion-mnist, cifar10, birds), a folder, a .csv, a parquet."""
    size: int = 0
    """Side in pixels that pictures are resized to; 0 keeps the set's own up to 64."""
    channels: int = 0
    """1 for grey, 3 for colour; 0 keeps what the set is (3 for files)."""
    resize: Literal["crop", "squash", "pad"] = "crop"
    """How other shapes become square: cut the centre, ignore the aspect ratio, or add borders."""
    val_fraction: float = 0.1
    """Share of the training pictures kept for selection; 0 trains on all and selects nothing."""
    test_fraction: float = 0.2
    """Share of all pictures held out as test, where the source has no test split of its own."""
    split_seed: int = 0
    """Seed of the splits; apart from train.seed, so that several seeds share one test set."""
    normalize: Literal["train", "half", "none"] = "train"
    """Mean and std: of the training split, 0.5 and 0.5, or none (pixels in [0, 1] as they are)."""
    flip: bool = False
    """Mirror a random half of the training pictures left to right."""
    shift_pixels: int = 0
    """Largest random shift of training pictures in each direction, filled by reflection."""
    zoom: float = 0.0
    """Largest random enlargement of training pictures (0.3: up to 1.3 times)."""
    light: float = 0.0
    """Largest random change of brightness and contrast of training pictures (0.2: 20 %)."""
    skip_bad: bool = False
    """Leave unreadable pictures out (and list them) where the default refuses to start."""
    group_duplicates: bool = False
    """Keep pictures that look alike (near duplicates) on one side of the splits made here."""
    overrides: str = ""
    """A .csv (path,action,label) of pictures to drop or relabel, as `nunbit doctor` proposes."""

    def __post_init__(self) -> None:
        _require(
            bool(self.source), "data.source", self.source, tr("a name, folder, .csv or parquet")
        )
        _require(0 <= self.size <= 1024, "data.size", self.size, tr("0 to 1024 pixels"))
        _require(self.channels in (0, 1, 3), "data.channels", self.channels, "0, 1 or 3")
        _require(
            0 <= self.split_seed < 2**63 - 1, "data.split_seed", self.split_seed, "0 to 2^63 - 2"
        )
        _require(0 <= self.val_fraction < 0.9, "data.val_fraction", self.val_fraction, "0 to 0.9")
        _require(0 < self.test_fraction < 0.9, "data.test_fraction", self.test_fraction, "0 to 0.9")
        _require(0 <= self.shift_pixels <= 64, "data.shift_pixels", self.shift_pixels, "0 to 64")
        _require(0 <= self.zoom <= 1, "data.zoom", self.zoom, "0 to 1")
        _require(0 <= self.light <= 1, "data.light", self.light, "0 to 1")


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelConfig:
    """Which network, and the options of its builder."""

    name: str = "cnn"
    """A registered network (`nunbit models`), or timm:NAME, or torchvision:NAME."""
    args: Mapping[str, Setting] = field(default_factory=dict)
    """Options of the builder by name; on the command line --model.width 32."""
    init: Literal["own", "xavier", "kaiming", "normal"] = "own"
    """Initial weights of convolutions and linear layers: the network's own, or a method by name."""
    weights: str = ""
    """Weights to start from: pretrained (those of timm or torchvision) or a file; "" is random."""
    head: Literal["random", "logistic"] = "random"
    """Initial last layer: random, or a logistic regression on the training pictures' features."""
    freeze: str = ""
    """Layers that do not train, by dotted name with *, separated by commas: conv1,blocks.*"""

    def __post_init__(self) -> None:
        _require(isinstance(self.name, str), "model.name", self.name, tr("the name of a network"))
        _require(
            isinstance(self.args, Mapping), "model.args", self.args, tr("an object of options")
        )
        for key, value in self.args.items():
            is_name = isinstance(key, str) and key.isidentifier() and len(key) <= 100
            _require(is_name, tr("an option of the model"), key, tr("a name such as width"))
            _require(
                is_plain(value), f"model.{key}", value, tr("a number up to 100000, text or truth")
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class OptimConfig:
    """How weights are updated."""

    name: Literal["sgd", "adam", "adamw"] = "adamw"
    """The optimizer."""
    lr: float = 3e-3
    """Peak learning rate."""
    momentum: float = 0.0
    """Momentum of SGD, in [0, 1); Nesterov's form is used where it is above 0."""
    weight_decay: float = 0.0
    """Decay of weights (not of biases and norms), as the optimizer defines it."""
    l1: float = 0.0
    """Factor of the sum of absolute weights that is added to the loss."""
    l2: float = 0.0
    """Factor of the sum of squared weights that is added to the loss."""
    schedule: Literal["constant", "cosine", "onecycle"] = "constant"
    """Learning rate over the run."""
    warmup_fraction: float = 0.2
    """Share of the steps in which onecycle rises to the peak."""
    layer_decay: float = 1.0
    """Factor of the learning rate from each block to the one before it; 1 treats all alike."""

    def __post_init__(self) -> None:
        _require(0 < self.lr <= 100, "optim.lr", self.lr, tr("above 0, at most 100"))
        _require(0 <= self.momentum < 1, "optim.momentum", self.momentum, tr("0 to below 1"))
        _require(
            0 < self.layer_decay <= 1, "optim.layer_decay", self.layer_decay, tr("above 0, to 1")
        )
        for name in ("weight_decay", "l1", "l2"):
            value = getattr(self, name)
            _require(0 <= value <= 10, f"optim.{name}", value, "0 to 10")
        _require(
            0 < self.warmup_fraction < 1,
            "optim.warmup_fraction",
            self.warmup_fraction,
            tr("above 0, below 1"),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig:
    """How long, in which batches, on what."""

    epochs: int = 20
    """Passes over the training pictures; 0 stops after the head (model.head logistic)."""
    batch_size: int = 64
    """Pictures per update."""
    seed: int = 0
    """Seed of initial weights, order, augmentation and dropout."""
    label_smoothing: float = 0.0
    """Share of the target spread over all classes (arXiv 1512.00567)."""
    patience: int = 0
    """Stop after so many epochs without a better validation result; 0 never stops early."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """auto takes bf16 where the hardware multiplies it (CUDA, AMX) and fp32 elsewhere."""
    threads: int = 0
    """CPU threads; 0 takes one per core that this process may use."""
    checkpoint_every: str = "30s"
    """Time or updates between two checkpoints: 30s, 5m, 1h, 200steps, off (one at the end)."""

    def __post_init__(self) -> None:
        _require(0 <= self.epochs <= 100_000, "train.epochs", self.epochs, "0 to 100000")
        _require(2 <= self.batch_size <= 65_536, "train.batch_size", self.batch_size, "2 to 65536")
        _require(0 <= self.seed < 2**63, "train.seed", self.seed, "0 to 2^63 - 1")
        _require(
            0 <= self.label_smoothing < 1,
            "train.label_smoothing",
            self.label_smoothing,
            tr("0 to below 1"),
        )
        _require(self.patience >= 0, "train.patience", self.patience, tr("0 or more epochs"))
        _require(0 <= self.threads <= 1024, "train.threads", self.threads, "0 to 1024")
        try:
            Interval.parse(self.checkpoint_every)
        except ValueError:
            allowed = tr("30s, 5m, 1h, 200steps or off")
            _require(False, "train.checkpoint_every", self.checkpoint_every, allowed)


@dataclass(frozen=True, kw_only=True, slots=True)
class EvalConfig:
    """How the finished model is measured."""

    batch_size: int = 256
    """Pictures per forward pass; the result does not depend on it but for rounding."""
    max_error: float = 0.0
    """Share of the given labels that may be wrong (0.02): a picture is declined as unsure or as
    none of the classes where validation asks for it; 0 answers every picture."""

    def __post_init__(self) -> None:
        _require(1 <= self.batch_size <= 65_536, "eval.batch_size", self.batch_size, "1 to 65536")
        _require(0 <= self.max_error <= 0.5, "eval.max_error", self.max_error, "0 to 0.5")


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
        # The name becomes part of a folder's name.
        ok = self.recipe.isprintable() and 0 < len(self.recipe) <= 100 and self.recipe[0] != "."
        _require(
            ok, "recipe", self.recipe, tr("a name of up to 100 characters, without a first dot")
        )
        trains = self.train.epochs > 0 or self.model.head == "logistic"
        _require(trains, "train.epochs", 0, tr("1 or more; 0 only with model.head logistic"))

    def override(self, settings: Mapping[str, Setting]) -> "RunConfig":
        """Return a copy with fields replaced by dotted name.

        Args:
            settings: e.g. `{"optim.lr": 0.1, "model.width": "32"}`; strings are read as the
                field's type. `model.X` other than `model.name` is an option of the network.

        Raises:
            UsageError: an unknown section or field (with the nearest name), or a bad value.
        """
        changes: dict[str, dict[str, Any]] = {}
        model_args = dict(self.model.args)
        for key, value in settings.items():
            section, _, name = key.replace("-", "_").partition(".")
            if section not in SECTIONS or not name:
                known = [f"{s}.{f}" for s in SECTIONS for f in section_fields(s)]
                raise UsageError(
                    "no setting '{key}'; {hint}", key=key, hint=did_you_mean(key, known)
                )
            if section == "model" and name not in section_fields("model"):
                model_args[name] = literal(value)
                continue
            changes.setdefault(section, {})[name] = _typed_field(section, name, value)
        if changes.get("model", {}).get("name", self.model.name) != self.model.name:
            # Options belong to a network; another one starts from its own defaults.
            model_args = {k: v for k, v in model_args.items() if f"model.{k}" in settings}
        if model_args != dict(self.model.args) and "args" not in changes.get("model", {}):
            changes.setdefault("model", {})["args"] = model_args
        replaced = {s: dataclasses.replace(getattr(self, s), **new) for s, new in changes.items()}
        return dataclasses.replace(self, **replaced)

    def to_json(self) -> str:
        """Return the text of `config.json`: every field, with the format's version."""
        body = {"format_version": FORMAT_VERSION, **dataclasses.asdict(self)}
        return json.dumps(body, indent=2, ensure_ascii=False) + "\n"

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
        recipe = typed(str, "recipe", body.pop("recipe", "custom"))
        settings: dict[str, Any] = {}
        for section, fields in body.items():
            if section not in SECTIONS or not isinstance(fields, dict):
                raise UsageError(
                    "no section '{section}'; {hint}",
                    section=section,
                    hint=did_you_mean(section, SECTIONS),
                )
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


def describe_settings() -> list[dict[str, str]]:
    """Return every setting with its default and the docstring under its field."""
    from docstring_parser import parse_from_object

    rows = []
    for section, kind in SECTIONS.items():
        meanings = {p.arg_name: p.description or "" for p in parse_from_object(kind).params}
        default = kind()
        for name in section_fields(section):
            meaning = " ".join(meanings[name].split())
            value = str(getattr(default, name))
            rows.append({"name": f"{section}.{name}", "default": value, "meaning": meaning})
    return rows


def _typed_field(section: str, name: str, value: object) -> Any:
    hints = typing.get_type_hints(SECTIONS[section])
    if name not in hints:
        names = section_fields(section)
        raise UsageError(
            "no setting '{section}.{name}'; {hint}",
            section=section,
            name=name,
            hint=did_you_mean(name, names),
        )
    return typed(hints[name], f"{section}.{name}", value)
