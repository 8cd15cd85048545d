from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmrec.errors import DataError, OptionError, PromptError, StorageError, UnknownItemError
from llmrec.models import TransformersModel
from llmrec.models.adapter import AdapterRecord
from llmrec.prompting import Budget, context_of
from llmrec.records import Candidate, Status, User
from llmrec.reranking import (
    DEFAULT_GATES,
    ZERO_SHOT_WEIGHTS,
    Gate,
    Judgement,
    Likelihood,
    Question,
    Request,
    Reranker,
    keep_gate,
    retrieval_ranking,
)
from llmrec.reranking.strategy import Conversation
from llmrec.retrieval import Index, Retriever
from tests.reranking.conftest import ByteModel


class Scripted:
    """A strategy with set scores."""

    name, key = "scripted", "scripted/1"

    def __init__(self, scores: list[float]) -> None:
        self.scores = scores

    def ask(self, question: Question, model: object) -> Conversation[Judgement]:
        yield []
        return Judgement(np.array(self.scores[: len(question.candidates)]))


def candidates(*ids: str) -> list[Candidate]:
    return [Candidate(item_id, -float(n)) for n, item_id in enumerate(ids)]


ONLY = {"retrieval": 0.0, "scripted": 1.0}


def test_the_model_orders_and_both_ranks_are_kept(index: Index, user: User) -> None:
    reranker = Reranker(ByteModel(), index, strategy=Scripted([1, 3, 2]), weights=ONLY)
    ranking = reranker.rank(candidates("i1", "i2", "i4"), user=user)
    assert ranking.item_ids == ("i2", "i4", "i1")
    assert [item.retrieval_rank for item in ranking.items] == [2, 3, 1]
    assert [item.rank for item in ranking.items] == [1, 2, 3]
    assert ranking.items[0].signals == {"retrieval": -1.0, "scripted": 3.0}
    assert ranking.weights == ONLY
    assert ranking.fallbacks == {}


def test_unscored_candidates_come_last_and_are_counted(index: Index, user: User) -> None:
    nan = float("nan")
    reranker = Reranker(ByteModel(), index, strategy=Scripted([nan, 1, nan, 2]), weights=ONLY)
    ranking = reranker.rank(candidates("i1", "i2", "i4", "i5"), user=user)
    assert ranking.item_ids == ("i5", "i2", "i1", "i4")
    assert [item.status for item in ranking.items] == [Status.SCORED] * 2 + [Status.UNSCORED] * 2
    assert [item.score is None for item in ranking.items] == [False, False, True, True]
    assert ranking.fallbacks == {"unscored": 2}


def test_equal_scores_keep_retrieval_order(index: Index, user: User) -> None:
    reranker = Reranker(ByteModel(), index, strategy=Scripted([0, 0, 0]), weights=ONLY)
    assert reranker.rank(candidates("i5", "i1", "i4"), user=user).item_ids == ("i5", "i1", "i4")


scores = st.floats(-50, 50) | st.just(float("nan"))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.permutations([f"i{n}" for n in range(8)]), st.lists(scores, min_size=8, max_size=8))
def test_ranking_is_a_permutation_of_the_candidates(
    index: Index, order: list[str], values: list[float]
) -> None:
    reranker = Reranker(ByteModel(), index, strategy=Scripted(values), weights=ONLY)
    given_candidates = candidates(*order)
    ranking = reranker.rank(given_candidates, user=User("new"))
    assert sorted(ranking.item_ids) == sorted(order)
    assert [c.item_id for c in given_candidates] == order
    assert [item.rank for item in ranking.items] == list(range(1, 9))


def test_one_candidate_is_a_ranking_of_one(index: Index, user: User) -> None:
    ranking = Reranker(ByteModel(), index).rank(candidates("i2"), user=user)
    assert ranking.item_ids == ("i2",)


@pytest.mark.parametrize(
    ("ids", "error", "message"),
    [
        ((), OptionError, "no candidates"),
        (("i1", "i1"), OptionError, "more than once: i1"),
        (("i1", "i99"), UnknownItemError, "'i99'"),
    ],
)
def test_bad_candidate_lists_are_refused(
    index: Index, user: User, ids: tuple[str, ...], error: type[Exception], message: str
) -> None:
    model = ByteModel()
    with pytest.raises(error, match=message):
        Reranker(model, index).rank(candidates(*ids), user=user)
    assert model.asked == []


def test_a_seen_candidate_may_be_asked_for(index: Index, user: User) -> None:
    assert Reranker(ByteModel(), index).rank(candidates("i0", "i2"), user=user).items[0].score


def test_cold_start_is_counted(index: Index) -> None:
    ranking = Reranker(ByteModel(), index).rank(candidates("i1", "i2"), user=User("new"))
    assert ranking.fallbacks["cold_start"] == 1


