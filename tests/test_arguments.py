"""Every public call brings its arguments to one form, or refuses them with a typed error."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import llmrec
from llmrec import (
    Candidate,
    Catalog,
    ColumnMap,
    Index,
    Interaction,
    Item,
    Ranking,
    Recommender,
    Request,
    Reranker,
    Retriever,
    User,
)
from llmrec.errors import DataError, LlmrecError, UnknownItemError
from llmrec.prompting import Budget
from llmrec.retrieval import hold_out, learn_weights
from tests.reranking.oracle import Oracle

MODEL: Any = Oracle(lambda title, *_: float(len(title)))
ANY: Any = llmrec  # arguments of wrong types are the point


def _index() -> Index:
    items = {f"{n}": Item(f"{n}", f"Film {n}", attributes={"year": 1990 + n}) for n in range(8)}
    rows = [("1", "0"), ("1", "3"), ("2", "0"), ("2", "1"), ("é", "7")]
    history = tuple(Interaction(user, item, 5.0, time) for time, (user, item) in enumerate(rows))
    vectors = np.eye(8, 4, dtype=np.float32) + 0.1
    return Index(items, vectors / np.linalg.norm(vectors, axis=1, keepdims=True), history)


INDEX: Any = _index()
CATALOG: Any = Catalog.from_datasets(
    [{"item_id": 1, "title": "A"}], interactions=[{"user_id": 7, "item_id": 1}]
)
RANKING: Any = Ranking("u", ())
RERANKER: Any = Reranker(MODEL)
RECOMMENDER: Any = Recommender(INDEX, model=MODEL)
RETRIEVER: Any = Retriever(INDEX)
LABELLED = [{"history": ["a"], "candidates": ["b", "c"], "relevant": "b"}]


def bench(*plan: object, **settings: object) -> object:
    return ANY.bench(*plan, **settings)


REFUSED: list[tuple[Callable[[], object], str]] = [
    (lambda: RANKING.top("x"), "n is 'x' (str); allowed is a whole number from 0 on"),
    (lambda: RANKING.top(-1), "n is -1"),
    (lambda: RANKING.top(True), "n is True"),
    (lambda: RECOMMENDER.recommend("1", k=True), "k is True"),
    (lambda: RECOMMENDER.recommend("1", k="5"), "k is '5'"),
    (lambda: RECOMMENDER.recommend("1", k=0), "k is 0"),
    (lambda: RECOMMENDER.recommend("1", k=5, n_candidates=3), "n_candidates is 3, fewer than k"),
    (lambda: RECOMMENDER.recommend("1", filters=3), "filters is 3 (int); allowed is a condition"),
    (lambda: RECOMMENDER.recommend("1", filters={"year": 1}), "filters is {'year': 1}"),
    (lambda: RECOMMENDER.recommend("1", filters=[None]), "filters is None"),
    (lambda: RECOMMENDER.recommend("1", include_seen="no"), "include_seen is 'no'"),
    (lambda: RECOMMENDER.recommend("1", explain="no"), "explain is 'no'"),
    (lambda: RECOMMENDER.recommend("1", rules=3), "rules is 3"),
    (lambda: RECOMMENDER.recommend(None), "user is None"),
    (lambda: RECOMMENDER.recommend(True), "user is True"),
    (lambda: RECOMMENDER.recommend(b"1"), "value.decode()"),
    (lambda: RECOMMENDER.recommend(float("nan")), "user is nan"),
    (lambda: RECOMMENDER.recommend(1.5), "user is 1.5"),
    (lambda: RECOMMENDER.recommend(User("n", history=ANY.Item)), "history is"),
    (lambda: RECOMMENDER.recommend(99), "A new user needs a history"),
    (lambda: RECOMMENDER.rerank(1, {1, 2}), "A set has no order"),
    (lambda: RECOMMENDER.rerank(1, []), "There are no candidates"),
    (lambda: RECOMMENDER.explain(1, [99]), "no item '99'"),
    (lambda: RECOMMENDER.fit(seed="x"), "seed is 'x'"),
    (lambda: RECOMMENDER.rank_many("x"), "requests is 'x'"),
    (lambda: Recommender(ANY), "index is <module"),
    (lambda: Recommender(INDEX, model=ANY), "model is <module"),
    (lambda: Recommender(INDEX, model="a/b", quantization="nf5"), "Did you mean 'nf4'?"),
    (lambda: Recommender(INDEX, model="a/b", device=ANY), "device is <module"),
    (lambda: ANY.Recommender.open(3), "folder is 3 (int); allowed is a path"),
    (lambda: ANY.Reranker(None), "model is None (NoneType); allowed is a reference"),
    (lambda: ANY.Reranker("a/b", quantization=4), "The quantization 4 is not one of"),
    (lambda: ANY.Reranker(MODEL, 3), "index is 3"),
    (lambda: ANY.Reranker(MODEL, budget=3), "budget is 3"),
    (lambda: ANY.Reranker(MODEL, weights=[1]), "weights is [1]"),
    (lambda: ANY.Reranker(MODEL, weights={"retrieval": 1, "likelihood": "x"}), "finite numbers"),
    (
        lambda: ANY.Reranker(MODEL, weights={"retrieval": 1, "likelihood": 1, "likelyhood": 1}),
        "Did you mean 'likelihood'?",
    ),
    (lambda: ANY.Reranker(MODEL, strategy="pointwize"), "Did you mean 'pointwise'"),
    (lambda: ANY.Reranker(MODEL, strategy=None), "strategy is None"),
    (lambda: ANY.Reranker(MODEL, template=3), "template is 3"),
    (lambda: ANY.Reranker(MODEL, template="titles"), "'titles'. Did you mean 'likelihood/titles'?"),
    (lambda: RERANKER.rank(["a"], history="b"), "history is 'b'"),
    (lambda: RERANKER.rank([{"movieId": 1}]), "Rename 'movieId' to item_id, and give a title"),
    (lambda: RERANKER.rank([b"a"]), "candidates[0] is b'a'"),
    (lambda: RERANKER.rank_many([None]), "requests[0]: A request is a mapping"),
    (lambda: RERANKER.judge_many("x"), "requests is 'x'"),
    (lambda: ANY.Request("1", ["1"]), "candidates[0] is '1'"),
    (lambda: Budget(title=ANY), "Budget title is <module"),
    (lambda: RETRIEVER.retrieve("1", "3"), "k is '3'"),
    (lambda: RETRIEVER.candidates("1", None), "item_ids is None"),
    (lambda: RETRIEVER.candidates("1", [1, "1"]), "more than once: 1"),
    (lambda: ANY.Retriever(3), "index is 3"),
    (lambda: ANY.Retriever(INDEX, weights={"contents": 1}), "Did you mean 'content'?"),
    (lambda: ANY.Retriever(INDEX, weights={"content": float("nan")}), "finite numbers"),
    (lambda: ANY.Retriever(INDEX, weights={3: 1}), "There is no signal 3"),
    (lambda: ANY.Retriever(INDEX, fusion=None), "The fusion None is not one of"),
    (lambda: ANY.Retriever(INDEX, half_life="x"), "half_life is 'x'"),
    (lambda: ANY.Retriever(INDEX, rules="r.toml"), "rules is 'r.toml'"),
    (lambda: ANY.Retriever(INDEX, signals={"a": 3}), "signals['a'] is 3"),
    (lambda: ANY.Index.open(123), "folder is 123"),
    (lambda: ANY.Index.build("DATA"), "Catalog.from_folder(DATA)"),
    (lambda: ANY.Index.build(CATALOG, 3), "encoder is 3"),
    (lambda: ANY.Index([Item("a")], np.ones((1, 2))), "items is [Item("),
    (lambda: INDEX.updated(CATALOG, None), "encoder is None"),
    (lambda: INDEX.with_weights("key", {"a": None}), "finite numbers"),
    (lambda: INDEX.row(99), "no item '99'"),
    (lambda: INDEX.user([1]), "user_id is [1]"),
    (lambda: CATALOG.user(None), "user_id is None"),
    (lambda: ANY.Catalog([Item("a")]), "Catalog.from_datasets reads lists"),
    (lambda: ANY.Catalog.from_folder(3), "path is 3"),
    (lambda: ANY.Catalog.from_datasets("x"), "'x' (str) is no table"),
    (lambda: ANY.Catalog.from_datasets([{"item_id": 1}], columns=3), "columns is 3"),
    (lambda: ANY.ColumnMap(itmes=3), "did you mean 'items'?"),
    (lambda: ANY.ColumnMap.from_file(3), "columns is 3"),
    (lambda: ANY.load_model(3), "model is 3"),
    (lambda: ANY.load_model("a/b", device=3), "device is 3"),
    (lambda: ANY.load_model("a/b", skip_last_layers="x"), "skip_last_layers is 'x'"),
    (lambda: ANY.TextEncoder.from_pretrained(3), "model is 3"),
    (lambda: ANY.Explainer(None, INDEX, text="written"), "model is None"),
    (lambda: ANY.Explainer(MODEL, 3), "known is 3"),
    (lambda: ANY.Explainer(MODEL, INDEX, limits=3), "limits is 3"),
    (lambda: bench("plan.yaml"), "BenchmarkPlan.from_file(FILE)"),
    (lambda: bench(requests=LABELLED, out=3), "out is 3"),
    (lambda: bench(requests=LABELLED, loader=3), "loader is 3"),
    (lambda: bench(requests=LABELLED, candidates=3), "Did you mean 'n_candidates'"),
    (lambda: bench(requests=[{"candidates": {"a"}}]), "requests hold {'a'} (set)"),
    (lambda: ANY.bench(requests=[3]), "A request is a mapping"),
    (lambda: hold_out(INDEX, ANY), "The part <module"),
    (lambda: learn_weights(INDEX, users=ANY), "users is <module"),
]


@pytest.mark.parametrize(("call", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_a_wrong_argument_is_refused_by_a_typed_error(
    call: Callable[[], object], message: str
) -> None:
    with pytest.raises(LlmrecError) as caught:
        call()
    assert message in str(caught.value)


ONES = {
    "int": 1,
    "numpy int": np.int64(1),
    "float without fraction": 1.0,
    "Decimal": Decimal(1),
    "pyarrow scalar": pa.scalar(1),
    "spaces": " 1 ",
}


@pytest.mark.parametrize("one", ONES.values(), ids=ONES.keys())
def test_an_id_may_have_any_form(one: str) -> None:
    assert INDEX.user(one) == INDEX.user("1")
    assert INDEX.row(one) == 1
    assert INDEX.item(one).title == "Film 1"
    assert INDEX.met_by(one) == {"2"}
    assert RECOMMENDER.recommend(one, 3).items == RECOMMENDER.recommend("1", 3).items
    assert RETRIEVER.retrieve(one, 3) == RETRIEVER.retrieve("1", 3)
    assert RETRIEVER.candidates("2", [one]) == RETRIEVER.candidates("2", ["1"])
    assert RECOMMENDER.rerank("2", [one, 2]).ranking.item_ids[-1] in {"1", "2"}
    assert RETRIEVER.retrieve(User("n", history=[one]), 3)


def test_a_uuid_is_an_id() -> None:
    key = UUID(int=7)
    assert RERANKER.rank([{"item_id": key, "title": "A"}]).item_ids == (str(key),)


LISTS: dict[str, Callable[[], Any]] = {
    "tuple": lambda: (1, 2),
    "generator": lambda: (n for n in (1, 2)),
    "array": lambda: np.array([1, 2]),
    "floats of a column with gaps": lambda: pd.Series([1.0, 2.0]),
    "nullable column": lambda: pd.Series([1, 2], dtype="Int64"),
    "categories": lambda: pd.Series(pd.Categorical(["1", "2"])),
    "pyarrow array": lambda: pa.array([1, 2]),
    "pyarrow table": lambda: pa.table({"item_id": [1, 2]}),
    "data frame": lambda: pd.DataFrame({"item_id": [1, 2]}),
    "items": lambda: [Item("1"), Candidate("2", 0.5)],
}


@pytest.mark.parametrize("form", LISTS.values(), ids=LISTS.keys())
def test_a_list_of_ids_may_have_any_form(form: Callable[[], Any]) -> None:
    assert RETRIEVER.candidates("2", form()) == RETRIEVER.candidates("2", ["1", "2"])
    user = User("n", history=form())
    assert RETRIEVER.retrieve(user, 3) == RETRIEVER.retrieve(User("n", ANY_HISTORY), 3)
    assert sorted(RECOMMENDER.rerank("1", form()).ranking.item_ids) == ["1", "2"]


ANY_HISTORY: Any = ("1", "2")


def test_requests_and_judgements_read_users_too() -> None:
    context = RECOMMENDER.context
    request = Request(ANY_USER, (Candidate("1", 0.5),), context)
    assert request.user == INDEX.user("1")
    by_id = Reranker(MODEL, INDEX).judge(1, [1, 2])
    assert by_id["likelihood"].scores.shape == (2,)


ANY_USER: Any = 1


def test_catalogues_are_made_of_any_table() -> None:
    items = pd.DataFrame(
        {
            "item_id": pd.array([1, 2], dtype="Int64"),
            "title": pd.Categorical(["A", "B"]),
            "brand": pd.Series(["X", None], dtype="string"),
            "released": pd.to_datetime(["2020-01-01", "2020-02-01"]),
        }
    )
    rows = pd.DataFrame(
        {"user_id": [7], "item_id": [1.0], "timestamp": [pd.Timestamp(1, unit="s")]}
    )
    made = Catalog.from_datasets(items, interactions=rows)
    assert made.items["1"].attributes["brand"] == "X"
    assert "brand" not in made.items["2"].attributes
    assert made.user(7).history[0].timestamp == 1
    table = pa.Table.from_pandas(items[["item_id", "title"]], preserve_index=False)
    assert list(Catalog.from_datasets(table).items) == ["1", "2"]


def test_users_without_an_index_bring_their_history() -> None:
    user = User("u", history=(Interaction("u", "Alien", 5.0),))
    assert RERANKER.rank(["Heat"], user=user).fallbacks == {}
    with pytest.raises(UnknownItemError):
        Reranker(MODEL, INDEX).rank(["1"], user=user)


@pytest.mark.parametrize(
    ("candidates", "history", "counted"),
    [
        ([1, 2], None, 2),
        (["1193", "661"], ["914"], 2),
        (["B00X4WHP5E"], None, 1),
        ([{"item_id": 1}, {"item_id": 2, "title": "Heat"}], None, 1),
        ([{"item_id": 1, "description": "A heist."}], None, 0),
        (["1917", "Heat"], None, 0),
        (["300"], ["Alien"], 0),
    ],
)
def test_ids_read_as_titles_are_counted(
    candidates: list[object], history: list[object] | None, counted: int
) -> None:
    ranking = RERANKER.rank(candidates, history=history)
    assert ranking.fallbacks.get("id_as_title", 0) == counted


def test_a_path_names_a_model_and_errors_keep_their_type(tmp_path: Path) -> None:
    with pytest.raises(LlmrecError, match="is no model"):
        Reranker(tmp_path)
    (tmp_path / "map.json").write_text('{"itmes": {}}')
    with pytest.raises(DataError, match=r"map\.json' is not usable: unknown key 'itmes'"):
        ColumnMap.from_file(tmp_path / "map.json")
