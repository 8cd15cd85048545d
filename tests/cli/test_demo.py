from __future__ import annotations

import pytest

from llmrec.catalog import Catalog
from tests.cli.calls import Document, Run


@pytest.mark.usefixtures("smollm2_folder", "minilm_folder")
def test_before_and_after_are_shown_side_by_side(run: Run) -> None:
    ended = run("demo", columns=80)
    assert ended.returncode == 0
    lines = ended.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    rows = [line for line in lines if line.split()[:1] and line.split()[0].isdigit()]
    assert len(rows) == 10
    assert "retrieved" in ended.stdout
    assert "reranked" in ended.stdout
    assert "llmrec index DATA --out INDEX" in ended.stdout
    assert "whole prompts" in ended.stdout


@pytest.mark.usefixtures("smollm2_folder", "minilm_folder")
def test_the_document(run: Run, document: Document, sample: Catalog) -> None:
    found = document(run("demo", "-k", 5, "--json"))
    assert len(found["before"]) == len(found["after"]) == 5
    assert [row["rank"] for row in found["after"]] == [1, 2, 3, 4, 5]
    assert {row["status"] for row in found["before"]} == {"not_asked"}
    assert {row["status"] for row in found["after"]} == {"scored"}
    before, after = ([row["item_id"] for row in found[name]] for name in ("before", "after"))
    assert before != after
    assert "likelihood" in found["after"][0]["signals"]
    assert [each["item_id"] for each in found["explanations"]] == after[:3]
    assert found["usage"]["tokens_forwarded"] < found["usage"]["tokens_given"]
    assert found["seconds"] > 0
    assert found["history"][-1] == sample.items[sample.user("u19").history[-1].item_id].title
    assert found["notes"] == []
