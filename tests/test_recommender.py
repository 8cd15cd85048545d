from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llmrec import Recommender
from llmrec.errors import (
    DataError,
    ModelNotFoundError,
    OptionError,
    PromptError,
    UnknownItemError,
    UnknownUserError,
)
from llmrec.items import TextEncoder
from llmrec.models import LanguageModel, TransformersModel
from llmrec.prompting import context_of
from llmrec.records import Candidate, Interaction, Item, Status, Usage, User
from llmrec.reranking import Gate, Request, Reranker, keep_gate
from llmrec.retrieval import Index, Retriever
from tests.reranking.oracle import Oracle

TITLES = [f"Film {n}" for n in range(12)]


@pytest.fixture
def index() -> Index:
    items = {
        f"i{n}": Item(f"i{n}", title, attributes={"year": 1990 + n})
        for n, title in enumerate(TITLES)
    }
    rows = [(f"u{user}", f"i{(user + step) % 12}", step) for user in range(8) for step in range(5)]
    history = tuple(Interaction(user, item, 5.0, time) for user, item, time in rows)
    vectors = np.random.default_rng(0).normal(size=(12, 4)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    profiles = {"cold": {"about": "likes films"}}
    return Index(items, vectors, history, profiles=profiles, encoder="no-such-encoder@1")


@pytest.fixture
def model() -> Oracle:
    return Oracle(lambda title, *_: float(title.split()[-1]) if title[-1].isdigit() else 0.0)


def test_recommend_retrieves_and_reranks(index: Index, model: Oracle, tmp_path: Path) -> None:
    index.save(tmp_path / "index")
    recommender = Recommender.open(tmp_path / "index", model=model)
    found = recommender.recommend("u1", k=3)
    seen = {row.item_id for row in index.user("u1").history}
    assert len(found.items) == 3
    assert seen.isdisjoint(found.ranking.item_ids)
    retrieved = Retriever(index).retrieve(index.user("u1"), 100)
    expected = Reranker(model, index).rank_many(
        [Request(index.user("u1"), retrieved, context_of(index))]
    )
    assert found.ranking.item_ids == expected[0].item_ids
    assert found.items[0].title == index.items[found.items[0].item_id].title
    assert found.usage == found.ranking.usage
    assert found.fitted is False
    assert found.notes == ()


def test_without_a_model_the_retriever_s_order_is_kept(index: Index) -> None:
    found = Recommender(index).recommend("u1", k=3)
    assert {row.status for row in found.ranking.items} == {Status.NOT_ASKED}
    scores = [row.score for row in found.ranking.items]
    assert scores == sorted(scores, reverse=True)
    with pytest.raises(OptionError, match="needs a language model"):
        Recommender(index, explain_text="written").recommend("u1", explain=True)
    with pytest.raises(OptionError, match="no language model"):
        Recommender(index, explain_text="written").explain("u1", ["i9"])


def test_without_a_model_statements_explain(index: Index) -> None:
    found = Recommender(index).recommend("u1", k=3, explain=True)
    assert [each.item_id for each in found.explanations] == [row.item_id for row in found.items]
    assert all(
        row.title in each.text for row, each in zip(found.items, found.explanations, strict=True)
    )
    assert found.usage == Usage()


def test_evidence_is_weighed_among_the_user_s_candidates(index: Index, model: Oracle) -> None:
    recommender = Recommender(index, model=model)
    (reasons,) = recommender.reasons("u1", "i9")
    ranked = recommender.recommend("u1", always_ask=True).ranking
    assert reasons.rank == ranked.item_ids.index("i9") + 1
    assert {fact.unit for fact in reasons.telling} <= reasons.weights.keys()
    (explained,) = recommender.explain("u1", "i9", weigh=True)
    weights = {f.unit: f.weight for f in explained.evidence if f.weight is not None}
    assert weights
    assert weights == {unit: reasons.weights.get(unit, 0.0) for unit in weights}
    moody = Oracle(lambda title, _, prompt: len(f"{prompt.text}") * len(title) / 1000)
    (reasons,) = Recommender(index, model=moody).reasons("u1", "i9")
    assert reasons.pairs
    (explained,) = Recommender(index, model=moody).explain("u1", "i9", weigh=True)
    assert explained.usage.prompts == reasons.usage.prompts - len(reasons.pairs)
    with pytest.raises(OptionError, match="no language model"):
        Recommender(index).explain("u1", "i9", weigh=True)
    with pytest.raises(UnknownItemError, match="i99"):
        recommender.reasons("u1", ["i9", "i99"])


def test_filters_rules_and_seen_items(index: Index, tmp_path: Path) -> None:
    rules = tmp_path / "rules.toml"
    rules.write_text('[[drop]]\nattribute = "year"\nequals = 1999\n')
    recommender = Recommender(index)
    late = recommender.recommend("u1", k=12, filters=["year>=1998"])
    assert set(late.ranking.item_ids) == {"i8", "i9", "i10", "i11"}
    ruled = recommender.recommend("u1", k=12, filters=["year>=1998"], rules=rules)
    assert set(ruled.ranking.item_ids) == {"i8", "i10", "i11"}
    assert len(recommender.recommend("u1", k=12, include_seen=True).items) == 12
    none = recommender.recommend("u1", filters=["year>=2050"])
    assert none.items == ()
    assert "No item is left" in none.notes[0]


def test_a_new_user_is_served(index: Index, model: Oracle) -> None:
    history = (Interaction("new", "i0", 5.0), Interaction("new", "i1", 5.0))
    found = Recommender(index, model=model).recommend(User("new", history), k=2)
    assert len(found.items) == 2
    cold = Recommender(index).recommend(User("newer"), k=2)
    assert cold.ranking.fallbacks == {"cold_start": 1}
    assert cold.notes == ("User newer has no history and no profile: ranked by popularity.",)


@pytest.mark.parametrize(
    ("made_with", "asked"), [("org/name@1a2b", "org/name@1a2b"), ("packaged@1a2b", "packaged")]
)
def test_the_encoder_of_the_index_is_loaded_in_its_revision(
    index: Index, made_with: str, asked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    refs: list[str] = []

    def refuse(ref: str) -> None:
        refs.append(ref)
        raise ModelNotFoundError("It is not here.")

    monkeypatch.setattr(TextEncoder, "from_pretrained", refuse)
    found = Recommender(replace(index, encoder=made_with)).recommend("cold")
    assert refs == [asked]
    assert "the profile cannot be read" in found.notes[0]


def test_candidates_of_one_s_own_get_the_retriever_s_scores(index: Index, model: Oracle) -> None:
    recommender = Recommender(index, model=model)
    found = recommender.rerank("u1", ["i9", "i10", {"title": "Film 99"}])
    assert sorted(found.ranking.item_ids) == ["Film 99", "i10", "i9"]
    by_id = {row.item_id: row for row in found.items}
    expected = {c.item_id: c.score for c in Retriever(index).candidates(index.user("u1"), ["i9"])}
    assert by_id["i9"].signals["retrieval"] == pytest.approx(expected["i9"])
    assert "retrieval" not in by_id["Film 99"].signals
    assert found.ranking.fallbacks["signal_missing"] == 1
    own = recommender.rerank("u1", [Candidate("i9", 3.0), Candidate("i10", 1.0)])
    assert [row.signals["retrieval"] for row in sorted(own.items, key=lambda r: r.item_id)] == [
        1.0,
        3.0,
    ]
    again = recommender.rerank("u1", ["i1", "i9"])
    assert again.notes == ("Already in the user's history: i1.",)


def test_a_model_loads_at_first_use_and_once(index: Index, model: Oracle) -> None:
    loads = []

    def load() -> LanguageModel:
        loads.append(1)
        return model

    recommender = Recommender(index, model=load)
    with pytest.raises(UnknownUserError):
        recommender.recommend("nobody")
    with pytest.raises(UnknownItemError):
        recommender.rerank("u1", ["i99"])
    assert not loads
    recommender.recommend("u1")
    recommender.recommend("u2")
    assert loads == [1]


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"strategy": "likelyhood"}, OptionError),
        ({"template": "pointwise/plain-list"}, PromptError),
        ({"explain_text": "written", "explain_template": "explain/none"}, PromptError),
        ({"explain_template": "explain/shopper"}, OptionError),
        ({"explain_text": "long"}, OptionError),
        ({"strategy": ["likelihood"], "template": "likelihood/list"}, OptionError),
    ],
)
def test_wrong_options_are_refused_at_once(
    index: Index, options: dict[str, object], error: type[Exception]
) -> None:
    with pytest.raises(error):
        Recommender(index, model="no-such-model", **options)