DEFAULT = DEFAULT_GATES["likelihood"].weights
FITTED = Gate({"retrieval": 2.0, "likelihood.conditional x popularity": -1.0}, popularity=(1, 2))


def test_weights_come_from_the_argument_then_the_index_then_the_defaults(
    index: Index, user: User
) -> None:
    retrieved = Retriever(index).retrieve(user, 3)
    plain = Reranker(ByteModel(), index)
    assert plain.rank(retrieved, user=user).weights == DEFAULT
    fitted = keep_gate(index, plain.weights_key, FITTED)
    assert Reranker(ByteModel(), fitted).rank(retrieved, user=user).weights == FITTED.weights
    mine: list[Gate | dict[str, float]] = [
        {"retrieval": 0.1, "likelihood": 0.1},
        Gate({"retrieval": 1.0, "likelihood.length": -0.5}),
    ]
    for some in mine:
        ranking = Reranker(ByteModel(), fitted, weights=some).rank(retrieved, user=user)
        assert ranking.weights == (some.weights if isinstance(some, Gate) else some)
        assert ranking.fallbacks == {}


def test_several_strategies_have_plain_weights(index: Index, user: User) -> None:
    retrieved = Retriever(index).retrieve(user, 3)
    both = Reranker(ByteModel(), index, strategy=["likelihood", Scripted([3, 2, 1])])
    with pytest.raises(OptionError, match="no weight for scripted"):
        both.rank(retrieved, user=user)
    names = ("retrieval", "likelihood", "pointwise")
    both = Reranker(ByteModel(), index, strategy=["likelihood", "pointwise"])
    expected = {name: ZERO_SHOT_WEIGHTS[name] for name in names}
    assert both.rank(retrieved, user=user).weights == expected


def test_the_gate_of_an_adapter_serves_a_single_strategy(index: Index, user: User) -> None:
    model, gate = ByteModel(), {"retrieval": 1.0, "likelihood.prior": -0.5}
    template = Likelihood().template
    model.adapter = AdapterRecord(
        "lora", "bytes@0", "", "", "likelihood", template.name, template.sha256, "", gate=gate
    )
    retrieved = Retriever(index).retrieve(user, 3)
    assert Reranker(model, index).rank(retrieved, user=user).weights == gate
    both = Reranker(model, index, strategy=["likelihood", "pointwise"])
    expected = {name: ZERO_SHOT_WEIGHTS[name] for name in ("retrieval", "likelihood", "pointwise")}
    assert both.rank(retrieved, user=user).weights == expected


@pytest.mark.parametrize(
    ("model", "template"),
    [(ByteModel(), "likelihood/titles"), (ByteModel(name="other"), None)],
    ids=["template", "model"],
)
def test_a_gate_applies_only_to_its_template_and_model(
    index: Index, user: User, model: ByteModel, template: str | None
) -> None:
    fitted = keep_gate(index, Reranker(ByteModel(), index).weights_key, FITTED)
    other = Reranker(model, fitted, template=template)
    assert other.rank(Retriever(index).retrieve(user, 3), user=user).weights == DEFAULT


def test_a_gate_of_other_signals_does_not_serve(index: Index, user: User) -> None:
    key = Reranker(ByteModel(), index).weights_key
    fitted = keep_gate(index, key, Gate({"retrieval": 9.0, "pointwise.conditional": 9.0}))
    ranking = Reranker(ByteModel(), fitted).rank(candidates("i1", "i2"), user=user)
    assert ranking.weights == DEFAULT
    assert ranking.fallbacks == {"weights_not_fitted": 1}


def test_without_an_index_popularity_is_unknown_and_weights_are_plain() -> None:
    scored = [{"title": "Heat", "score": 1.0}, {"title": "Dune", "score": 2.0}]
    ranking = Reranker(ByteModel()).rank(scored, history=["Alien"])
    assert ranking.weights == {"retrieval": 1.0, "likelihood": 0.2}
    assert ranking.fallbacks == {"popularity_unknown": 1}
    assert Reranker(ByteModel()).rank(["Heat", "Dune"], history=["Alien"]).fallbacks == {}
    prior = Reranker(ByteModel(), weights=FITTED).rank(scored, history=["Alien"])
    assert prior.fallbacks == {"popularity_unknown": 1}
    plain = Reranker(ByteModel(), strategy=Likelihood(prior_weight=0))
    assert plain.rank(scored, history=["Alien"]).fallbacks == {}


def test_a_part_that_the_strategy_lacks_counts_as_average(index: Index, user: User) -> None:
    gate = Gate({"retrieval": 1.0, "likelihood.prior": 5.0})
    reranker = Reranker(ByteModel(), index, strategy=Likelihood(prior_weight=0), weights=gate)
    ranking = reranker.rank(candidates("i1", "i2"), user=user)
    assert ranking.item_ids == ("i1", "i2")
    assert ranking.fallbacks == {"part_missing": 1}


