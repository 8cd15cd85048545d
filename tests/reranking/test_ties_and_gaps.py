"""Neither the order that was given nor an error ever counts as what the model thinks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmrec.records import Prompt
from llmrec.reranking import (
    Calibrated,
    Listwise,
    ListwiseGenerated,
    Pairwise,
    Shuffled,
    make_strategy,
)
from llmrec.reranking.shuffling import different_orders
from tests.reranking.cases import judged_by, question, worth_of
from tests.reranking.oracle import Oracle


def test_one_decided_candidate_does_not_bring_the_given_order_back() -> None:
    """It wins all its pairs; of every other pair the model names the first, whichever that is."""

    def label(title: str, place: int, _prompt: Prompt) -> float:
        return 5.0 if title == "Kite 7" else -1.5 * place

    judged = judged_by(Pairwise(), Oracle(label), question(12))
    others = np.delete(judged.scores, 7)
    assert judged.scores[7] > others.max()
    assert np.ptp(others) == 0


def test_a_decided_order_is_a_strict_one() -> None:
    judged = judged_by(Pairwise(), Oracle(lambda title, *_: worth_of(title)), question(12))
    worth = np.array([worth_of(f"Kite {i}") for i in range(12)])
    best = np.argsort(-worth)[:10]
    assert (np.diff(judged.scores[best]) < 0).all()
    assert judged.scores[np.argsort(-worth)[10:]].max() < judged.scores[best].min()


@pytest.mark.parametrize(("text", "named"), [("[C]", [2]), ("[C] > [A]", [2, 0])])
def test_unnamed_candidates_share_the_lowest_score(text: str, named: list[int]) -> None:
    judged = judged_by(ListwiseGenerated(), Oracle(lambda *_: 0.0, lambda *_: text), question(9))
    assert np.argsort(-judged.scores, kind="stable")[: len(named)].tolist() == named
    assert np.ptp(np.delete(judged.scores, named)) == 0
    assert np.delete(judged.scores, named).max() < judged.scores[named].min()


@pytest.mark.parametrize("unread", ["Kite 23", "Kite 0"])
def test_candidates_without_a_readable_window_are_unscored(unread: str) -> None:
    def write(prompt: str, labels: Sequence[str], order: list[str]) -> str:
        lines = prompt.splitlines()
        hidden = any(line.endswith(unread) for line in lines)
        return "?" if hidden else " > ".join(f"[{label}]" for label in order)

    model = Oracle(lambda title, *_: worth_of(title), write)
    judged = judged_by(ListwiseGenerated(), model, question(24))
    missing = set(np.flatnonzero(np.isnan(judged.scores)).tolist())
    # The last window holds 4 to 23, the first 0 to 3 and the ten that came out on top there.
    assert missing == (set(range(14, 24)) if unread == "Kite 23" else set(range(4)))
    assert judged.fallbacks["answer_missing"] == 1


def test_asking_stops_where_the_best_keep_their_order() -> None:
    oracle = Oracle(lambda title, *_: worth_of(title))
    all_of_them = judged_by(Shuffled(Listwise(), 20), oracle, question(9)).usage.prompts
    stable = Shuffled(Listwise(), 20, stable_top=5)
    assert judged_by(stable, oracle, question(9)).usage.prompts == 6 < all_of_them == 20


@settings(deadline=None)
@given(st.integers(1, 9), st.integers(1, 40), st.integers(0, 2**32))
def test_orders_are_really_different(n: int, times: int, seed: int) -> None:
    orders = different_orders(n, times, np.random.default_rng(seed))
    told = [tuple(order.tolist()) for order in orders]
    assert len(set(told)) == len(told) == min(times, int(np.prod(range(1, n + 1))))
    assert all(sorted(order) == list(range(n)) for order in told)


def test_a_strategy_orders_as_many_as_are_wanted() -> None:
    oracle = Oracle(lambda title, *_: worth_of(title))
    worth = np.argsort([-worth_of(f"Kite {i}") for i in range(16)])
    for name in ("setwise", "pairwise"):
        whole = judged_by(make_strategy(name, top=16), oracle, question(16)).scores
        assert np.argsort(-whole, kind="stable").tolist() == worth.tolist()
        usual = judged_by(make_strategy(name), oracle, question(16)).scores
        assert len(set(usual.tolist())) == 11  # ten places, and one for all others


def test_priors_of_lists_are_not_remembered_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmrec.reranking.calibration.MOST_KNOWN", 5)
    calibrated, oracle = Calibrated(Listwise()), Oracle(lambda title, *_: worth_of(title))
    for user in range(20):
        judged_by(calibrated, oracle, question(4, first=4 * user))
    assert 0 < len(calibrated._known) <= 5