@pytest.mark.parametrize(
    "numbers", [{"k": 0}, {"n_candidates": 0}, {"k": 2.5}, {"k": "3"}, {"k": float("nan")}], ids=str
)
def test_counts_are_whole_numbers_from_one_on(index: Index, numbers: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match="Give 1 or more"):
        Recommender(index).recommend("u1", **numbers)


def test_a_fitted_gate_is_used(index: Index, model: Oracle) -> None:
    rows = [
        (f"v{user}", f"i{(5 * user + 2 * step) % 12}", step)
        for user in range(8)
        for step in range(5)
    ]
    more = tuple(Interaction(user, item, 5.0, time) for user, item, time in rows)
    index = replace(index, interactions=(*index.interactions, *more))
    recommender = Recommender(index, model=model)
    fitted, tried = recommender.fit(users=12, n_candidates=12)
    assert fitted.lists == 12 <= tried
    assert set(fitted.p_values) == {
        f"likelihood.{part}" for part in ("conditional", "prior", "length")
    }
    kept = keep_gate(index, recommender.reranker.weights_key, fitted.gate)
    found = Recommender(kept, model=model).recommend("u1", always_ask=True)
    assert found.fitted
    assert found.ranking.weights == fitted.gate.weights


def test_too_few_users_are_refused_before_the_model_is_asked(index: Index, model: Oracle) -> None:
    with pytest.raises(DataError, match="8 lists hold their target; a gate is fitted on 10"):
        Recommender(index, model=model).fit(n_candidates=12)
    assert model.vectors == 0


