"""One precision for all seeds of a recipe: they must differ in nothing but their seed.

A run that chooses for itself goes by the clock, which may say one thing for one seed and another
for the next. So the choice is made once for each recipe, before the first of its runs, and holds
on whatever machine the comparison goes on.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from nunbit.comparison.plan import PlannedRun
from nunbit.comparison.pool import naming
from nunbit.data.loader import TrainLoader
from nunbit.language import tr
from nunbit.progress import Display
from nunbit.reading import Read
from nunbit.runfolder import CONFIG_FILE, read_config
from nunbit.runtime import choose_runtime
from nunbit.signals import StopRequest
from nunbit.start import build_start
from nunbit.training.tempo import Precision, is_open, settle_precision


def share_precision(
    runs: Sequence[PlannedRun],
    todo: Sequence[PlannedRun],
    read: Read,
    display: Display,
    stop: StopRequest,
) -> list[PlannedRun]:
    """Return the runs that are to be trained, with the precision of their recipe.

    Args:
        runs: all of the comparison; the choice of those that began already holds.
        todo: those that have not ended, with the threads that they will have.
        read: gives the data of a run.
        display: where the progress of reading goes.
        stop: raises when a signal has come.

    Raises:
        NunbitError: data or settings that cannot be used.
    """
    chosen: dict[str, Precision] = {}
    for run in runs:
        if (run.run_dir / CONFIG_FILE).exists():
            precision = read_config(run.run_dir).train.precision
            if precision != "auto":
                chosen.setdefault(run.label, precision)
    _say_what_is_slow(todo, chosen, display)
    settled = []
    for run in todo:
        train = run.config.train
        if run.label not in chosen and is_open(train, choose_runtime(train)):
            chosen[run.label] = _faster(run, read, display, stop)
        if train.precision == "auto" and run.label in chosen:
            train = replace(train, precision=chosen[run.label])
        settled.append(replace(run, config=replace(run.config, train=train)))
    return settled


def _say_what_is_slow(
    todo: Sequence[PlannedRun], chosen: Mapping[str, Precision], display: Display
) -> None:
    """Name the recipes that go on in bf16 on a machine that only imitates it."""
    imitated = {
        run.label
        for run in todo
        if chosen.get(run.label) == "bf16"
        and (train := run.config.train).precision == "auto"
        and not is_open(train, choose_runtime(train))
    }
    for label in sorted(imitated):
        display.say(
            tr(
                "{label} goes on in bf16, in which its first seeds were trained; this machine has "
                "no instructions for it, and is slower in it",
                label=label,
            )
        )


def _faster(run: PlannedRun, read: Read, display: Display, stop: StopRequest) -> Precision:
    """Return the precision in which a recipe trains faster, alone on the machine."""
    config = run.config
    runtime = choose_runtime(config.train)
    with naming(run):
        dataset = read(config, runtime, display, stop)
        model = build_start(config, dataset, runtime).model
    loader = TrainLoader(dataset.train, dataset.preprocess, config, runtime.device)
    return settle_precision(model, loader, runtime).precision
