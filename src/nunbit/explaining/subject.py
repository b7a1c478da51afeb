"""What the first word of `nunbit explain` means: a lesson, a run, or a network."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from nunbit.bundle import MODEL_FILE
from nunbit.data.decode import BadPictureError, quiet_pillow
from nunbit.data.given import Picture, find_pictures, open_picture
from nunbit.data.pictures import Pixels, Skipped, printable
from nunbit.data.preprocess import Preprocess
from nunbit.errors import DataError, MissingInputError, UsageError, did_you_mean
from nunbit.explaining.convolution import draw_convolution
from nunbit.explaining.explanation import Drawn, Explanation, write
from nunbit.explaining.network import draw_architecture
from nunbit.explaining.parameters import draw_linear
from nunbit.explaining.pictures import MAX_MEASURED, draw_pictures
from nunbit.language import tr
from nunbit.modelfile import load_classifier
from nunbit.models.alone import build_alone
from nunbit.models.registry import list_models
from nunbit.places import free_folder
from nunbit.progress import Display
from nunbit.reading import say_left_out
from nunbit.recipes import LESSONS
from nunbit.values import Setting, path_of, typed

DIRECT = ("layer", "classes")  # options that are no settings


@dataclass(frozen=True)
class Options:
    """How to explain; what does not apply to the subject is an error."""

    layer: str | None = None
    """The module for Grad-CAM; runs only."""
    classes: int | None = None
    """Outputs of a network without a run."""
    settings: Mapping[str, Setting] = field(default_factory=dict)
    """`data.size`, `data.channels` and `model.OPTION` of a network without a run."""

    @classmethod
    def read(cls, given: Mapping[str, Setting]) -> Self:
        """Return options given by name; what is neither layer nor classes is a setting."""
        settings = {name: value for name, value in given.items() if name not in DIRECT}
        layer, classes = given.get("layer"), given.get("classes")
        return cls(
            layer=None if layer is None else str(layer),
            classes=None if classes is None else typed(int, "classes", classes),
            settings=settings,
        )

    def refuse(self, subject: str, *names: str) -> None:
        """Refuse options that do not apply.

        Raises:
            UsageError: naming the first of them.
        """
        given = {"layer": self.layer, "classes": self.classes, "settings": self.settings or None}
        for name in names:
            if given[name] is not None:
                option = f"--{next(iter(self.settings))}" if name == "settings" else f"--{name}"
                raise UsageError(
                    "{option} does not apply to {subject}", option=option, subject=subject
                )


def explain_subject(
    what: str | Path,
    images: Sequence[Picture],
    out: Path | None,
    options: Options,
    display: Display,
) -> Explanation:
    """Explain a lesson, a run with or without pictures, or a network by its name.

    See `nunbit.api.explain`, which calls this.
    """
    name, path = str(what), path_of(what, "run")
    known = {*LESSONS, *list_models()}
    if name in LESSONS:
        default, draw = Path(f"explain-{name.replace('/', '-')}"), _lesson
    elif _is_run(path):
        beside = path if path.name not in ("", "..") else path.resolve()
        stem = path.stem if path.is_file() else beside.name  # a folder's dots are its name's
        default, draw = beside.with_name(f"{stem}-explained"), _run
    elif name in known or ":" in name:
        default, draw = Path(f"explain-{name.replace(':', '-')}"), _network
    elif path.exists():
        default, draw = Path("explain"), _run  # loading it says what is wrong with it
    else:
        near = did_you_mean(name, known)
        raise MissingInputError(
            "no run, model file, network or lesson '{name}'; {near}", name=name, near=near
        )
    folder = free_folder(out, default)  # refused before the work, created after it
    return write(draw(name, images, options, display), folder, is_asked=out is not None)


def _is_run(path: Path) -> bool:
    return path.is_file() or (path / MODEL_FILE).exists()


def _run(name: str, images: Sequence[Picture], options: Options, display: Display) -> Drawn:
    options.refuse(tr("a run, which knows its network"), "classes", "settings")
    classifier = load_classifier(name)
    named, count = _read(images, classifier.preprocess, display)
    title = Path(name).resolve().name
    return draw_pictures(classifier, named, count, title, options.layer, display.track)


def _read(
    images: Sequence[Picture], preprocess: Preprocess, display: Display
) -> tuple[list[tuple[str, Pixels]], int]:
    """Return the first pictures with their names, and how many there are.

    What lies in a folder and cannot be read is said and passed over.

    Raises:
        DataError: one that was named itself cannot be read, or of a folder none.
    """
    given, mode, near_side = _named(images), preprocess.mode, preprocess.near_side
    named: list[tuple[str, Pixels]] = []
    faults: list[Skipped] = []
    with quiet_pillow():
        for name, picture, is_asked in given:
            if len(named) == MAX_MEASURED:
                break
            try:
                image = open_picture(picture, mode, near_side)
                named.append((name, preprocess.to_pixels(image)))
            except BadPictureError as error:
                if is_asked:
                    raise _unreadable(name, error) from error
                faults.append(Skipped(name, str(error)))
    if faults and not named:
        first = faults[0]
        raise DataError(
            "no picture can be read; {name}: {reason}", name=first.name, reason=first.reason
        )
    for fault in faults:
        say_left_out(display, fault)
    return named, len(given) - len(faults)


def _network(name: str, images: Sequence[Picture], options: Options, display: Display) -> Drawn:
    del display
    options.refuse(tr("a network without a run"), "layer")
    if images:
        raise UsageError(
            "'{name}' is a network without trained weights; train it (nunbit train "
            "--model {name}), then: nunbit explain RUN IMAGE...",
            name=name,
        )
    classes = 2 if options.classes is None else options.classes
    model, channels, side = build_alone(name, classes, options.settings, "explain")
    return draw_architecture(name, model, channels, (side, side))


def _lesson(name: str, images: Sequence[Picture], options: Options, display: Display) -> Drawn:
    del display
    options.refuse(tr("a lesson"), "layer", "classes", "settings")
    if name == "basics/linear":
        if images:
            raise UsageError("{name} takes {what}", name=name, what=tr("no pictures"))
        return draw_linear()
    given = _named(images)
    if len(given) > 1:
        raise UsageError("{name} takes {what}", name=name, what=tr("one picture"))
    if not given:
        return draw_convolution(None, None)
    found, picture, _ = given[0]
    try:
        with quiet_pillow():
            return draw_convolution(open_picture(picture, "RGB"), found)
    except BadPictureError as error:
        raise _unreadable(found, error) from error


def _named(images: Sequence[Picture]) -> list[tuple[str, Picture, bool]]:
    """Return pictures with names for the page, and whether each was asked for by itself.

    Folders stand for the pictures in them.
    """
    found = [
        (picture, not (isinstance(one, str | Path) and Path(one).is_dir()))
        for one in images
        for picture in find_pictures([one])
    ]
    return [
        (
            printable(str(picture)) if isinstance(picture, str | Path) else f"picture {n}",
            picture,
            is_asked,
        )
        for n, (picture, is_asked) in enumerate(found, 1)
    ]


def _unreadable(name: str, error: BadPictureError) -> DataError:
    return DataError("{name} cannot be read: {error}", name=name, error=error)
