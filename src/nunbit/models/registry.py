"""From a name to a network: nunbit's own, torchvision's and timm's, through one call."""

import difflib
import importlib
import inspect
import pkgutil
import typing
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from nunbit.errors import UsageError, did_you_mean
from nunbit.language import tr
from nunbit.models.dryrun import FAULTS, require_classes
from nunbit.models.mode import eval_mode
from nunbit.values import Setting

Builder = Callable[..., nn.Module]
BUILDERS: dict[str, Builder] = {}
# Options of the zoos that fetch or open files; a configuration from elsewhere may hold any option.
WEIGHT_OPTIONS = frozenset(
    {
        "cache_dir", "checkpoint_path", "pretrained", "pretrained_cfg", "pretrained_cfg_overlay",
        "pretrained_backbone", "progress", "weights", "weights_backbone",
    }
)  # fmt: skip  # a list of words
OUTPUT_OPTIONS = frozenset({"features_only", "aux_logits"})
OWN_SIDE, ZOO_SIDE = 32, 224  # pixels: what the texts and what the zoos train on
SHAPE_ARGUMENTS = ("num_classes", "in_channels", "image_size")


def register_model(name: str) -> Callable[[Builder], Builder]:
    """Register a plain function that builds a network under `name`.

    The builder takes `num_classes: int, in_channels: int, image_size: tuple[int, int]` (height and
    width in pixels) and its own options by keyword, each with a type and a default.

    Raises:
        ValueError: the name is taken.
    """

    def register(builder: Builder) -> Builder:
        if name in BUILDERS:
            raise ValueError(f"two networks are named '{name}'")
        BUILDERS[name] = builder
        return builder

    return register


def is_foreign(name: str) -> bool:
    """Return whether a program registered this network: another process does not know it."""
    module = BUILDERS[name].__module__ if name in BUILDERS else "nunbit."
    return not (module or "").startswith("nunbit.")  # None where a text was executed


def all_options(name: str, args: Mapping[str, Setting]) -> dict[str, Setting]:
    """Return the options of a network with the defaults of those that were not given.

    Those of a zoo's network are what was given: nobody lists its defaults.
    """
    if ":" in name:
        return dict(args)
    found = inspect.signature(_own_builder(name)).parameters
    defaults = {n: p.default for n, p in found.items() if n not in SHAPE_ARGUMENTS}
    return {**defaults, **args}


def usual_side(name: str) -> int:
    """Return the side in pixels of the pictures that a network is shown with where none are."""
    return ZOO_SIDE if ":" in name else OWN_SIDE


def list_models() -> dict[str, str]:
    """Return the names of nunbit's own networks with their descriptions, sorted."""
    _import_all()
    lines = {name: (inspect.getdoc(builder) or "") for name, builder in BUILDERS.items()}
    return {name: lines[name].split("\n")[0] for name in sorted(lines)}


def build_model(
    name: str,
    *,
    num_classes: int,
    in_channels: int,
    image_size: tuple[int, int],
    args: Mapping[str, Setting] | None = None,
) -> nn.Module:
    """Build a network with random weights; the caller's torch seed decides them.

    Args:
        name: one of `list_models()`, or `timm:NAME`, or `torchvision:NAME`.
        num_classes: outputs of the network, K.
        in_channels: 1 or 3.
        image_size: (height, width) in pixels.
        args: options of the builder.

    Raises:
        UsageError: an unknown name or option, an option of the wrong type, or a size that the
            network cannot take.
    """
    zoo, _, inner = name.partition(":")
    if inner:
        model = _build_from_zoo(zoo, inner, num_classes, in_channels, dict(args or {}))
        require_fit(name, model, in_channels, image_size)
        return model
    builder = _own_builder(name)
    options = _checked(name, builder, args or {})
    try:
        model = builder(
            num_classes=num_classes, in_channels=in_channels, image_size=image_size, **options
        )
    except (RuntimeError, MemoryError) as error:  # more than fits into memory
        raise UsageError(f"{name}: {_one_line(error)}") from error
    if is_foreign(name):
        require_classes(model, (in_channels, *image_size), num_classes)
    return model


