"""Which runs a comparison consists of, and where each of them lives."""

import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from nunbit.config import RunConfig
from nunbit.data.preprocess import Preprocess
from nunbit.data.sources import anchored
from nunbit.errors import CannotCreateError, UsageError, did_you_mean
from nunbit.language import tr
from nunbit.models.registry import all_options, is_foreign
from nunbit.recipes import RECIPES, get_recipe
from nunbit.runfolder import CONFIG_FILE, RUNS, read_config
from nunbit.start import preprocess_of
from nunbit.values import Setting

MAX_SEEDS = 1000
OUTPUTS = ("comparison.json", "comparison.csv", "comparison.html", "figures", "workers.log")


@dataclass(frozen=True)
class PlannedRun:
    """One training of a comparison."""

    label: str
    """What the table calls it: a recipe, with the settings that set it apart."""
    config: RunConfig
    run_dir: Path


def plan_runs(
    names: Sequence[str],
    seeds: int,
    source: str | None,
    settings: Mapping[str, Setting],
    folder: Path | None,
) -> tuple[Path, list[PlannedRun]]:
    """Return the folder of a comparison and its runs, seed by seed.

    Seeds come first so that a comparison that is stopped early has every recipe at fewer seeds.

    Args:
        names: recipes, families (`birds`), or recipes with settings (`birds/net:optim.lr=0.1`).
        seeds: runs of each; they take train.seed, train.seed + 1, ...
        source: data in place of the recipes'.
        settings: of all runs, by dotted name.
        folder: where; by default a folder whose name follows from all the above but the seeds, so
            that the same command goes on where it stopped.

    Raises:
        UsageError: unknown names or settings, nothing to compare, or different data.
    """
    if not 1 <= seeds <= MAX_SEEDS:
        raise UsageError("seeds is {seeds}; allowed: 1 to {most}", seeds=seeds, most=MAX_SEEDS)
    variants = {
        label: configure(label, source, settings) for name in names for label in _expand(name)
    }
    if not variants or len(variants) == seeds == 1:
        given = tr("only {name} was", name=next(iter(variants))) if variants else tr("none was")
        raise UsageError(
            "a comparison needs two recipes, or several seeds of one (--seeds 3); {given} given",
            given=given,
        )
    _require_unlike(variants)
    _require_one_test_set(variants)
    for config in variants.values():
        if is_foreign(config.model.name):
            raise UsageError(
                "compare trains in processes of its own, which do not know '{name}'; train it with "
                "nunbit.train, once for each seed",
                name=config.model.name,
            )
    folder = folder or _default_folder(names, variants)
    runs = []
    for i in range(seeds):
        for label, config in variants.items():
            seed = config.train.seed + i
            seeded = replace(config, train=replace(config.train, seed=seed))
            runs.append(PlannedRun(label, seeded, folder / _slug(label) / f"seed-{seed}"))
    return folder, runs


def _expand(name: str) -> list[str]:
    """Return the recipes of a family, or the name itself."""
    family = [recipe for recipe in RECIPES if recipe.startswith(f"{name}/")]
    if not family and name.partition(":")[0] not in RECIPES:
        families = {recipe.partition("/")[0] for recipe in RECIPES}
        raise UsageError(
            "no recipe '{name}'; {hint}", name=name, hint=did_you_mean(name, {*RECIPES, *families})
        )
    return family or [name]


def configure(label: str, source: str | None, settings: Mapping[str, Setting]) -> RunConfig:
    """Return what a label names: a recipe, perhaps with settings of its own after a colon.

    Args:
        label: `birds/net`, or `birds/net:optim.lr=0.1`.
        source: data in place of the recipe's.
        settings: of all recipes of a comparison; where a label has its own, that one holds.

    Raises:
        UsageError: unknown names or settings.
    """
    recipe, _, text = label.partition(":")
    own: dict[str, Setting] = {}
    for word in text.split(",") if text else []:
        key, equals, value = word.partition("=")
        if not equals:
            raise UsageError(
                "'{word}' in '{label}' is no setting; write optim.lr=0.1", word=word, label=label
            )
        if key.strip() in own:
            raise UsageError("'{name}' is given twice: leave one of them out", name=key.strip())
        own[key.strip()] = value.strip()
    return anchored(get_recipe(recipe, source).override({**settings, **own}))


def _require_unlike(variants: Mapping[str, RunConfig]) -> None:
    """Refuse two names of one training: it would be trained twice, and differ in nothing."""
    whole = {label: _spelled_out(config) for label, config in variants.items()}
    for (first, a), (label, b) in itertools.combinations(whole.items(), 2):
        if a == b:
            raise UsageError(
                "{first} and {label} are the same training: leave one of them out",
                first=first,
                label=label,
            )


