"""Data flows one way: a room imports only rooms that stand before it."""

from __future__ import annotations

import ast
from importlib.util import resolve_name
from pathlib import Path

import pytest

import llmrec

PACKAGE = Path(llmrec.__file__).parent
ORDER = (
    "errors", "records", "documents", "metered_jinja", "locks", "content_cache", "resumable",
    "models", "catalog", "evaluation", "items", "retrieval", "prompting", "explaining", "reranking",
    "recommender", "training", "benchmarking", "cli", "__main__",
)  # fmt: skip
MODULES = sorted(set(PACKAGE.rglob("*.py")) - {PACKAGE / "__init__.py"})


def rooms_imported(source: str, package: str) -> set[str]:
    """The rooms that a module of ``package`` imports, wherever in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            module = resolve_name("." * node.level + (node.module or ""), package)
            names.update(f"{module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
    rooms = {name.split(".")[1] for name in names if name.startswith("llmrec.")}
    return {llmrec._WHERE.get(room, room) for room in rooms}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_run_one_way(path: Path) -> None:
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    package = ".".join(path.relative_to(PACKAGE.parent).parent.parts)
    rooms = rooms_imported(path.read_text(), package) - {"__version__"}
    assert not {room for room in rooms if ORDER.index(room) > ORDER.index(own)}


@pytest.mark.parametrize(
    "line",
    [
        "from llmrec.reranking import Reranker",
        "from llmrec.reranking.reranker import Reranker",
        "from llmrec import reranking",
        "from llmrec import Reranker",
        "from ..reranking import Reranker",
        "from .. import reranking",
        "from .. import Reranker",
        "import llmrec.reranking.reranker as x",
        "def f():\n    from llmrec import Reranker",
    ],
)
def test_an_import_counts_however_it_is_written(line: str) -> None:
    assert rooms_imported(line, "llmrec.catalog") == {"reranking"}


def test_a_neighbour_and_other_packages_are_no_other_room() -> None:
    lines = "from . import values\nfrom .values import x\nimport llmrecs.cli, os\nimport llmrec"
    assert rooms_imported(lines, "llmrec.catalog") == {"catalog"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_files_stay_small(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 500