def _own_builder(name: str) -> Builder:
    _import_all()
    if name not in BUILDERS:
        raise UsageError(
            "no network '{name}'; {hint}", name=name, hint=did_you_mean(name, BUILDERS)
        )
    return BUILDERS[name]


def _import_all() -> None:
    """Import every module beside this one, so that the networks in it register themselves."""
    import nunbit.models as package

    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")


def _checked(name: str, builder: Builder, args: Mapping[str, Setting]) -> dict[str, Setting]:
    """Return the options with whole numbers turned to floats where floats are expected."""
    hints = typing.get_type_hints(builder)
    known = [option for option in hints if option not in (*SHAPE_ARGUMENTS, "return")]
    checked: dict[str, Setting] = {}
    for option, value in args.items():
        if option not in known:
            hint = did_you_mean(option, known) if known else tr("it has no options")
            raise UsageError(
                "network '{name}' has no option '{option}'; {hint}",
                name=name,
                option=option,
                hint=hint,
            )
        expected = hints[option]
        if expected is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if type(value) is not expected:
            raise UsageError(
                "model.{option} is {value!r}; allowed: {name}",
                option=option,
                value=value,
                name=expected.__name__,
            )
        checked[option] = value
    return checked


def _build_from_zoo(
    zoo: str, name: str, num_classes: int, in_channels: int, args: dict[str, Any]
) -> nn.Module:
    if zoo == "timm":
        import timm

        names, create = timm.list_models(), timm.create_model
        args = {"in_chans": in_channels, **args}
    elif zoo == "torchvision":
        from torchvision import models as zoo_models

        # Only the classifiers: detection and segmentation networks do not give logits (B, K).
        names, create = zoo_models.list_models(module=zoo_models), zoo_models.get_model
        if name in ("googlenet", "inception_v3"):  # their second outputs are for another loss
            args = {"aux_logits": False, "init_weights": True, **args}
        if in_channels != 3:
            raise UsageError("torchvision:{name} takes colour; add --data.channels 3", name=name)
    else:
        raise UsageError("no zoo '{zoo}'; allowed: timm:NAME, torchvision:NAME", zoo=zoo[:80])
    for option in OUTPUT_OPTIONS & {key for key, value in args.items() if value}:
        raise UsageError(
            "model.{option} is not allowed: the network would give more than logits", option=option
        )
    for option in WEIGHT_OPTIONS & set(args):
        raise UsageError(
            "model.{option} is not allowed: a network's options never name files", option=option
        )
    if name not in names:
        near = difflib.get_close_matches(name, names, n=3)
        raise UsageError(
            "{zoo} has no network '{name}'; near: {near}",
            zoo=zoo,
            name=name,
            near=", ".join(near) or tr("none"),
        )
    try:
        model: nn.Module = create(name, num_classes=num_classes, **args)
    except (*FAULTS, MemoryError) as error:
        raise UsageError(f"{zoo}:{name}: {_one_line(error)}") from error
    return model


def _one_line(error: Exception) -> str:
    return str(error).split("\n")[0] or type(error).__name__


def require_fit(name: str, model: nn.Module, in_channels: int, image_size: tuple[int, int]) -> None:
    """Show a network one black picture, since no zoo says which sizes its networks take.

    Raises:
        UsageError: it takes no pictures of `image_size`, (height, width) in pixels, or gives
            something else than logits.
    """
    try:
        # Not inference_mode: what a network caches must stay trainable.
        with eval_mode(model), torch.no_grad():
            found = model(torch.zeros(1, in_channels, *image_size))
    except FAULTS as error:
        height, width = image_size
        raise UsageError(
            "{name} cannot take pictures of {height}x{width} ({one_line}); set "
            "data.size, often 224",
            name=name,
            height=height,
            width=width,
            one_line=_one_line(error),
        ) from error
    if not isinstance(found, torch.Tensor) or found.ndim != 2:
        raise UsageError("{name} gives no logits with these options", name=name)
