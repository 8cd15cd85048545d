from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmrec.errors import DataError, OptionError, PromptError, UnknownItemError
from llmrec.models import TransformersModel
from llmrec.prompting import Budget, context_of
from llmrec.records import Candidate, Status, User
from llmrec.reranking import (
    ZERO_SHOT_WEIGHTS,
    Judgement,
    Likelihood,
    Question,
    Request,
    Reranker,
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


def test_weights_come_from_the_argument_then_the_index_then_zero_shot(
    index: Index, user: User
) -> None:
    retrieved = Retriever(index).retrieve(user, 3)
    names = ("retrieval", "likelihood")
    plain = Reranker(ByteModel(), index)
    assert plain.rank(retrieved, user=user).weights == {n: ZERO_SHOT_WEIGHTS[n] for n in names}
    fitted = dict.fromkeys(names, 0.5)
    fitted_index = index.with_weights(plain.weights_key, fitted)
    assert Reranker(ByteModel(), fitted_index).rank(retrieved, user=user).weights == fitted
    mine = dict.fromkeys(names, 0.1)
    assert (
        Reranker(ByteModel(), fitted_index, weights=mine).rank(retrieved, user=user).weights == mine
    )


def test_fitted_weights_apply_only_to_their_key(index: Index, user: User) -> None:
    retrieved = Retriever(index).retrieve(user, 3)
    key = Reranker(ByteModel(), index).weights_key
    fitted_index = index.with_weights(key, {"retrieval": 9.0, "likelihood": 9.0})
    other = Reranker(ByteModel(), fitted_index, template="likelihood/titles")
    assert other.rank(retrieved, user=user).weights["likelihood"] == ZERO_SHOT_WEIGHTS["likelihood"]


def test_weights_fitted_for_other_signals_do_not_serve_foreign_candidates(
    index: Index, user: User
) -> None:
    key = Reranker(ByteModel(), index).weights_key
    fitted = index.with_weights(key, {"content": 9.0, "popularity": 9.0, "likelihood": 9.0})
    ranking = Reranker(ByteModel(), fitted).rank(candidates("i1", "i2"), user=user)
    assert ranking.weights == {"retrieval": 1.0, "likelihood": ZERO_SHOT_WEIGHTS["likelihood"]}
    assert ranking.fallbacks == {"weights_not_fitted": 1}


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
    with pytest.raises(PromptError, match="is for the strategy pointwise"):
        Reranker(ByteModel(), index, template="pointwise/plain-list")
    with pytest.raises(PromptError, match="is for the strategy explain"):
        Reranker(ByteModel(), index, template="explain/plain")
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
