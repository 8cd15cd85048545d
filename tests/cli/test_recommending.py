"""``index``, ``recommend``, ``rerank``, ``explain`` and ``fit`` on the sample, with real models."""

from __future__ import annotations

from pathlib import Path
from subprocess import CompletedProcess

import pytest

from llmrec.catalog import Catalog, sample_folder
from llmrec.retrieval import Index
from tests.cli.calls import COLD, Document, Run, said


def _width(ended: CompletedProcess[str]) -> int:
    return max(map(len, ended.stdout.splitlines()))


def test_index_prints_a_summary(
    run: Run, document: Document, sample: Catalog, minilm_folder: Path, tmp_path: Path
) -> None:
    ended = run("index", sample_folder(), "--out", tmp_path / "index", "--json")
    found = document(ended)
    assert ended.returncode == 0
    assert (found["items"], found["interactions"]) == (80, len(sample.interactions))
    assert found["fingerprint"] == sample.fingerprint
    assert found["left_out"] == []
    assert Index.open(tmp_path / "index").encoder == found["encoder"]
    again = run("index", sample_folder(), "--out", tmp_path / "index", columns=80)
    assert "Next" in again.stdout
    assert _width(again) <= 80


def test_index_refuses_broken_rows_or_leaves_them_out(
    run: Run, document: Document, minilm_folder: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "items.csv").write_text("item_id,title\na,Alien\nb,Brazil\na,Again\n")
    refused = run("index", data, "--out", tmp_path / "index")
    assert refused.returncode == 1
    assert "--skip-broken" in refused.stderr
    assert not (tmp_path / "index").exists()
    ended = run("index", data, "--out", tmp_path / "index", "--skip-broken", "--json")
    assert ended.returncode == 0
    assert [problem["row"] for problem in document(ended)["left_out"]] == [3]


def test_index_does_not_write_into_another_kind_of_folder(
    run: Run, minilm_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "letter.txt").write_text("Dear all")
    ended = run("index", sample_folder(), "--out", tmp_path)
    assert ended.returncode == 1
    assert "neither empty nor an index" in " ".join(ended.stderr.split())
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_recommend_without_a_model(run: Run, document: Document, plain_index: Path) -> None:
    words = ("recommend", plain_index, "--user", "u01", "--no-llm", "-k", 4)
    found = document(run(*words, "--json"))
    assert [row["rank"] for row in found["items"]] == [1, 2, 3, 4]
    assert {row["status"] for row in found["items"]} == {"not_asked"}
    assert all(row["title"] for row in found["items"])
    assert found["candidates"] > 4
    assert found["model"] is None
    assert found["explanations"] == []
    for columns in (80, 120):
        shown = run(*words, columns=columns)
        assert _width(shown) <= columns
        assert found["items"][0]["title"][:20] in shown.stdout
    unexplained = run(*words, "--text", "template")
    assert unexplained.returncode == 2
    assert "Give --explain too" in said(unexplained)


def test_recommend_filters_before_it_takes_k(
    run: Run, document: Document, plain_index: Path, sample: Catalog
) -> None:
    words = ("recommend", plain_index, "--user", "u01", "--no-llm", "--json", "-k", 3)
    filters = ("--filter", "price<=40", "--filter", "color=green|grey")
    rows = document(run(*words, "--n-candidates", 3, *filters))["items"]
    assert len(rows) == 3
    for row in rows:
        attributes = sample.items[row["item_id"]].attributes
        assert float(str(attributes["price"])) <= 40
        assert attributes["color"] in {"green", "grey"}


def test_recommend_where_no_item_is_left_says_so(
    run: Run, document: Document, plain_index: Path
) -> None:
    ended = run("recommend", plain_index, "--user", "u01", "--filter", "price<=0", "--json")
    assert ended.returncode == 0
    assert document(ended)["items"] == []
    assert "No item is left" in document(ended)["notes"][0]
    assert (
        "No item is left"
        in run("recommend", plain_index, "--user", "u01", "--filter", "price<=0").stdout
    )


def test_seen_items_come_back_where_asked(
    run: Run, document: Document, plain_index: Path, sample: Catalog
) -> None:
    seen = {row.item_id for row in sample.user("u01").history}
    words = ("recommend", plain_index, "--user", "u01", "--no-llm", "--json", "-k", 80)
    without = {row["item_id"] for row in document(run(*words))["items"]}
    assert without.isdisjoint(seen)
    every = {row["item_id"] for row in document(run(*words, "--include-seen"))["items"]}
    assert every == set(sample.items)


def test_a_user_without_history_is_served_by_popularity_where_the_encoder_is_gone(
    run: Run, document: Document, plain_index: Path
) -> None:
    ended = run("recommend", plain_index, "--user", COLD, "--no-llm", "--json")
    found = document(ended)
    assert ended.returncode == 0
    assert found["fallbacks"] == {"cold_start": 1}
    assert found["notes"] == [
        f"User {COLD} has no history, and the profile cannot be read: ranked by popularity."
    ]
    popularity = [row["signals"]["popularity"] for row in found["items"]]
    assert popularity == sorted(popularity, reverse=True)


def test_a_user_without_history_is_served_by_the_profile(
    run: Run, document: Document, sample_index: Path
) -> None:
    found = document(run("recommend", sample_index, "--user", COLD, "--no-llm", "--json"))
    assert found["notes"] == [f"User {COLD} has no history: ranked by the profile and popularity."]
    assert len({row["signals"]["content"] for row in found["items"]}) > 1


