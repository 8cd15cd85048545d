from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from llmrec.errors import DataError, OptionError
from llmrec.models import LanguageModel
from llmrec.records import Candidate, Interaction, Item, Review
from llmrec.reranking import (
    Judgement,
    Question,
    Request,
    Reranker,
    catalogue_scale,
    fit_gate,
)
from llmrec.reranking.fitting import hold_out_last, judged_lists
from llmrec.reranking.strategy import Conversation
from llmrec.retrieval import Index
from tests.reranking.conftest import ByteModel

N_ITEMS = 12


def _index(histories: Mapping[str, str], reviews: tuple[Review, ...] = ()) -> Index:
    """Items a, b, c...; a history is a word of them, oldest first."""
    ids = [chr(ord("a") + i) for i in range(N_ITEMS)]
    vectors = np.random.default_rng(1).normal(size=(N_ITEMS, 4)).astype(np.float32)
    return Index(
        items={item_id: Item(item_id, f"Title {item_id}") for item_id in ids},
        vectors=vectors / np.linalg.norm(vectors, axis=1, keepdims=True),
        interactions=tuple(
            Interaction(user_id, item_id, None, time)
            for user_id, items in histories.items()
            for time, item_id in enumerate(items)
        ),
        reviews=reviews,
    )


HISTORIES = {"u1": "abcd", "u2": "bcae", "u3": "cabf", "u4": "abc", "u5": "dcbaag"}


@dataclass(frozen=True)
class Told:
    """A strategy that is told the targets, and says so as far as it is ``right``."""

    targets: Mapping[str, str]
    right: float
    name: str = "told"
    key: str = "told"
    asked: list[Question] = field(default_factory=list)

    def ask(self, question: Question, model: LanguageModel) -> Conversation[Judgement]:
        yield []
        self.asked.append(question)
        target = self.targets[question.user.user_id]
        chance = np.random.default_rng(len(self.asked)).normal(size=len(question.candidates))
        scores = [self.right * (item.item_id == target) for item in question.candidates]
        return Judgement(np.array(scores) + 0.1 * chance)


def place_of(request: Request) -> int:
    (target,) = request.relevant
    return [candidate.item_id for candidate in request.candidates].index(target)


def target_of(request: Request) -> Candidate:
    return request.candidates[place_of(request)]


def test_last_interactions_are_in_no_history_and_no_popularity() -> None:
    index = _index(HISTORIES)
    held = hold_out_last(index, n_candidates=N_ITEMS)
    targets = {each.user.user_id: target_of(each).item_id for each in held.requests}

    assert targets == {"u1": "d", "u2": "e", "u3": "f", "u5": "g"}
    assert held.tried == 4
    counts = dict(zip(held.index.item_ids, held.index.popularity, strict=True))
    # u4 has three items and stays whole; u5's second "a" is no second meeting.
    assert counts == {"a": 5, "b": 5, "c": 5, "d": 1, **dict.fromkeys("efghijkl", 0)}
    for each in held.requests:
        history = [row.item_id for row in each.user.history]
        assert history == list(dict.fromkeys(HISTORIES[each.user.user_id]))[:-1]
        assert {candidate.item_id for candidate in each.candidates}.isdisjoint(history)
    assert len(index.interactions) == 21


def test_popularity_among_the_signals_does_not_know_the_target() -> None:
    held = hold_out_last(_index(HISTORIES), n_candidates=N_ITEMS)
    for each in held.requests:
        target = target_of(each)
        counted = 1 if target.item_id == "d" else 0
        assert target.signals["popularity"] == pytest.approx(np.log1p(counted))


def test_remaining_history_keeps_order_at_equal_times() -> None:
    index = _index({"u1": "abcde"})
    same_time = tuple(replace(row, timestamp=0) for row in index.interactions)
    held = hold_out_last(replace(index, interactions=same_time), n_candidates=N_ITEMS)
    assert [row.item_id for row in held.requests[0].user.history] == list("abcd")


def test_review_of_the_target_is_held_out() -> None:
    reviews = (
        Review("d", "Mine.", user_id="u1"),
        Review("a", "Mine, of another item.", user_id="u1"),
        Review("d", "Another's.", user_id="u2"),
        Review("d", "Nobody's."),
    )
    held = hold_out_last(_index(HISTORIES, reviews), n_candidates=N_ITEMS)
    assert held.index.reviews == reviews[1:]


def test_lists_without_the_target_do_not_count() -> None:
    index = _index(HISTORIES)
    every = hold_out_last(index, n_candidates=N_ITEMS)
    best = min(place_of(each) for each in every.requests)
    some = hold_out_last(index, n_candidates=best + 1)
    assert some.tried == 4
    assert {each.user.user_id for each in some.requests} == {
        each.user.user_id for each in every.requests if place_of(each) == best
    }
    assert all(len(each.candidates) == best + 1 for each in some.requests)


def test_users_are_drawn_by_seed() -> None:
    index = _index({f"u{i}": "abcd" for i in range(9)})

    def drawn(seed: int) -> list[str]:
        held = hold_out_last(index, n_candidates=N_ITEMS, users=3, seed=seed)
        assert held.tried == 3
        return [each.user.user_id for each in held.requests]

    assert drawn(0) == drawn(0)
    assert {tuple(drawn(seed)) for seed in range(4)} != {tuple(drawn(0))}


def test_numbers_below_one_are_refused() -> None:
    index = _index(HISTORIES)
    with pytest.raises(OptionError, match="candidates is 0"):
        hold_out_last(index, n_candidates=0)
    with pytest.raises(OptionError, match="users is 0"):
        hold_out_last(index, users=0)


def test_no_list_at_all_is_an_error() -> None:
    with pytest.raises(DataError, match="of the 0 users with four items or more"):
        hold_out_last(_index({"u1": "abc"}))


@pytest.mark.parametrize(("right", "kept"), [(1.0, True), (0.0, False)])
def test_a_model_that_knows_something_gets_a_weight(right: float, kept: bool) -> None:
    chance = np.random.default_rng(0)
    letters = list("abcdefghijkl")
    index = _index({f"u{i}": "".join(chance.permutation(letters)[:5]) for i in range(40)})
    held = hold_out_last(index, n_candidates=N_ITEMS)
    targets = {each.user.user_id: target_of(each).item_id for each in held.requests}
    told = Told(targets, right)
    reranker = Reranker(ByteModel(), held.index, strategy=told)
    lists, _ = judged_lists(reranker, held.requests)

    assert tuple(lists.signals) == ("retrieval", "told")
    assert lists.targets is not None
    assert lists.targets.tolist() == [place_of(each) for each in held.requests]
    assert lists.history.tolist() == [len(each.user.history) for each in held.requests]
    assert [q.user for q in told.asked] == [each.user for each in held.requests]
    fitted = fit_gate(lists, popularity=catalogue_scale(held.index.popularity))
    assert fitted.lists == 40
    assert ("told" in fitted.gate.parts) == kept
    assert (fitted.p_values["told"] < 0.01) == kept
    assert (fitted.best == "gate") == kept
