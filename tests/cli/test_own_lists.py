"""``llmrec rerank`` and ``explain`` without an index: requests that bring their own items."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.calls import Document, Run, said

LINES = [
    {"user_id": "a", "history": ["Alien", "Aliens"], "candidates": ["Heat", {"title": "Dune"}]},
    {"history": [{"title": "Heat", "rating": 5}], "candidates": ["Alien"], "query": "a quiet film"},
]


@pytest.fixture
def requests(tmp_path: Path) -> Path:
    path = tmp_path / "requests.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in LINES))
    return path


def test_requests_bring_their_own_items(
    run: Run, document: Document, requests: Path, smollm2_folder: Path, tmp_path: Path
) -> None:
    words = ("rerank", "--requests", requests, "--model", smollm2_folder)
    ended = run(*words, "--out", tmp_path / "out.jsonl", "--json")
    assert ended.returncode == 0, ended.stderr
    assert document(ended)["outcome"]["reranked"] == 2
    first, _ = map(json.loads, (tmp_path / "out.jsonl").read_text().splitlines())
    assert {row["title"] for row in first["items"]} == {"Heat", "Dune"}
    again = document(run(*words, "--out", tmp_path / "out.jsonl", "--json"))
    assert again["outcome"]["resumed"] == 2


def test_requests_of_a_table_of_items_as_csv(
    run: Run, smollm2_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "items.jsonl").write_text(
        '{"item_id": "1", "title": "Heat"}\n{"item_id": "2", "title": "Dune"}\n'
    )
    (tmp_path / "r.csv").write_text("user_id,item_id,history\na,1,2\na,2,2\n")
    files = ("--requests", tmp_path / "r.csv", "--out", tmp_path / "o.csv")
    items = ("--items", tmp_path / "items.jsonl")
    ended = run("rerank", *files, *items, "--model", smollm2_folder)
    assert ended.returncode == 0, ended.stderr
    header, *rows = (tmp_path / "o.csv").read_text().splitlines()
    assert header == "user_id,item_id,history,score,rank,error"
    assert sorted(row.split(",")[4] for row in rows) == ["1", "2"]


def test_explain_from_requests(
    run: Run, document: Document, requests: Path, smollm2_folder: Path
) -> None:
    words = ("explain", "--requests", requests, "--model", smollm2_folder)
    found = document(run(*words, "--json"))
    assert [each["title"] for each in found["explanations"]] == ["Heat", "Dune", "Alien"]
    assert all(each["explanation"]["text"] for each in found["explanations"])


@pytest.mark.parametrize(
    "words",
    [
        ("rerank", "--candidates", "a"),
        ("rerank", "--user", "a", "--candidates", "a"),
        ("rerank", "INDEX", "--requests", "r", "--out", "o", "--items", "i"),
        ("explain", "--user", "a", "--item", "b"),
        ("explain",),
    ],
    ids=" ".join,
)
def test_words_that_name_no_candidates(run: Run, words: tuple[str, ...]) -> None:
    ended = run(*words)
    assert ended.returncode == 2
    assert "either" in said(ended)


def test_a_broken_request_is_named(run: Run, tmp_path: Path) -> None:
    (tmp_path / "r.jsonl").write_text('{"candidates": ["a"]}\n{"candidates": [7.5]}\n')
    ended = run("explain", "--requests", tmp_path / "r.jsonl")
    assert ended.returncode == 1
    assert "Request 2: candidates[0]" in said(ended)
    (tmp_path / "r.jsonl").write_text('{"candidates": [7.5]}\n{"candidates": ["a"]}\n{\n')
    ended = run("explain", "--requests", tmp_path / "r.jsonl")
    assert ended.returncode == 1
    assert "2 of 3 requests are invalid: Request 1: candidates[0]" in said(ended)
    assert "Request 3: The request is not valid JSON" in said(ended)
