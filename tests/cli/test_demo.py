from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from llmrec.catalog import Catalog
from llmrec.cli.demonstration import Demonstration, run_demonstration

Run = Callable[..., CompletedProcess[str]]
Document = Callable[[CompletedProcess[str]], dict[str, Any]]


@pytest.fixture(scope="module")
def demonstration(smollm2_folder: Path, minilm_folder: Path) -> Demonstration:
    """The demo's work, done once; every test here prints it."""
    return run_demonstration("u19", None)


@pytest.fixture(autouse=True)
def _done_once(monkeypatch: pytest.MonkeyPatch, demonstration: Demonstration) -> None:
    def done(user_id: str, model: str | None) -> Demonstration:
        assert (user_id, model) == ("u19", None)
        return demonstration

    monkeypatch.setattr("llmrec.cli.demonstration.run_demonstration", done)


def test_before_and_after_stand_side_by_side(run: Run, demonstration: Demonstration) -> None:
    for columns in (80, 120):
        ended = run("demo", columns=columns)
        assert ended.returncode == 0
        lines = ended.stdout.splitlines()
        assert max(map(len, lines)) <= columns
        rows = [line for line in lines if line.split()[:1] and line.split()[0].isdigit()]
        items = demonstration.after.items
        for old, new, row in zip(
            demonstration.before.items, demonstration.after.ranking.items, rows, strict=False
        ):
            assert items[old.item_id].title[:12] in row
            assert items[new.item_id].title[:12] in row
        assert len(rows) == 10
        assert "llmrec index DATA --out INDEX" in ended.stdout
        assert "whole prompts" in ended.stdout
    assert "popularity" in ended.stdout


def test_the_document(
    run: Run, document: Document, demonstration: Demonstration, sample: Catalog
) -> None:
    found = document(run("demo", "-k", 5, "--json"))
    assert len(found["before"]) == len(found["after"]) == 5
    assert [row["rank"] for row in found["after"]] == [1, 2, 3, 4, 5]
    assert {row["status"] for row in found["before"]} == {"not_asked"}
    assert {row["status"] for row in found["after"]} == {"scored"}
    assert "likelihood" in found["after"][0]["signals"]
    assert [each["item_id"] for each in found["explanations"]] == [
        row["item_id"] for row in found["after"][:3]
    ]
    assert found["usage"]["tokens_forwarded"] < found["usage"]["tokens_given"]
    assert found["seconds"]["reranking"] > 0
    assert found["history"][-1] == sample.items[sample.user("u19").history[-1].item_id].title
    assert found["notes"] == []


def test_the_language_model_changes_the_order(demonstration: Demonstration) -> None:
    before, after = demonstration.before, demonstration.after.ranking
    assert sorted(before.item_ids) == sorted(after.item_ids)
    assert before.item_ids != after.item_ids
