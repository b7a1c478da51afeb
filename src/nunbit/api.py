"""The verbs, as Python functions of the same names as the commands.

`lr_find`, `preview`, `export` and `import_weights` stand in the modules that do their work. Each
imports what it alone needs: matplotlib and scipy take longer than a picture to classify.
"""

import os
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nunbit.asked import asked_config, gathered
from nunbit.bundle import MODEL_FILE, Classifier
from nunbit.config import PRETRAINED, RunConfig, TrainConfig
from nunbit.data.given import Picture, find_pictures
from nunbit.data.sources import anchored, open_source, refuse_inside
from nunbit.errors import UsageError
from nunbit.language import tr
from nunbit.metrics import Metrics
from nunbit.modelfile import load_classifier
from nunbit.models.pretrained import LITE0
from nunbit.planning import planned
from nunbit.prediction import Prediction
from nunbit.progress import Display
from nunbit.reading import say_left_out
from nunbit.runtime import choose_runtime
from nunbit.unseen import say_known
from nunbit.values import Setting, parse_budget, path_of, typed

if TYPE_CHECKING:
    from nunbit.comparison.compare import Comparison
    from nunbit.diagnosis.doctor import Diagnosis
    from nunbit.explaining.explanation import Explanation
    from nunbit.finetuning.strategy import Strategy
    from nunbit.finished import Finished


def train(
    recipe: str | RunConfig | None = None,
    *,
    data: str | Path | None = None,
    model: str | None = None,
    budget: str | None = None,
    run_dir: str | Path | None = None,
    tensorboard: bool = False,
    quiet: bool = False,
    **settings: Setting,
) -> "Finished":
    """Train, measure and write a run folder with its report.

    Args:
        recipe: a name, a whole `RunConfig`, or None for the default.
        data: a known name, folder, .csv or parquet in place of the recipe's.
        model: a network in place of the recipe's.
        budget: time for all of it, such as 60s or 10m: chooses the number of updates and, where no
            recipe and no model is named, the network; see `nunbit.planning`.
        run_dir: a new folder; by default the next free one under ./runs.
        tensorboard: also write TensorBoard events into the run folder.
        quiet: print nothing.
        settings: single fields, with their section (`optim__lr=0.1`) or without (`epochs=5`); a
            name without section is looked for in train, optim, data and eval, in this order.

    Raises:
        NunbitError: wrong settings, data that cannot be used, or a folder that cannot be written.
    """
    began = time.perf_counter()  # imports count
    from nunbit.events import require_tensorboard
    from nunbit.reporting.page import write_report
    from nunbit.run import train_run
    from nunbit.runclaim import require_free

    seconds = None if budget is None else parse_budget(budget)
    config = asked_config(recipe, data, model, settings, for_budget=budget is not None)
    folder = None if run_dir is None else path_of(run_dir, "--run-dir")
    require_free(folder, config)
    if tensorboard:
        require_tensorboard()
    display = Display(quiet=quiet)
    if seconds is None:
        return train_run(config, folder, display, write_report, tensorboard=tensorboard)
    config, read = planned(config, began + seconds, display, gathered(settings))
    return train_run(config, folder, display, write_report, read, tensorboard=tensorboard)