def _spelled_out(config: RunConfig) -> RunConfig:
    """Return settings without the recipe's name, and with the options that a network has anyway."""
    args = all_options(config.model.name, config.model.args)
    return replace(config, recipe="any", model=replace(config.model, args=args))


# What decides which pictures are held out; which look alike depends on their pixels, too.
SPLIT_FIELDS = (
    "source", "split_seed", "test_fraction", "skip_bad", "group_duplicates", "overrides",
)  # fmt: skip
PIXEL_FIELDS = ("size", "channels", "resize")


def _require_one_test_set(variants: Mapping[str, RunConfig]) -> None:
    """Refuse recipes whose test pictures differ: nothing could be paired."""
    first_label, first = next(iter(variants.items()))
    for label, config in variants.items():
        for field in SPLIT_FIELDS + (PIXEL_FIELDS if first.data.group_duplicates else ()):
            a, b = getattr(first.data, field), getattr(config.data, field)
            if a != b:
                raise UsageError(
                    "{first} and {label} do not share their test pictures: data.{field} is "
                    "{a} and {b}; give one --data or one --data.{field} for all",
                    first=first_label,
                    label=label,
                    field=field,
                    a=a,
                    b=b,
                )
        if first.data.group_duplicates and _own_pixels(first) != _own_pixels(config):
            raise UsageError(
                "{first} and {label} do not share their test pictures: data.group_duplicates looks "
                "at pixels, and they resize pictures in different ways; leave it out",
                first=first_label,
                label=label,
            )


def _own_pixels(config: RunConfig) -> Preprocess | None:
    """Return how pretrained weights want pictures to be resized; None of random ones."""
    own = preprocess_of(config)
    return own and replace(own, mean=(0.0,) * own.channels, std=(1.0,) * own.channels)


def _default_folder(names: Sequence[str], variants: Mapping[str, RunConfig]) -> Path:
    # Of what differs from the defaults alone, so that a new setting gives no old folder a new name.
    chosen = {label: config.unlike(RunConfig()) for label, config in variants.items()}
    text = json.dumps(chosen, sort_keys=True)
    digest = hashlib.blake2b(text.encode(), digest_size=3).hexdigest()
    first = _slug(names[0]) if len(names) == 1 else f"{_slug(names[0])}-and-{len(names) - 1}-more"
    return RUNS / f"compare-{first[:40]}-{digest}"


def _slug(label: str) -> str:
    """Return a label as the name of a folder; unlike labels stay unlike."""
    plain = "".join(c if c.isalnum() or c in "-.=" else "-" for c in label)
    if plain == label.replace("/", "-"):
        return plain
    return f"{plain[:80]}-{hashlib.blake2b(label.encode(), digest_size=3).hexdigest()}"


def require_own(folder: Path, runs: Sequence[PlannedRun]) -> None:
    """Refuse a folder that holds anything but this comparison, begun or finished.

    Raises:
        CannotCreateError: other files, or runs with other settings.
    """
    if folder.exists() and not folder.is_dir():
        raise CannotCreateError("{folder} is a file; choose another --run-dir", folder=folder)
    for path in folder.iterdir() if folder.exists() else ():
        # Names with a dot are the system's: a folder that was looked into on a Mac has one.
        is_runs = path.is_dir() and all(
            run.name.startswith(("seed-", ".")) for run in path.iterdir()
        )
        if path.name not in OUTPUTS and not path.name.startswith(".") and not is_runs:
            raise CannotCreateError(
                "{folder} holds {name}, which is not of a comparison; choose another --run-dir",
                folder=folder,
                name=path.name,
            )
    for run in runs:
        if (run.run_dir / CONFIG_FILE).exists():
            before = read_config(run.run_dir)
            if not same_settings(before, run.config):
                raise CannotCreateError(
                    "{run_dir} was trained with other settings; choose another --run-dir",
                    run_dir=run.run_dir,
                )
            was, asked = before.train.precision, run.config.train.precision
            if asked not in ("auto", was):  # the seeds of a row differ in nothing else
                raise CannotCreateError(
                    "{run_dir} was trained in {was}; leave out --train.precision, or choose "
                    "another --run-dir",
                    run_dir=run.run_dir,
                    was=was,
                )


def same_settings(a: RunConfig, b: RunConfig) -> bool:
    """Return whether two runs differ only in where and how they computed and saved."""
    first, second = (
        replace(c.train, device="auto", precision="auto", threads=0, checkpoint_every="off")
        for c in (a, b)
    )
    return replace(a, train=first) == replace(b, train=second)
