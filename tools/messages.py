"""Bring the catalogues up to date with the sources: `make messages`.

Texts are the first arguments of `tr`, `trn`, `mark` and of nunbit's errors, those of the templates,
and the docstrings of commands and of the lesson about convolutions. New ones get an empty
translation, which tests/test_language.py refuses; texts that are gone are dropped.
"""

import ast
import inspect
import io
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_dir
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po, write_po

DATE = datetime(2026, 1, 1, tzinfo=UTC)  # a constant, so that equal texts make equal files
ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src/nunbit"
METHODS = [("**.py", "python"), ("**/templates/*.html", "jinja2.ext:babel_extract")]
OPTIONS = {"**/templates/*.html": {"trimmed": "true", "newstyle_gettext": "true"}}
KEYWORDS = {"tr": None, "trn": (1, 2), "mark": None, "_": None, "gettext": None, "ngettext": (1, 2)}
DOCUMENTED = ("cli/*.py", "explaining/convolution.py")  # files whose docstrings are shown


def catalogue_path(code: str) -> Path:
    """Return the path of a language's catalogue."""
    return PACKAGE / "locale" / code / "LC_MESSAGES" / "nunbit.po"


def texts() -> Iterator[tuple[str, str | tuple[str, str]]]:
    """Yield (file, text or its two forms) of everything that can be translated."""
    keywords = KEYWORDS | dict.fromkeys(error_names())
    found = extract_from_dir(PACKAGE, METHODS, OPTIONS, keywords, directory_filter=lambda _: True)
    for file, _line, text, _comments, _context in found:
        yield file, text
    for path in [path for pattern in DOCUMENTED for path in sorted(PACKAGE.glob(pattern))]:
        yield from ((str(path.relative_to(PACKAGE)), text) for text in docstrings(path))


def error_names() -> set[str]:
    """Return the names of the package's own errors."""
    sources = "".join(path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py"))
    return set(re.findall(r"^class (\w+Error)\(", sources, re.MULTILINE))


def docstrings(path: Path) -> Iterator[str]:
    """Yield the docstrings that are shown: of a file's commands, and of the steps of a lesson."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef) and (node.decorator_list or is_step(node)):
            yield inspect.cleandoc(ast.get_docstring(node, clean=False) or "")


def is_step(function: ast.FunctionDef) -> bool:
    """Return whether a function is a step of a lesson: public, from one tensor to another."""
    types = [ast.unparse(a.annotation) for a in function.args.args if a.annotation]
    returned = ast.unparse(function.returns) if function.returns else ""
    return not function.name.startswith("_") and types == [returned] == ["Tensor"]


def updated(catalogue: Catalog) -> Catalog:
    """Return a catalogue of today's texts with the translations that are known."""
    made = Catalog(catalogue.locale, project="nunbit", fuzzy=False, header_comment="# nunbit")
    made.creation_date = made.revision_date = DATE
    for file, text in texts():
        known = catalogue.get(text if isinstance(text, str) else text[0])
        made.add(text, known.string if known else "", locations=[(file, None)])
    return made


def as_po(catalogue: Catalog) -> bytes:
    """Return the text of a catalogue, in a stable order."""
    stream = io.BytesIO()
    write_po(stream, catalogue, width=100, sort_by_file=True, omit_header=False)
    return stream.getvalue()


def as_mo(catalogue: Catalog) -> bytes:
    """Return what gettext reads."""
    stream = io.BytesIO()
    write_mo(stream, catalogue)
    return stream.getvalue()


def main() -> None:
    """Update and compile every catalogue; say what is left to translate."""
    for path in sorted((PACKAGE / "locale").glob("*/LC_MESSAGES/nunbit.po")):
        with path.open("rb") as file:
            catalogue = updated(read_po(file, locale=path.parents[1].name))
        path.write_bytes(as_po(catalogue))
        path.with_suffix(".mo").write_bytes(as_mo(catalogue))
        empty = [message.id for message in catalogue if message.id and not is_whole(message.string)]
        print(f"{path.relative_to(ROOT)}: {len(catalogue)} texts, {len(empty)} to translate")


def is_whole(translation: str | tuple[str, ...]) -> bool:
    """Return whether every form of a translation is there."""
    return bool(translation) if isinstance(translation, str) else all(translation)


if __name__ == "__main__":
    main()