def test_recommend_reranks_and_explains(
    run: Run, document: Document, sample_index: Path, smollm2_folder: Path, sample: Catalog
) -> None:
    words = ("recommend", sample_index, "--user", "u19", "--model", smollm2_folder)
    ended = run(*words, "-k", 1, "--n-candidates", 10, "--explain", "--json")
    found = document(ended)
    assert ended.returncode == 0
    assert found["candidates"] == 10
    assert found["items"][0]["signals"].keys() == {
        "content",
        "co_occurrence",
        "popularity",
        "retrieval",
        "likelihood",
    }
    assert found["items"][0]["status"] == "scored"
    assert found["usage"]["tokens_forwarded"] < found["usage"]["tokens_given"]
    assert found["model"]["dtype"] == "float32"
    assert found["fitted"] is False
    (explanation,) = found["explanations"]
    assert explanation["item_id"] == found["items"][0]["item_id"]
    assert explanation["text"]
    assert explanation["source"] == "statements"
    for columns in (80, 120):
        shown = run(*words, "--n-candidates", 10, "--strategy", "pointwise", columns=columns)
        assert shown.returncode == 0
        assert _width(shown) <= columns
        assert "pointwise" in shown.stdout
        assert "whole prompts" in shown.stdout


def test_several_strategies_are_fused_and_their_options_hold(
    run: Run, document: Document, sample_index: Path, smollm2_folder: Path
) -> None:
    asked = ("recommend", sample_index, "--user", "u01", "--n-candidates", 10, "-k", 10)
    words = (*asked, "--model", smollm2_folder, "--json")
    both = document(
        run(
            *(*words, "--strategy", "listwise", "--strategy", "likelihood"),
            *("--template", "likelihood/list", "--calibrate", "--shuffles", 2),
        )
    )
    assert {"listwise", "likelihood"} <= both["items"][0]["signals"].keys()
    assert both["weights"] == {"retrieval": 1.0, "listwise": 0.2, "likelihood": 0.2}
    assert sorted(item["rank"] for item in both["items"]) == list(range(1, 11))
    # Two orders, each with its blank list; ten titles and their priors know no order.
    assert both["usage"]["prompts"] == 2 * 2 + 2 * 10
    alone = document(run(*words, "--strategy", "listwise", "--calibrate", "--shuffles", 2))
    listwise = {item["item_id"]: item["signals"]["listwise"] for item in both["items"]}
    assert {i["item_id"]: i["signals"]["listwise"] for i in alone["items"]} == listwise


@pytest.mark.parametrize(
    ("candidates", "order"), [("k01", 1), (" o29, k01 ,o28,", 3)], ids=["one", "three"]
)
def test_rerank_keeps_every_candidate(
    run: Run,
    document: Document,
    sample_index: Path,
    smollm2_folder: Path,
    candidates: str,
    order: int,
) -> None:
    words = ("rerank", sample_index, "--user", "u19", "--candidates", candidates)
    found = document(run(*words, "--model", smollm2_folder, "--json"))
    given = {item_id.strip() for item_id in candidates.split(",")} - {""}
    assert {row["item_id"] for row in found["items"]} == given
    assert [row["rank"] for row in found["items"]] == list(range(1, order + 1))
    seen = ["Already in the user's history: o28."] if "o28" in given else []
    assert found["notes"] == seen


def test_explain_shows_the_evidence(
    run: Run, document: Document, sample_index: Path, smollm2_folder: Path, sample: Catalog
) -> None:
    words: tuple[object, ...] = ("explain", sample_index, "--user", "u19", "--item", "o29")
    words += ("--text", "written")
    words = (*words, "--model", smollm2_folder)
    shown = run(*words, columns=80)
    assert shown.returncode == 0
    assert _width(shown) <= 80
    assert sample.items["o29"].title in shown.stdout
    assert "what it says" in shown.stdout
    found = document(run(*words, "--json"))
    (explained,) = found["explanations"]
    assert explained["title"] == sample.items["o29"].title
    assert explained["explanation"]["evidence"]


def test_a_card_needs_no_model(
    run: Run, document: Document, sample_index: Path, sample: Catalog, tmp_path: Path
) -> None:
    words = ("explain", sample_index, "--user", "u19", "--item", "o03,k05")
    found = document(run(*words, "--html", tmp_path / "cards.html", "--json"))
    assert found["model"] is None
    page = (tmp_path / "cards.html").read_text()
    assert page.count("<article") == page.count("data:image/jpeg;base64,") == 2
    for each in found["explanations"]:
        explanation = each["explanation"]
        assert explanation["source"] == "statements"
        assert all(claim["units"] for claim in explanation["claims"])
        for span in explanation["spans"]:
            assert explanation["item_text"][span["start"] : span["end"]]
    assert "statements 2" in run(*words).stdout
    requests = tmp_path / "requests.jsonl"
    new = '{"history": [], "candidates": ["o04"]}\n'
    known = '{"user_id": "u19", "candidates": ["o03", {"title": "A new tent"}]}\n'
    requests.write_text(known + 2 * new)
    ended = run("explain", sample_index, "--requests", requests, "--html", tmp_path / "own.html")
    assert ended.returncode == 0, ended.stderr
    page = (tmp_path / "own.html").read_text()
    assert "A new tent" in page
    assert (page.count("<article"), page.count("data:image/jpeg;base64,")) == (4, 3)
    assert ended.stdout.count("has no history") == 1
    ended = run(*words, "--html", tmp_path / "none" / "cards.html")
    assert ended.returncode == 1
    assert "cannot be written" in said(ended)
