"""What an explanation is: files in a folder of its own, one of them a page that holds all."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nunbit.pages.environment import page_environment
from nunbit.places import claim_folder
from nunbit.storage import atomic_write

PAGE = "explanation.html"


@dataclass
class Drawn:
    """What was drawn, before anything is written."""

    files: dict[str, bytes] = field(default_factory=dict)
    """Contents by file name, in the order in which they are to be listed."""
    facts: dict[str, Any] = field(default_factory=dict)
    """For JSON."""
    lines: list[str] = field(default_factory=list)
    """For a person who reads a terminal."""

    def add_page(self, template: str, **values: Any) -> None:
        """Fill a template with values and with the files so far, and add it as the first file."""
        environment = page_environment("nunbit.explaining")
        uris = {name: _uri(data) for name, data in self.files.items() if name.endswith(".png")}
        page = environment.get_template(template).render(pictures=uris, **values)
        self.files = {PAGE: page.encode(), **self.files}


@dataclass(frozen=True)
class Explanation:
    """What `nunbit explain` wrote."""

    folder: Path
    files: tuple[Path, ...]
    """The page first."""
    facts: Mapping[str, Any]
    lines: tuple[str, ...]

    @property
    def page(self) -> Path:
        """The page to open: one file, which needs none of the others."""
        return self.files[0]

    def to_dict(self) -> dict[str, Any]:
        """Return the fields for JSON."""
        files = [str(path) for path in self.files]
        return {"folder": str(self.folder), "page": files[0], "files": files, **self.facts}


def write(drawn: Drawn, folder: Path, *, is_asked: bool) -> Explanation:
    """Create the folder and write the files into it.

    Raises:
        CannotCreateError: the folder cannot be created.
        StorageError: the files cannot be written.
    """
    folder = claim_folder(folder, is_asked=is_asked)
    for name, data in drawn.files.items():
        atomic_write(folder / name, data)
    files = tuple(folder / name for name in drawn.files)
    return Explanation(folder, files, drawn.facts, tuple(drawn.lines))


def _uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()
