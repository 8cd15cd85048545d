from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from math import isnan
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset

from llmrec.catalog import liked
from llmrec.errors import DataError, LlmrecError, OptionError, UnknownItemError, UnknownUserError
from llmrec.models import TransformersModel
from llmrec.prompting import context_of
from llmrec.records import Candidate, Interaction, Item, User
from llmrec.reranking import Request, Reranker, items_context, make_request, read_request
from llmrec.reranking.request_files import rank_file, read_requests
from llmrec.retrieval import Index
from tests.reranking.conftest import ByteModel

FILMS = ["Heat", "Dune", "Alien"]


def ids(request: Request) -> list[str]:
    return [candidate.item_id for candidate in request.candidates]


@pytest.mark.parametrize(
    "candidates",
    [
        FILMS,
        tuple(FILMS),
        [{"title": title} for title in FILMS],
        [{"id": title, "title": title} for title in FILMS],
        [Item(title, title) for title in FILMS],
        np.array(FILMS),
        pd.Series(FILMS),
        pd.DataFrame({"title": FILMS}),
        pa.table({"title": FILMS}),
        Dataset.from_dict({"title": FILMS}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_candidates_in_every_form_are_the_same_request(candidates: object) -> None:
    request = make_request(candidates, history=candidates)
    assert ids(request) == FILMS
    assert all(isnan(candidate.score) for candidate in request.candidates)
    assert [row.item_id for row in request.user.history] == FILMS
    assert [request.context.items[name].name for name in FILMS] == FILMS


def test_mapping_fields_reach_prompt_and_fusion() -> None:
    request = make_request(
        [
            {
                "item_id": 7,
                "title": "Dune",
                "description": "Sand.",
                "year": 2021,
                "genres": ["Epic"],
                "reviews": ["Vast.", {"text": "Long.", "rating": 2}],
                "caption": "A dune.",
                "score": 0.5,
            },
            Candidate("8", 0.25, {"content": 1.0}),
        ],
        history=[{"title": "Alien", "rating": 4.5}],
        user="me",
        profile={"age": 30},
        query="something slow",
    )
    dune = request.context.items["7"]
    assert dune == Item("7", "Dune", "Sand.", {"year": 2021, "genres": ("Epic",)})
    assert [review.text for review in request.context.reviews("7")] == ["Vast.", "Long."]
    picture = request.context.insight("7").picture
    assert picture is not None
    assert picture.text == "A dune."
    assert request.candidates == (Candidate("7", 0.5), Candidate("8", 0.25, {"content": 1.0}))
    history = (Interaction("me", "Alien", 4.5),)
    assert request.user == User("me", history, {"age": 30}, query="something slow")


def test_index_adds_its_item_data(index: Index) -> None:
    known = context_of(index)
    request = make_request(["i1", {"id": "i2", "year": 2001}, {"title": "Own"}], known=known)
    assert request.context.items["i1"] == index.items["i1"]
    assert request.context.items["i2"].title == index.items["i2"].title
    assert request.context.items["i2"].attributes == {"year": 2001}
    assert "Own" in request.context.items
    assert request.context.popularity("Own") == 0
    assert make_request(["i1"], user="u1", known=known).user == index.user("u1")
    brought = make_request(["i1"], user="u1", history=["i7"], known=known).user
    assert [row.item_id for row in brought.history] == ["i7"]
    assert index.items["i2"].attributes == {}  # the index is not changed


@pytest.mark.parametrize(
    ("given", "error", "part"),
    [
        ([], DataError, "mapping"),
        ({}, DataError, "no candidates"),
        ({"candidates": []}, OptionError, "no candidates"),
        ({"candidates": ["a", "a"]}, OptionError, "more than once: a"),
        ({"candidates": ["a"], "histroy": []}, DataError, "'histroy'"),
        ({"candidates": "a,b"}, DataError, "candidates"),
        ({"candidates": {"title": "a"}}, DataError, "candidates"),
        ({"candidates": [{}]}, DataError, r"candidates\[0\]"),
        ({"candidates": [{"title": "a", "score": float("inf")}]}, DataError, "score"),
        ({"candidates": [None]}, DataError, "candidates"),
        ({"candidates": ["a"], "history": "b"}, DataError, "history"),
        ({"candidates": ["a"], "history": [["b"]]}, DataError, r"history\[0\]"),
        ({"candidates": ["a"], "user_id": {}}, DataError, "user"),
        ({"candidates": ["a"], "profile": "old"}, DataError, "profile"),
        ({"candidates": ["a"], "query": {"a": 1}}, DataError, "query"),
        ({"candidates": ["a"], "relevant": "b"}, DataError, "'b', which is not a candidate"),
    ],
)
def test_an_unusable_request_is_refused(
    given: Any,  # noqa: ANN401
    error: type[LlmrecError],
    part: str,
) -> None:
    with pytest.raises(error, match=part):
        read_request(given)


def test_ids_outside_the_index_are_refused(index: Index) -> None:
    with pytest.raises(UnknownItemError, match="'i99'"):
        make_request(["i99"], known=context_of(index))
    with pytest.raises(UnknownUserError, match="u99"):
        make_request(["i1"], user="u99", known=context_of(index))


def test_relevant_candidates_are_named_by_id_or_title() -> None:
    candidates = [{"id": 1, "title": "Heat"}, {"id": 2, "title": "Dune"}]
    assert read_request({"candidates": candidates, "relevant": "Dune"}).relevant == {"2"}
    assert read_request({"candidates": candidates, "relevant": [1, "2"]}).relevant == {"1", "2"}
    amelie = [{"id": 3, "title": "Ame\u0301lie"}]
    assert read_request({"candidates": amelie, "relevant": "Am\u00e9lie"}).relevant == {"3"}


def test_an_item_of_the_same_request_may_be_named(index: Index) -> None:
    brought = {"item_id": "new", "title": "Heat"}
    for history, candidates in (([brought], ["new", "i1"]), (["new"], ["i1", brought])):
        request = make_request(candidates, history=history, known=context_of(index))
        assert request.context.items["new"].title == "Heat"
    with pytest.raises(UnknownItemError) as caught:
        make_request(["Alien"], known=context_of(index))
    assert "title of the item 'i0'" in caught.value.hint


@pytest.mark.parametrize("values", [(c for c in ("i0", "no")), {"i0": 1, "no": 2}.keys()])
def test_what_an_index_does_not_know_is_refused_in_every_form(values: object, index: Index) -> None:
    with pytest.raises(UnknownItemError, match="'no'"):
        make_request(values, known=context_of(index))


ANY: Any = Item, Candidate, User  # whose fields callers fill with numbers


@pytest.mark.parametrize("user", [7, np.int64(7), Decimal(7), "7", 7.0, ANY[2](7)], ids=repr)
@pytest.mark.parametrize(
    "items",
    [[1], np.array([1]), pd.Series([1]), [Decimal(1)], [ANY[0](1)], [ANY[1](1, 0.5)]],
    ids=str,
)
def test_ids_become_text(user: object, items: object) -> None:
    request = make_request(items, history=items, user=user)
    assert (request.user.user_id, ids(request)) == ("7", ["1"])
    assert request.user.history == (Interaction("7", "1", None, None),)


@pytest.mark.parametrize(
    "relevant",
    ["b", ["b"], {"b"}, pd.Series(["b"]), np.array(["b"]), iter(["b"]), Item("b"), {"id": "b"}],
    ids=lambda value: type(value).__name__,
)
def test_relevant_in_every_form(relevant: object) -> None:
    assert make_request(["a", "b"], relevant=relevant).relevant == {"b"}


@pytest.mark.parametrize("missing", [None, float("nan"), pd.NA, []], ids=repr)
def test_nothing_relevant(missing: object) -> None:
    assert make_request(["a"], relevant=missing).relevant == set()


def test_a_profile_of_numpy_and_pandas_values() -> None:
    values = {"age": np.int64(3), "gap": np.nan, "price": Decimal(2), "likes": np.array(["a"])}
    expected = {"age": 3, "price": 2, "likes": ("a",)}
    for profile in (values, pd.Series(values, dtype=object)):
        assert make_request(["a"], profile=profile).user.profile == expected


def test_signals_of_a_candidate_are_kept_in_every_form() -> None:
    given = Candidate("a", 0.5, {"cf": 0.5})
    for candidates in ([given], iter([given]), (given,)):
        assert make_request(candidates).candidates == (given,)


def test_ratings_of_the_request_s_own_reviews_say_which_are_good() -> None:
    reviews = [{"text": "good", "rating": 5}, {"text": "bad", "rating": 1}, "no rating"]
    context = make_request([{"title": "a", "reviews": reviews}]).context
    assert context.best_rating() == 5.0


@pytest.mark.parametrize(
    ("requests", "part"),
    [
        (None, "requests is None"),
        ({"candidates": ["a"]}, "requests is"),
        ("a", "requests is 'a'"),
        ([{"candidates": ["a"]}, {"candidates": []}], r"requests\[1\]: There are no candidates"),
    ],
)
def test_unusable_requests_are_named(requests: Any, part: str) -> None:  # noqa: ANN401
    with pytest.raises(LlmrecError, match=part):
        Reranker(ByteModel()).rank_many(requests)


@pytest.mark.parametrize("strategy", ["likelihood", "pointwise", "listwise"])
def test_scores_without_an_index_equal_those_through_one(
    smollm2: TransformersModel, strategy: str
) -> None:
    titles = [f"Film {n} of {n % 7}" for n in range(24)]
    items = {t: Item(t, t, f"About {t}.", {"year": 1990 + n}) for n, t in enumerate(titles)}
    vectors = np.eye(len(items), dtype=np.float32)
    rows = tuple(Interaction("u", t, 5.0, n) for n, t in enumerate(titles[:4]))
    index = Index(items, vectors, rows)
    through = Reranker(smollm2, index, strategy=strategy).rank(titles[4:], user="u")
    dicts = [
        {"title": t, "description": items[t].description, "year": items[t].attributes["year"]}
        for t in titles
    ]
    history = [{**given, "rating": 5.0} for given in dicts[:4]]
    alone = Reranker(smollm2, strategy=strategy).rank(dicts[4:], history=history)
    assert alone.item_ids == through.item_ids
    for mine, other in zip(alone.items, through.items, strict=True):
        assert mine.score == pytest.approx(other.score, abs=1e-5)
        assert mine.title == mine.item_id


def test_scores_of_another_retriever_are_fused_and_without_any_the_model_ranks_alone() -> None:
    reranker = Reranker(ByteModel())
    alone = reranker.rank(["aaaa", "b"])
    assert alone.items[0].score == alone.items[0].signals["likelihood"]
    assert alone.weights == {}
    fused = reranker.rank([{"title": "aaaa", "score": 9.0}, {"title": "b", "score": 1.0}])
    assert fused.weights == {"retrieval": 1.0, "likelihood": 0.2}
    assert fused.item_ids == ("aaaa", "b")
    assert [row.title for row in fused.top(1)] == ["aaaa"]
    with pytest.raises(OptionError, match="-1"):
        fused.top(-1)


def test_rank_many_equals_rank(smollm2: TransformersModel) -> None:
    reranker = Reranker(smollm2)
    requests = [{"history": FILMS[:n], "candidates": ["Jaws", "Brazil", "Diva"]} for n in range(3)]
    for ranking, request in zip(reranker.rank_many(requests), requests, strict=True):
        alone = reranker.rank(request["candidates"], history=request["history"])
        assert ranking.item_ids == alone.item_ids
        scores = [row.score for row in ranking.items]
        assert scores == pytest.approx([row.score for row in alone.items], abs=1e-4)


def test_a_query_and_a_profile_reach_the_model(smollm2: TransformersModel) -> None:
    reranker = Reranker(smollm2)
    candidates = ["A Book of Knots", "The Garden in Spring"]
    plain = reranker.rank(candidates, history=["Sailing Alone"])
    asked = reranker.rank(candidates, history=["Sailing Alone"], query="tulips and roses")
    told = reranker.rank(candidates, profile={"likes": "tulips and roses"})
    cold = reranker.rank(candidates)
    assert {row.item_id: row.score for row in plain.items} != {
        row.item_id: row.score for row in asked.items
    }
    assert {row.item_id: row.score for row in cold.items} != {
        row.item_id: row.score for row in told.items
    }
    assert cold.fallbacks["cold_start"] == 1


def test_wrong_arguments_are_refused_before_a_model_is_loaded() -> None:
    with pytest.raises(OptionError, match=r"index is \{\} \(dict\)"):
        Reranker("no-such-model", {})  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="strategy 'likelyhood'"):
        Reranker("no-such-model", strategy="likelyhood")
    with pytest.raises(OptionError, match="quantization, device and adapter"):
        Reranker(ByteModel(), quantization="nf4")


def test_a_reranker_explains_its_own_items(smollm2: TransformersModel) -> None:
    (why,) = Reranker(smollm2).explain(
        [{"title": "Dune", "genres": ["Epic"], "description": "A desert planet."}],
        history=[{"title": "Lawrence of Arabia", "genres": ["Epic"], "rating": 5}],
    )
    assert (why.item_id, why.title) == ("Dune", "Dune")
    assert why.text == (
        '"Dune": You liked "Lawrence of Arabia", which has the same genres: Epic. '
        'Its description says "A desert planet."'
    )
    facts = [fact.text for fact in why.evidence]
    assert 'You liked "Lawrence of Arabia" (genres: Epic)' in facts


def write_csv(path: Path, rows: list[dict[str, object]]) -> None:
    pd.DataFrame(rows).to_csv(path, index=False)


def write_parquet(path: Path, rows: list[dict[str, object]]) -> None:
    pq.write_table(pa.Table.from_pylist(rows), path)


@pytest.mark.parametrize(
    ("suffix", "write"), [(".csv", write_csv), (".parquet", write_parquet)], ids=["csv", "parquet"]
)
def test_the_rows_of_a_table_come_back_with_score_and_rank(
    suffix: str, write: Callable[[Path, list[dict[str, object]]], None], tmp_path: Path
) -> None:
    rows: list[dict[str, object]] = [
        {"user_id": "007", "title": "aaaa", "history": "Heat|Dune", "score": 0.5, "note": "x"},
        {"user_id": "8", "title": "dd", "history": None, "score": 0.1, "note": "y"},
        {"user_id": "007", "title": "b", "history": None, "score": 0.25, "note": "z"},
        {"user_id": "9", "title": "dd", "history": None, "score": 0.1, "note": "y"},
        {"user_id": "9", "title": "dd", "history": None, "score": 0.2, "note": "twice"},
    ]
    requests, out = tmp_path / f"requests{suffix}", tmp_path / f"out{suffix.upper()}"
    write(requests, rows)
    reranker = Reranker(ByteModel())
    outcome = rank_file(requests, out, reranker.rank_many)
    assert (outcome.reranked, outcome.failed) == (3, 1)
    found = (
        pd.read_csv(out, dtype={"user_id": str})
        if suffix == ".csv"
        else pq.read_table(out).to_pandas()
    )
    assert list(found["user_id"]) == [row["user_id"] for row in rows]
    assert list(found["retrieval_score"]) == [row["score"] for row in rows]
    assert list(found["rank"][:3]) == [1, 1, 2]
    write(tmp_path / f"one{suffix}", [rows[0], rows[2]])
    (first,) = read_requests(tmp_path / f"one{suffix}")
    assert [row.item_id for row in first.user.history] == ["Heat", "Dune"]
    expected = reranker.rank_many([first])[0]
    assert list(found["score"][[0, 2]]) == pytest.approx([row.score for row in expected.items])
    assert found["score"][3:].isna().all()
    assert "more than once: dd" in found["error"][3]
    again = rank_file(requests, out, reranker.rank_many)
    assert (again.reranked, again.resumed) == (0, 3)


def test_items_table_resolves_request_ids(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text("item_id,title\n07,Heat\n08,Dune\n")
    requests = tmp_path / "requests.jsonl"
    lines = [{"history": ["07"], "candidates": ["08"]}, {"candidates": ["09"]}]
    requests.write_text("\n".join(map(json.dumps, lines)))
    known = items_context(tmp_path / "items.csv")
    outcome = rank_file(
        requests, tmp_path / "o.jsonl", Reranker(ByteModel()).rank_many, known=known
    )
    assert outcome.failed == 1
    first, second = map(json.loads, (tmp_path / "o.jsonl").read_text().splitlines())
    assert first["items"][0]["title"] == "Dune"
    assert "'09'" in second["error"]["message"]


@pytest.mark.parametrize(
    ("name", "content", "part"),
    [
        ("r.csv", "title\nHeat\n", "no column user_id"),
        ("r.csv", "user;score\n1;0,5\n", "no column user_id; it has user, score"),
        (
            "r.csv",
            "user_id,title\n1,Heat\n,Dune\n",
            "Row 2 of .* has neither user_id nor request_id",
        ),
        ("r.csv", "user_id,title\n1,Heat,3\n", "3 fields where the header has 2"),
        ("r.csv", "user_id,title,title\n1,Heat,3\n", "'title' twice"),
        ("r.csv", "user_id,title,score,retrieval_score\n1,Heat,3,1\n", "retrieval_score"),
        ("r.csv", "user_id,title\n", "holds no request"),
        ("r.csv", 'user_id,title,history\n1,Heat,"[1"\n', "cannot be read"),
        ("r.parquet", "no parquet", "cannot be read"),
    ],
)
def test_a_table_that_cannot_be_used(name: str, content: str, part: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=part):
        rank_file(tmp_path / name, tmp_path / "o.csv", Reranker(ByteModel()).rank_many)


def test_columns_of_a_table_that_are_not_the_item_s(tmp_path: Path) -> None:
    path = tmp_path / "r.parquet"
    about = {"about": "likes cats"}
    rows: list[dict[str, object]] = [
        {"user_id": 0, "request_id": 0, "title": "Heat", "profile": about, "rank": 3, "year": 1995},
        {"user_id": 0, "request_id": 0, "title": "Dune", "relevant": True, "error": ""},
        {"user_id": 0, "request_id": 1, "title": "Dune"},
    ]
    write_parquet(path, [{**dict.fromkeys(rows[0] | rows[1]), **row} for row in rows])
    first, second = read_requests(path)
    assert (first.request_id, first.user.user_id, ids(first)) == ("0", "0", ["Heat", "Dune"])
    assert (second.request_id, second.user.user_id, ids(second)) == ("1", "0", ["Dune"])
    assert first.user.profile == about
    shown = [first.context.items[item_id].attributes for item_id in ids(first)]
    assert shown == [{"year": 1995}, {}]


@pytest.mark.parametrize(
    "content", ["\ufeffuser_id,title\n1,Heat\n", "user_id,title\r\n1,Heat\r\n"]
)
def test_a_csv_as_other_programs_write_it(content: str, tmp_path: Path) -> None:
    path = tmp_path / "r.CSV"
    path.write_bytes(content.encode())
    (request,) = read_requests(path)
    assert (request.user.user_id, ids(request)) == ("1", ["Heat"])
    long = "x" * 200_000
    path.write_text(f"user_id,title,description\n1,Heat,{long}\n")
    (request,) = read_requests(path)
    assert request.context.items["Heat"].description == long


def test_a_table_is_not_made_of_json_lines(tmp_path: Path) -> None:
    (tmp_path / "r.jsonl").write_text('{"candidates": ["a"]}')
    with pytest.raises(OptionError, match="is a table"):
        rank_file(tmp_path / "r.jsonl", tmp_path / "o.csv", Reranker(ByteModel()).rank_many)


@pytest.mark.parametrize(
    ("neutral", "kept"), [(None, None), (3, 3.0), ("3", 3.0), (np.float64(2.5), 2.5)]
)
def test_a_request_says_above_which_rating_an_item_is_liked(
    neutral: object, kept: float | None
) -> None:
    row = {"history": [{"title": "Titanic", "rating": 1}], "candidates": ["Heat", "Dune"]}
    user = read_request({**row, "neutral_rating": neutral}).user
    assert user.neutral_rating == kept
    assert liked(user.history, user.neutral_rating) == (kept is None,)  # alone, 1 is a thumb up


def test_a_neutral_rating_that_is_no_number_is_refused() -> None:
    for wrong in ("three", float("nan"), [3]):
        with pytest.raises(DataError, match="neutral_rating is"):
            read_request({"candidates": ["Heat"], "neutral_rating": wrong})