def finetune(
    data: str | Path,
    *,
    model: str | None = None,
    weights: str | Path | None = None,
    budget: str = "90s",
    strategy: "Strategy" = "auto",
    run_dir: str | Path | None = None,
    quiet: bool = False,
    **settings: Setting,
) -> "Finished":
    """Make a classifier of a pretrained network and a folder of pictures.

    Args:
        data: a folder of class folders, a .csv, a parquet or a known name.
        model: timm:NAME or torchvision:NAME, with pretrained weights; by default
            timm:tf_efficientnet_lite0.
        weights: a safetensors file, a state dict, or a run folder or model file of nunbit's (with
            its `model`); by default those of the package that the extra `[offline]` installs, of
            the cache, or of the hub.
        budget: time for all of it, such as 90s or 10m; the size of the pictures and the strategy
            follow from it.
        strategy: `head` fits the last layer only, `full` trains all layers after that; `auto`
            takes what the budget allows.
        run_dir: a new folder; by default the next free one under ./runs.
        quiet: print nothing.
        settings: single fields, as in `train`; `train__epochs` with `full` only.

    Raises:
        NunbitError: weights that cannot be had, data that cannot be used, a budget that is too
            small, or wrong settings.
    """
    from nunbit.finetuning.strategy import Strategy, choose_strategy, finetune_config, refuse_epochs
    from nunbit.reporting.page import write_report
    from nunbit.run import train_run
    from nunbit.runclaim import require_free

    display, wish = Display(quiet=quiet), typed(Strategy, "strategy", strategy)
    start = None if weights is None else os.path.abspath(weights)
    short: dict[str, Setting] = {"data.source": data, "model.name": model, "model.weights": start}
    given = gathered(settings)
    config = finetune_config(str(data), LITE0, PRETRAINED)
    config = anchored(config.override(gathered(given, short)))
    folder = None if run_dir is None else path_of(run_dir, "--run-dir")
    require_free(folder, config)
    seconds = parse_budget(budget)
    refuse_epochs(config, given, wish)
    opened = open_source(config.data.source, display.track)
    config = choose_strategy(config, opened, seconds, wish, display.say, given)
    return train_run(config, folder, display, write_report)


def resume(
    run: str | Path, *, data: str | Path | None = None, quiet: bool = False
) -> dict[str, Any]:
    """Go on with a run where it stopped, and return its result as `Finished.to_dict` does.

    Args:
        run: its folder.
        data: where its data lies now, if it was moved.
        quiet: print nothing.

    Raises:
        MissingInputError: no such run, or its data is gone.
        DataError: its data changed since it began, or all its checkpoints are damaged.
        LockedError: another process is writing it.
    """
    from nunbit.reporting.page import write_report
    from nunbit.run import resume_run
    from nunbit.runfolder import read_result

    folder, display = path_of(run, "run"), Display(quiet=quiet)
    place = None if data is None else str(data)
    finished = resume_run(folder, display, write_report, place=place)
    if finished is None:
        if data is not None:
            raise UsageError(
                "{folder} ended already; measure it with evaluate --data", folder=folder
            )
        display.say(tr("{folder} ended already; nothing to do", folder=folder))
        # The folder may have been moved since it wrote where it was.
        moved = {"run_dir": str(folder), "model_file": str(folder / MODEL_FILE)}
        return {**read_result(folder), **moved}
    return finished.to_dict()


def compare(
    recipes: Sequence[str],
    *,
    seeds: int = 3,
    data: str | Path | None = None,
    run_dir: str | Path | None = None,
    jobs: int = 0,
    quiet: bool = False,
    **settings: Setting,
) -> "Comparison":
    """Train recipes with several seeds on the same pictures and say which differences are real.

    Killed at any time, the same call goes on: finished runs are kept, begun ones are resumed.

    Args:
        recipes: names, families (`birds`), or recipes with settings (`birds/net:optim.lr=0.1`).
        seeds: trainings of each; their seeds are train.seed, train.seed + 1, ...
        data: a known name, folder, .csv or parquet for all.
        run_dir: a folder for the runs and the results; by default one whose name follows from the
            arguments, but not from the number of seeds.
        jobs: trainings at once, which share the cores; 0 takes one for each core.
        quiet: print nothing.
        settings: of all runs, as in `train`.

    Raises:
        NunbitError: wrong settings, recipes that do not share their test pictures, a run that
            failed, or a folder that holds something else.
    """
    from nunbit.comparison.compare import run_comparison
    from nunbit.comparison.plan import plan_runs
    from nunbit.reporting.comparison import write_comparison

    given = gathered(settings, {"data.source": data})
    source = str(given.pop("data.source")) if "data.source" in given else None
    folder = None if run_dir is None else path_of(run_dir, "--run-dir")
    names = [recipes] if isinstance(recipes, str) else recipes
    folder, runs = plan_runs(names, seeds, source, given, folder)
    refuse_inside(folder, runs[0].config.data.source, "--run-dir")  # all have one
    return run_comparison(folder, runs, jobs, Display(quiet=quiet), write_comparison)


