"""The sections of a run's settings: frozen, every field checked when a section is made.

The docstring under a field gives its meaning and unit; `nunbit settings` prints them. This module
never imports torch.
"""

import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from nunbit.errors import UsageError
from nunbit.language import tr
from nunbit.values import Interval, Setting, is_plain, typed

MOST_EPOCHS = 100_000


def require(ok: bool, name: str, value: object, allowed: str) -> None:
    """Refuse a value that is not allowed.

    Raises:
        UsageError: it is not; the text says what was given and what is allowed.
    """
    if not ok:
        shown = f"{value!r:.200}"  # a configuration from elsewhere may hold anything
        raise UsageError(
            "{name} is {shown}; allowed: {allowed}", name=name, shown=shown, allowed=allowed
        )


def _read_fields(section: Any, name: str) -> None:
    """Put each field of a new section through `typed`: an unknown word would choose a default."""
    for field_name, hint in typing.get_type_hints(type(section)).items():
        value = typed(hint, f"{name}.{field_name}", getattr(section, field_name))
        object.__setattr__(section, field_name, value)  # the section is frozen


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
    """Mean and std: of the training split, 0.5 and 0.5, or none; pretrained weights have theirs."""
    flip: bool = False
    """Show each training picture mirrored left to right in every other epoch, from the first or
    the second on at random."""
    flip_vertical: bool = False
    """Show each training picture mirrored top to bottom in every other epoch; with data.flip all
    four ways come in four epochs."""
    rotate: float = 0.0
    """Largest random rotation of training pictures in either direction, in degrees, up to 180."""
    shift_pixels: int = 0
    """Largest random shift of training pictures in each direction, filled by reflection."""
    zoom: float = 0.0
    """Largest random enlargement of training pictures (0.3: up to 1.3 times)."""
    light: float = 0.0
    """Largest random change of brightness and contrast of training pictures (0.2: 20 %)."""
    saturation: float = 0.0
    """Largest random change of how strong colours of training pictures are (0.3: 30 %)."""
    small_size: int = 0
    """Side in pixels at which pictures are trained on at first, which is faster; 0: always full."""
    small_fraction: float = 0.6
    """Share of the updates at data.small_size."""
    cutout: int = 0
    """Side in pixels of a square that is made grey at a random place of each training picture."""
    mixup: float = 0.0
    """Blend each training picture and its class with another one's; the share is drawn from
    Beta(mixup, mixup): at 0.2 mostly near 0 or 1, at 1 any (arXiv 1710.09412). 0: not."""
    cutmix: float = 0.0
    """Paste a rectangle of another picture into each training picture, whose class counts by the
    share that is pasted; its area is drawn from Beta(cutmix, cutmix), and edges may cut it; 1 is
    usual (arXiv 1905.04899). 0: not."""
    skip_bad: bool = False
    """Leave unreadable pictures out (and list them) where the default refuses to start."""
    group_duplicates: bool = False
    """Keep pictures that look alike (near duplicates) on one side of the splits made here."""
    overrides: str = ""
    """A .csv (path,action,label) of pictures to drop or relabel, as `nunbit doctor` proposes."""

    def __post_init__(self) -> None:
        _read_fields(self, "data")
        require(
            bool(self.source), "data.source", self.source, tr("a name, folder, .csv or parquet")
        )
        require(0 <= self.size <= 1024, "data.size", self.size, tr("0 to 1024 pixels"))
        require(self.channels in (0, 1, 3), "data.channels", self.channels, "0, 1 or 3")
        require(
            0 <= self.split_seed < 2**63 - 1, "data.split_seed", self.split_seed, "0 to 2^63 - 2"
        )
        val, test = self.val_fraction, self.test_fraction
        require(0 <= val < 0.9, "data.val_fraction", val, tr("0 to below 0.9"))
        require(0 < test < 0.9, "data.test_fraction", test, tr("above 0, below 0.9"))
        require(0 <= self.rotate <= 180, "data.rotate", self.rotate, tr("0 to 180 degrees"))
        require(0 <= self.shift_pixels <= 64, "data.shift_pixels", self.shift_pixels, "0 to 64")
        require(0 <= self.zoom <= 1, "data.zoom", self.zoom, "0 to 1")
        require(0 <= self.light <= 1, "data.light", self.light, "0 to 1")
        require(0 <= self.saturation <= 1, "data.saturation", self.saturation, "0 to 1")
        require(0 <= self.small_size <= 1024, "data.small_size", self.small_size, "0 to 1024")
        require(
            0 < self.small_fraction < 1,
            "data.small_fraction",
            self.small_fraction,
            tr("above 0, below 1"),
        )
        require(0 <= self.cutout <= 1024, "data.cutout", self.cutout, tr("0 to 1024 pixels"))
        for name in ("mixup", "cutmix"):
            alpha = getattr(self, name)
            require(
                alpha == 0 or 0.01 <= alpha <= 10, f"data.{name}", alpha, tr("0, or 0.01 to 10")
            )


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
    """Weights to start from: pretrained (those of timm or torchvision), a file of theirs, or a run
    folder or model file of nunbit's (its last layer stays if the classes do); "" is random."""
    head: Literal["random", "logistic"] = "random"
    """Initial last layer: random, or a logistic regression on the training pictures' features."""
    freeze: str = ""
    """Layers that do not train, by dotted name with *, separated by commas: conv1,blocks.*"""

    def __post_init__(self) -> None:
        _read_fields(self, "model")
        for key, value in self.args.items():
            is_name = isinstance(key, str) and key.isidentifier() and len(key) <= 100
            require(is_name, tr("an option of the model"), key, tr("a name such as width"))
            require(
                is_plain(value), f"model.{key}", value, tr("a number up to 100000, text or truth")
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class OptimConfig:
    """How weights are updated."""

    name: Literal["sgd", "adam", "adamw", "muon"] = "adamw"
    """The optimizer; muon updates convolutions, and SGD with momentum the rest."""
    lr: float = 3e-3
    """Peak learning rate."""
    momentum: float = 0.0
    """Momentum of SGD and Muon, in [0, 1); Nesterov's form is used where it is above 0."""
    weight_decay: float = 0.0
    """Decay of weights (not of biases and norms), as the optimizer defines it."""
    l1: float = 0.0
    """Factor of the sum of absolute weights that is added to the loss."""
    l2: float = 0.0
    """Factor of the sum of squared weights that is added to the loss."""
    schedule: Literal["constant", "cosine", "onecycle", "linear"] = "constant"
    """Learning rate over the run; cosine, onecycle and linear end near zero."""
    warmup_fraction: float = 0.2
    """Share of the steps in which onecycle and linear rise to the peak."""
    layer_decay: float = 1.0
    """Factor of the learning rate from each block to the one before it; 1 treats all alike."""

    def __post_init__(self) -> None:
        _read_fields(self, "optim")
        require(0 < self.lr <= 100, "optim.lr", self.lr, tr("above 0, at most 100"))
        require(0 <= self.momentum < 1, "optim.momentum", self.momentum, tr("0 to below 1"))
        require(
            0 < self.layer_decay <= 1, "optim.layer_decay", self.layer_decay, tr("above 0, to 1")
        )
        for name in ("weight_decay", "l1", "l2"):
            value = getattr(self, name)
            require(0 <= value <= 10, f"optim.{name}", value, "0 to 10")
        rise = self.warmup_fraction
        require(0 <= rise < 1, "optim.warmup_fraction", rise, tr("0 to below 1"))
        is_used = self.layer_decay == 1 or self.name != "muon"
        require(is_used, "optim.layer_decay", self.layer_decay, tr("1 with optim.name muon"))


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig:
    """How long, in which batches, on what."""

    epochs: int = 20
    """Passes over the training pictures; 0 stops after the head (model.head logistic)."""
    max_steps: int = 0
    """Updates after which training and schedule end, inside an epoch if need be; 0: all epochs."""
    batch_size: int = 64
    """Most pictures per update; the batches of an epoch are as equal as can be."""
    seed: int = 0
    """Seed of initial weights, order, augmentation and dropout."""
    class_weight: Literal["none", "balanced"] = "none"
    """balanced lets each class count the same in the loss, however many pictures it has."""
    label_smoothing: float = 0.0
    """Share of the target spread over all classes (arXiv 1512.00567)."""
    ema: float = 0.0
    """Measure and keep an average of the weights over updates: the share of it that stays at each,
    such as 0.99 of hundreds or 0.999 of thousands of updates (arXiv 1512.00567). 0: not."""
    precise_bn: bool = False
    """Measure batch norms anew, on 5,000 training pictures, before validation and at the end."""
    patience: int = 0
    """Stop after so many epochs without a better validation result; 0 never stops early."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """auto times both at the start where the hardware multiplies bf16, and keeps the faster."""
    threads: int = 0
    """CPU threads; 0 takes one per core that this process may use."""
    checkpoint_every: str = "30s"
    """Time or updates between two checkpoints: 30s, 5m, 1h, 200steps, off (one at the end)."""

    def __post_init__(self) -> None:
        _read_fields(self, "train")
        most = MOST_EPOCHS
        require(0 <= self.epochs <= most, "train.epochs", self.epochs, f"0 to {most}")
        require(0 <= self.max_steps <= 10**9, "train.max_steps", self.max_steps, "0 to 1000000000")
        require(2 <= self.batch_size <= 65_536, "train.batch_size", self.batch_size, "2 to 65536")
        require(0 <= self.seed < 2**63, "train.seed", self.seed, "0 to 2^63 - 1")
        require(
            0 <= self.label_smoothing < 1,
            "train.label_smoothing",
            self.label_smoothing,
            tr("0 to below 1"),
        )
        require(0 <= self.ema < 1, "train.ema", self.ema, tr("0 to below 1"))
        require(self.patience >= 0, "train.patience", self.patience, tr("0 or more epochs"))
        require(0 <= self.threads <= 1024, "train.threads", self.threads, "0 to 1024")
        try:
            Interval.parse(self.checkpoint_every)
        except ValueError:
            allowed = tr("30s, 5m, 1h, 200steps or off")
            require(False, "train.checkpoint_every", self.checkpoint_every, allowed)


@dataclass(frozen=True, kw_only=True, slots=True)
class EvalConfig:
    """How the finished model is measured."""

    batch_size: int = 256
    """Most pictures per forward pass, fewer of large ones; the result does not depend on it but
    for rounding."""
    train_pictures: int = 0
    """Training pictures that the final training accuracy is measured on; 0 takes all."""
    views: Literal["one", "mirror", "shift", "both"] = "one"
    """Also measure the mean over views of each picture: mirrored, moved by a pixel, or both."""
    max_error: float = 0.0
    """Largest share of wrong labels among those given (0.02 is 2 %); other pictures are answered
    "unsure" or "not one of your classes". 0 labels every picture."""

    def __post_init__(self) -> None:
        _read_fields(self, "eval")
        require(1 <= self.batch_size <= 65_536, "eval.batch_size", self.batch_size, "1 to 65536")
        require(
            0 <= self.train_pictures <= 10**9,
            "eval.train_pictures",
            self.train_pictures,
            "0 to 1000000000",
        )
        require(0 <= self.max_error <= 0.5, "eval.max_error", self.max_error, "0 to 0.5")
