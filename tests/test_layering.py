"""The structure that the design promises, read from the sources."""

import ast
from pathlib import Path

import pytest

import nunbit

ROOT = Path(nunbit.__file__).parent
# A module imports from its own or an earlier group only.
GROUPS = (
    ("language", "pages"),
    (
        "errors",
        "values",
        "sections",
        "config",
        "cgroups",
        "runtime",
        "storage",
        "places",
        "recipes",
        "lock",
        "signals",
    ),
    ("liveline", "progress", "streams"),
    ("data",),
    ("models",),
    ("metrics", "evaluation", "features", "outliers", "decision", "prediction"),
    ("training", "checkpoint"),
    ("bundle", "modelfile"),
    ("start", "headstart", "reading", "planning", "warmstart", "zoo", "legacy"),
    (
        "conclusion",
        "run",
        "runlines",
        "running",
        "runclaim",
        "runfolder",
        "finished",
        "events",
        "unseen",
    ),
    ("comparison", "explaining", "finetuning", "diagnosis", "tuning", "exporting", "serving"),
    ("asked", "lrfind"),
    ("reporting",),
    ("api", "networks", "previewing"),
    ("cli", "__main__", "__init__"),
)
RANK = {name: rank for rank, group in enumerate(GROUPS) for name in group}
UNPICKLER = ROOT / "legacy" / "child.py"  # a process of its own, with limits
FILES = sorted(ROOT.rglob("*.py"))
LONGEST_FILE, LONGEST_FUNCTION = 350, 50


def top_name(path: Path) -> str:
    """Return the part of the package that a file belongs to."""
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imported(tree: ast.AST) -> set[str]:
    """Return the nunbit parts that a file imports when it is imported or used."""
    names = [n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.module]
    names += [a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names]
    return {name.split(".")[1] for name in names if name.startswith("nunbit.")}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_module_imports_only_from_its_own_or_an_earlier_group(path: Path) -> None:
    own = top_name(path)
    for name in imported(ast.parse(path.read_text())):
        assert RANK[name] <= RANK[own], f"{own} imports {name}, which comes after it"


def test_backward_is_called_in_one_place_only() -> None:
    callers = [p.name for p in FILES if ".backward(" in p.read_text()]
    assert callers == ["step.py"]


def test_no_source_calls_forward_or_runs_foreign_code() -> None:
    forbidden = {"forward", "extractall", "exec"}
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                name = getattr(node.func, "attr", getattr(node.func, "id", ""))
                assert name not in forbidden, f"{path.name} calls {name}()"
                is_foreign = ast.unparse(node.func) == "torch.load" and path != UNPICKLER
                assert not is_foreign, f"{path.name} calls torch.load"


def test_files_and_functions_stay_short() -> None:
    for path in FILES:
        text = path.read_text()
        assert text.count("\n") <= LONGEST_FILE, f"{path.name} is too long to read at once"
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                lines = (node.end_lineno or 0) - node.lineno + 1
                limit = 80 if node.name in ("fit", "train") else LONGEST_FUNCTION
                assert lines <= limit, f"{path.name}: {node.name} has {lines} lines"