def report(run: str | Path, *, quiet: bool = False) -> Path:
    """Write the page and the figures of a finished run again; return the path of the page.

    The pictures are read and classified again, so the run's data must be there, unchanged.

    Raises:
        MissingInputError: no such run, one that has not ended, or its data is gone.
        DataError: its data changed, or its files are damaged.
        LockedError: another process is writing it.
    """
    from nunbit.reporting.page import write_report
    from nunbit.reporting.reopen import reopened

    with reopened(path_of(run, "run"), Display(quiet=quiet)) as finished:
        return write_report(finished)


def doctor(
    data: str | Path,
    *,
    out: str | Path | None = None,
    features: str = "auto",
    sample: int | None = None,
    quiet: bool = False,
) -> "Diagnosis":
    """Find what is wrong with pictures and labels; write a page and a table of proposals.

    Args:
        data: a known name, folder, .csv or parquet; nothing of it is changed.
        out: a new or empty folder; by default the next free one under ./doctor.
        features: by what labels are judged: auto, pretrained, basic or none.
        sample: pictures whose labels and cues are judged, 0 for all; by default 6,000.
        quiet: print nothing.

    Raises:
        NunbitError: no such data, data that cannot be opened, or a folder that holds something.
    """
    from nunbit.diagnosis.doctor import SAMPLE, diagnose
    from nunbit.diagnosis.features import choose_features
    from nunbit.reporting.diagnosis import report_folder, write_diagnosis

    display, spec = Display(quiet=quiet), str(data)
    choice, count = choose_features(features), SAMPLE if sample is None else sample
    if count < 0:
        raise UsageError("sample is {count}; allowed: 0 (all pictures) or more", count=count)
    source = open_source(spec, display.track)
    folder = report_folder(spec, None if out is None else Path(out))
    runtime = choose_runtime(TrainConfig())
    diagnosis = diagnose(source, choice, count, runtime, display.track)
    return write_diagnosis(diagnosis, folder, is_asked=out is not None)


def load(run: str | Path) -> Classifier:
    """Load a classifier from a run folder or a model file."""
    return load_classifier(run)


def predict(
    run: str | Path, pictures: Picture | Sequence[Picture], top: int = 5
) -> list[Prediction]:
    """Classify pictures; names of folders stand for the pictures in them.

    See `Classifier.predict`, and `predict_each` for many and for those that come one by one.
    """
    given = [pictures] if isinstance(pictures, Picture) else pictures
    return load_classifier(run).predict(find_pictures(given), top)


def evaluate(
    run: str | Path, data: str | Path | None = None, *, skip_bad: bool = False, quiet: bool = False
) -> Metrics:
    """Measure a model on labelled data, or on the test split that its training held out.

    See `Classifier.evaluate`. With `skip_bad` pictures that cannot be read are named and left out;
    of a run folder, pictures of other data that the model was trained on are counted in a line.
    """
    display = Display(quiet=quiet)
    on_skip = partial(say_left_out, display) if skip_bad else None
    on_other = partial(say_known, run, display.say)
    classifier = load_classifier(run)
    return classifier.evaluate(data, track=display.track, on_skip=on_skip, on_other=on_other)


def explain(
    run: str | Path,
    images: Picture | Sequence[Picture] = (),
    out: str | Path | None = None,
    *,
    quiet: bool = False,
    **options: Setting,
) -> "Explanation":
    """Show what a trained network sees in pictures, how a network is built, or a lesson.

    Args:
        run: a run folder, a model file, the name of a network, or a lesson as basics/convolution.
        images: one or several pictures or folders; only with a run or basics/convolution.
        out: a new or empty folder; by default the next free one beside the run, or here.
        quiet: print nothing.
        options: `layer` for Grad-CAM in a run; `classes`, `size`, `channels`, `model__width=32` of
            a network.

    Raises:
        NunbitError: no such run or network, unreadable pictures, options that do not apply, or a
            folder that holds something.
    """
    from nunbit.explaining.subject import DIRECT, Options, explain_subject

    given = [images] if isinstance(images, Picture) else list(images)
    direct = {name: value for name, value in options.items() if name in DIRECT}
    rest = {name: value for name, value in options.items() if name not in DIRECT}
    folder, chosen = None if out is None else Path(out), Options.read(direct | gathered(rest))
    return explain_subject(run, given, folder, chosen, Display(quiet=quiet))