def test_a_damaged_gate_names_the_way_out(index: Index, user: User) -> None:
    key = Reranker(ByteModel(), index).weights_key
    damaged = replace(index, gates={key: {"weights": {"retrieval": "much"}}})
    model = ByteModel()
    with pytest.raises(StorageError, match=r"damaged gate.*llmrec fit"):
        Reranker(model, damaged).rank(candidates("i1", "i2"), user=user)
    assert model.asked == []


def test_weights_of_another_budget_do_not_serve(index: Index) -> None:
    short = Reranker(ByteModel(), index, budget=Budget(title=2))
    assert short.weights_key != Reranker(ByteModel(), index).weights_key


def test_a_candidate_without_a_score_is_still_judged(index: Index, user: User) -> None:
    given_candidates = [Candidate("i1", 1.0, {"content": 0.5}), Candidate("i2", float("nan"), {})]
    reranker = Reranker(
        ByteModel(), index, strategy=Scripted([1, 2]), weights={"retrieval": 0.1, "scripted": 1.0}
    )
    ranking = reranker.rank(given_candidates, user=user)
    assert ranking.item_ids == ("i2", "i1")
    assert {item.status for item in ranking.items} == {Status.SCORED}
    assert ranking.fallbacks == {"signal_missing": 1}


@pytest.mark.parametrize("score", [float("inf"), -float("inf")])
def test_an_infinite_score_does_not_drown_the_others(
    index: Index, user: User, score: float
) -> None:
    given_candidates = [*candidates("i1", "i2"), Candidate("i4", score)]
    model = ByteModel()
    with pytest.raises(DataError, match=r"score -?inf is not allowed"):
        Reranker(model, index).rank(given_candidates, user=user)
    assert not model.asked


def test_a_strategy_of_its_own_name_needs_a_weight_before_it_is_asked(
    index: Index, user: User
) -> None:
    model = ByteModel()
    mine = Reranker(model, index, strategy=Likelihood(name="mine"))
    with pytest.raises(OptionError, match="no weight for mine"):
        mine.rank(candidates("i1", "i2"), user=user)
    assert not model.asked


def test_a_missing_weight_is_named(index: Index) -> None:
    with pytest.raises(OptionError, match="no weight for likelihood"):
        Reranker(ByteModel(), index, weights={"retrieval": 1.0})


def test_unknown_strategies_and_foreign_templates_are_refused(index: Index) -> None:
    with pytest.raises(OptionError, match=r"'likelyhood'.*Did you mean 'likelihood'"):
        Reranker(ByteModel(), index, strategy="likelyhood")
    with pytest.raises(PromptError, match="is for the strategy pointwise") as caught:
        Reranker(ByteModel(), index, template="pointwise/plain-list")
    assert caught.value.hint.startswith("Give --strategy pointwise (strategy='pointwise') too.")
    with pytest.raises(PromptError, match="is for the strategy explain") as caught:
        Reranker(ByteModel(), index, template="explain/shopper")
    assert caught.value.hint == "Take a template under likelihood/."
    with pytest.raises(OptionError, match="already has a template"):
        Reranker(ByteModel(), index, strategy=Likelihood(), template="likelihood/titles")


def test_without_a_model_the_retrieval_order_is_kept(index: Index, user: User) -> None:
    request = Request(user, tuple(candidates("i1", "i2")), context_of(index))
    ranking = retrieval_ranking(request)
    assert ranking.item_ids == ("i1", "i2")
    assert {item.status for item in ranking.items} == {Status.NOT_ASKED}


def test_the_same_input_gives_the_same_ranking(
    index: Index, user: User, smollm2: TransformersModel
) -> None:
    retrieved = Retriever(index).retrieve(user, 5)
    first = Reranker(smollm2, index).rank(retrieved, user=user)
    second = Reranker(smollm2, index).rank(retrieved, user=user)
    assert first.items == second.items
    assert first.usage.tokens_forwarded < first.usage.tokens_given


def test_a_strategy_cannot_take_the_name_of_the_retrievers_signal(index: Index) -> None:
    taken = Scripted([1, 2])
    taken.name = "retrieval"
    with pytest.raises(OptionError, match="name of the retriever's signal"):
        Reranker(ByteModel(), index, strategy=taken)


@pytest.mark.parametrize(("log_prob", "improbable"), [(-1.0, 0), (-9.0, 2)])
def test_improbable_labels_are_shown_and_counted(log_prob: float, improbable: int) -> None:
    reranker = Reranker(ByteModel(lambda *_: log_prob), strategy="pointwise")
    ranking = reranker.rank(["Heat", "Dune"], history=["Alien"])
    assert (ranking.label_shares["pointwise"] < 0.2) == bool(improbable)
    assert ranking.fallbacks.get("labels_improbable", 0) == improbable


def test_a_strategy_without_labels_has_no_share_of_them() -> None:
    assert Reranker(ByteModel()).rank(["Heat", "Dune"], history=["Alien"]).label_shares == {}