@pytest.mark.parametrize("known", [True, False], ids=["identified", "unknown"])
def test_a_model_that_the_fitted_gate_does_without_is_not_asked(
    index: Index, model: Oracle, known: bool
) -> None:
    key = Recommender(index, model=model).reranker.weights_key
    control = Gate({"retrieval": 1.0, "popularity": -5.0, "likelihood.prior": 0.0})
    index = keep_gate(index, key, control)
    loads = []

    class Loader:
        def __call__(self) -> LanguageModel:
            loads.append(1)
            return model

        def identity(self) -> str:
            return f"{model.name}@{model.revision}" if known else ""

    recommender = Recommender(index, model=Loader())
    found = recommender.recommend("u1", k=3)
    assert loads == [1] * (not known)
    assert found.usage.prompts == 0
    assert "the fitted gate does without it" in found.notes[0]
    assert found.fitted
    assert {row.status for row in found.ranking.items} == {Status.NOT_ASKED}
    assert found.ranking.weights == control.weights
    scores = [row.score for row in found.ranking.items]
    assert scores == sorted(scores, reverse=True)
    retrieved = Recommender(index).recommend("u1").ranking.item_ids
    assert [retrieved[row.retrieval_rank - 1] for row in found.items] == [
        row.item_id for row in found.items
    ]
    asked = recommender.recommend("u1", k=3, always_ask=True)
    assert asked.usage.prompts > 0
    assert asked.ranking.item_ids == found.ranking.item_ids
    other = keep_gate(index, key, Gate({"retrieval": 1.0, "likelihood.prior": 0.1}))
    assert Recommender(other, model=model).recommend("u1").usage.prompts > 0


def test_explanations_count_in_the_usage(index: Index, smollm2: TransformersModel) -> None:
    recommender = Recommender(index, model=smollm2, explain_text="written")
    found = recommender.recommend("u1", k=1, n_candidates=3, explain=True)
    (why,) = found.explanations
    assert why.item_id == found.items[0].item_id
    assert why.title == found.items[0].title
    assert found.usage.tokens_generated > found.ranking.usage.tokens_generated == 0


def with_number_ids() -> Index:
    items = {str(n): Item(str(n), title) for n, title in enumerate(TITLES)}
    history = (Interaction("42", "3", 5.0, 1), Interaction("1", "4", 5.0, 1))
    return Index(items, np.eye(12, 12, dtype=np.float32), history)


@pytest.mark.parametrize("user", [42, np.int64(42), Decimal(42)], ids=repr)
def test_ids_may_be_whole_numbers(user: Any, model: Oracle) -> None:  # noqa: ANN401
    recommender = Recommender(with_number_ids(), model=model)
    expected = recommender.recommend("42", k=3)
    assert recommender.recommend(user, k=3).ranking.item_ids == expected.ranking.item_ids
    assert recommender.recommend(User(user, (Interaction(user, 3),)), k=3).items == expected.items  # type: ignore[arg-type]
    reranked = recommender.rerank(user, [1, np.int64(2)])
    assert set(reranked.ranking.item_ids) == {"1", "2"}
    many = recommender.rank_many([{"user_id": user, "candidates": [1, 2]}])
    assert many[0].item_ids == reranked.ranking.item_ids


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ({"user": None}, "user is None"),
        ({"user": ["u1"]}, "user is"),
        ({"filters": [3]}, "filters is"),
        ({"rules": {}}, "rules is"),
    ],
)
def test_arguments_of_another_kind_are_refused(
    index: Index, arguments: dict[str, Any], part: str
) -> None:
    with pytest.raises((OptionError, DataError), match=part):
        Recommender(index).recommend(**{"user": "u1", **arguments})


def test_one_filter_needs_no_list(index: Index) -> None:
    one = Recommender(index).recommend("u1", filters="year>=1998")
    assert one == Recommender(index).recommend("u1", filters=["year>=1998"])


def test_items_of_one_s_own_beside_an_index_are_explained(
    index: Index, smollm2: TransformersModel
) -> None:
    own = {
        "title": "Own film",
        "reviews": [{"text": "My own film, long enough to quote.", "rating": 5}],
    }
    found = Recommender(index, model=smollm2).rerank(
        "u1", [own, "i9"], history=["i1", {"title": "Mine"}], explain=True
    )
    assert {each.title for each in found.explanations} == {"Own film", "Film 9"}
    facts = {each.title: [f.text for f in each.evidence] for each in found.explanations}
    assert any("A review says" in text for text in facts["Own film"])
    assert 'You liked "Mine"' in facts["Film 9"]
