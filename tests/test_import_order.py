"""Data flows one way: a room imports only rooms that stand before it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import llmrec

PACKAGE = Path(llmrec.__file__).parent
ORDER = (
    "errors", "records", "models", "catalog", "understanding", "embedding", "retrieval",
    "prompting", "language_models", "reranking", "explaining", "evaluation", "cli",
)  # fmt: skip
MODULES = [path for path in sorted(PACKAGE.rglob("*.py")) if path.name != "__init__.py"]


def rooms_imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
        elif isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
    return {name.split(".")[1] for name in names if name.startswith("llmrec.")}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_run_one_way(path: Path) -> None:
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    later = {room for room in rooms_imported(path) if ORDER.index(room) > ORDER.index(own)}
    assert not later


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_rooms_stay_small(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 300
