"""The page of a run: one HTML file that needs nothing else, with the figures inside."""

import base64
import json
import shlex
from importlib.resources import files
from typing import Any

from jinja2 import Environment

from nunbit.finished import Finished
from nunbit.reporting import figures
from nunbit.runtime import versions
from nunbit.storage import atomic_write, make_folder


def write_report(finished: Finished) -> None:
    """Write `figures/*.png` and `report.html` into the run folder.

    Raises:
        StorageError: they cannot be written.
    """
    folder = finished.run_dir / "figures"
    make_folder(folder)
    images = {
        "curves": figures.curves(finished.epochs, finished.kept_epoch),
        "confusion": figures.confusion(finished.test),
        "mistakes": figures.mistakes(
            finished.dataset.test, finished.test_logits, finished.dataset.class_names
        ),
    }
    embedded = {}
    for name, figure in images.items():
        if figure is not None:
            png = figures.to_png(figure)
            atomic_write(folder / f"{name}.png", png)
            embedded[name] = "data:image/png;base64," + base64.b64encode(png).decode()
    page = _template("run.html").render(figures=embedded, **_facts(finished))
    atomic_write(finished.run_dir / "report.html", page.encode())


def _template(name: str) -> Any:
    text = files("nunbit.reporting").joinpath("templates", name).read_text(encoding="utf-8")
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(text)


def _facts(finished: Finished) -> dict[str, Any]:
    """Return what the page says, for the template."""
    result, dataset = finished.to_dict(), finished.dataset
    preprocess = dataset.preprocess
    config_file = finished.run_dir / "config.json"
    return {
        "result": result,
        "config": finished.config,
        "test": finished.test,
        "counts": {
            part: len(pictures)
            for part in ("train", "val", "test")
            if (pictures := getattr(dataset, part)) is not None
        },
        "input": f"{preprocess.width}x{preprocess.height}x{preprocess.channels}",
        "skipped": dataset.skipped,
        "repeat": f"nunbit train --config {shlex.quote(str(config_file))}",
        "machine": f"{finished.runtime.describe()}; {versions()['machine']}",
        "versions": versions(),
        # "<" could end the script element that holds the data
        "data": json.dumps(result, ensure_ascii=False).replace("<", "\\u003c"),
    }
