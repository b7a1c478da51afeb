"""Reading the data of a run, and saying what was left out."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from nunbit.config import RunConfig
from nunbit.data.cache import pixels_folder
from nunbit.data.pictures import Skipped, Track
from nunbit.data.sources import open_source
from nunbit.data.splits import NAMED_FAULTS, Dataset, UnreadableError, open_dataset
from nunbit.errors import UsageError
from nunbit.language import tr, trn
from nunbit.progress import Display
from nunbit.runtime import Runtime
from nunbit.signals import StopRequest
from nunbit.start import preprocess_of

Read = Callable[[RunConfig, Runtime, Display, StopRequest], Dataset]


def stoppable(display: Display, stop: StopRequest) -> Track:
    """Return a tracker that shows progress and raises when a signal has come."""

    def track(items: Iterable[Any], count: int, label: str) -> Iterator[Any]:
        for item in display.track(items, count, label):
            stop.check()
            yield item

    return track


def read_dataset(
    config: RunConfig, runtime: Runtime, display: Display, stop: StopRequest
) -> Dataset:
    """Read the data of a run and say what was left out.

    Raises:
        DataError: data that cannot be used.
        UsageError: patience or a promised error rate without validation pictures.
        StoppedError: a signal came.
    """
    track = stoppable(display, stop)
    source = open_source(config.data.source, track)
    if source.ignored:
        first = source.ignored[0]
        display.say(
            trn(
                "ignored {first}, which is no picture by its name or lies in no class",
                "ignored {count} files that are no pictures by their names or lie in no class: "
                "{first}, ...",
                len(source.ignored),
                first=first,
            )
        )
    try:
        dataset = open_dataset(
            source,
            config.data,
            runtime.threads,
            track,
            preprocess_of(config),
        )
    except UnreadableError as error:
        if len(error.skipped) > NAMED_FAULTS:  # the error's one line cannot name all of them
            for fault in error.skipped:
                display.say(
                    tr("cannot read {name}: {reason}", name=fault.name, reason=fault.reason)
                )
        raise
    _say_what_was_done(dataset, display)
    _require_val(config, dataset)
    return dataset


def _require_val(config: RunConfig, dataset: Dataset) -> None:
    """Refuse settings that need validation pictures where there are none."""
    if config.train.patience and dataset.val is None:
        raise UsageError("train.patience needs validation pictures: set data.val_fraction above 0")
    if config.eval.max_error and dataset.val is None:
        raise UsageError(
            "eval.max_error needs validation pictures: set data.val_fraction above 0, or "
            "eval.max_error to 0 to answer every picture"
        )


def _say_what_was_done(dataset: Dataset, display: Display) -> None:
    """Name what was left out, and what was written outside of the run folder."""
    for fault in dataset.skipped:
        say_left_out(display, fault)
    if dataset.leaks:
        display.say(
            tr(
                "left out {leaks} pictures of training or validation that are held out as well",
                leaks=dataset.leaks,
            )
        )
    if dataset.reading.kept:
        display.say(
            tr(
                "kept {count:,} decoded pictures for the next time, in {folder}",
                count=dataset.reading.kept,
                folder=pixels_folder(),
            )
        )


def say_left_out(display: Display, fault: Skipped) -> None:
    """Name a picture that cannot be read and is left out."""
    display.say(tr("left out {name}: {reason}", name=fault.name, reason=fault.reason))


class OnceReader:
    """Reads a data set once for all runs in a row that share its settings."""

    def __init__(self) -> None:
        self._held: tuple[object, Dataset] | None = None

    def __call__(
        self, config: RunConfig, runtime: Runtime, display: Display, stop: StopRequest
    ) -> Dataset:
        """Return the data of a run; see `read_dataset`."""
        settings = (config.data, preprocess_of(config))  # pretrained weights want it their way
        if self._held is None or self._held[0] != settings:
            self._held = None  # both would not have to fit into memory
            self._held = (settings, read_dataset(config, runtime, display, stop))
        _require_val(config, self._held[1])
        return self._held[1]
