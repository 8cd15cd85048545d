"""What holds of every strategy, plain or wrapped, whatever the model answers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llmrec.errors import OptionError
from llmrec.models import Generated, TransformersModel
from llmrec.models.labels import label_tokens
from llmrec.prompting import Context
from llmrec.records import Candidate, Interaction, Item, Prompt, Usage, User
from llmrec.reranking import (
    Listwise,
    ListwiseGenerated,
    Pairwise,
    Pointwise,
    Question,
    Reranker,
    Shuffled,
)
from llmrec.reranking.groups import LabelledGroups
from llmrec.reranking.shuffling import MOST_SHUFFLES
from llmrec.retrieval import Index
from tests.reranking.cases import (
    EXACT,
    GROUPS,
    WRAPPED,
    garbage,
    judged_by,
    question,
    ranking,
    whims,
    worth_of,
)
from tests.reranking.oracle import Oracle


@pytest.mark.parametrize("n", [1, 7, 24])
@pytest.mark.parametrize("wrapped", WRAPPED)
@pytest.mark.parametrize("name", EXACT)
def test_a_model_that_knows_the_order_gives_the_order(name: str, wrapped: str, n: int) -> None:
    make, exact = EXACT[name]
    asked = question(n)
    worth = [worth_of(item.title) for item in asked.candidates]
    assert len(set(worth)) == n
    judged = judged_by(WRAPPED[wrapped](make()), Oracle(lambda title, *_: worth_of(title)), asked)
    best = ranking(np.array(worth))
    assert ranking(judged.scores)[:exact] == best[:exact]
    assert judged.fallbacks == {}


@pytest.mark.parametrize("name", GROUPS)
def test_a_model_that_likes_places_alone_comes_out_flat_once_shuffled(name: str) -> None:
    place_lover = Oracle(lambda _title, place, _prompt: -1.5 * place)
    strategy, asked = EXACT[name][0](), question(12)
    plain = np.ptp(judged_by(strategy, place_lover, asked).scores)
    some = np.ptp(judged_by(Shuffled(strategy, 4), place_lover, asked).scores)
    every = np.ptp(judged_by(Shuffled(strategy, 12), place_lover, asked).scores)
    assert every == pytest.approx(0, abs=1e-9)
    assert some <= plain / 2


@pytest.mark.parametrize("top", [10, None])
def test_the_order_given_is_no_judgement_where_all_pairs_are_ties(top: int | None) -> None:
    place_lover = Oracle(lambda _title, place, _prompt: -1.5 * place)
    judged = judged_by(Pairwise(top=top), place_lover, question(9))
    assert np.ptp(judged.scores) == 0
    assert judged.fallbacks["order_conflict"] > 0


@pytest.mark.parametrize("wrapped", ["plain", "calibrated"])
@pytest.mark.parametrize("name", ["setwise", "pairwise", "tournament", "listwise in windows of 5"])
def test_candidates_without_an_answered_group_are_unscored(name: str, wrapped: str) -> None:
    """Three of 24 candidates spoil every prompt they stand in; some groups never hold them."""
    spoilt = {"Kite 21", "Kite 22", "Kite 23"}

    def label(title: str, _place: int, prompt: Prompt) -> float | None:
        shown = prompt.text or prompt.user
        return None if any(f"{one}\n" in f"{shown}\n" for one in spoilt) else worth_of(title)

    judged = judged_by(WRAPPED[wrapped](EXACT[name][0]()), Oracle(label), question(24))
    assert np.isnan(judged.scores[21:]).all()
    assert np.isfinite(judged.scores[:10]).all()
    assert judged.fallbacks["no_answer"] > 0


def test_ranking_is_complete_for_any_answer() -> None:
    vectors: list[int] = []

    @settings(max_examples=1000, deadline=None)
    @given(
        st.sampled_from(sorted(EXACT)),
        st.sampled_from(sorted(WRAPPED)),
        st.integers(1, 12),
        st.integers(),
    )
    def is_complete(name: str, wrapped: str, n: int, seed: int) -> None:
        asked = question(n)
        first, again = (
            (model, judged_by(WRAPPED[wrapped](EXACT[name][0]()), model, asked))
            for model in (Oracle(whims(seed), garbage(seed)) for _ in range(2))
        )
        model, judged = first
        vectors.append(model.vectors)
        assert judged.scores.shape == (n,)
        assert sorted(ranking(judged.scores)) == list(range(n))
        assert not np.isinf(judged.scores).any()
        np.testing.assert_array_equal(judged.scores, again[1].scores)
        assert judged.fallbacks == again[1].fallbacks
        failed = judged.fallbacks.get("request_failed", 0)
        assert failed == model.failed or (wrapped in {"shuffled", "both"} and failed > model.failed)
        if wrapped == "plain" and name in GROUPS:
            assert judged.fallbacks.get("no_answer", 0) == model.failed
        if model.vectors and model.failed == model.vectors:
            assert np.isnan(judged.scores).all()
        if wrapped == "plain" and name in {"pointwise", "graded"}:
            assert np.isnan(judged.scores).sum() == model.failed

    is_complete()
    assert sum(vectors) > 10_000


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(sorted(EXACT)),
    st.sampled_from(sorted(WRAPPED)),
    st.integers(1, 12),
    st.integers(),
    st.lists(st.one_of(st.floats(allow_infinity=False), st.just(0.5)), min_size=12, max_size=12),
)
def test_reranking_permutes_candidates_for_any_answer(
    name: str, wrapped: str, n: int, seed: int, scores: list[float]
) -> None:
    asked = question(n)
    index = Index(dict(asked.context.items), np.eye(len(asked.context.items), dtype=np.float32))
    candidates = [
        Candidate(item.item_id, score)
        for item, score in zip(asked.candidates, scores, strict=False)
    ]
    first, again = (
        Reranker(
            Oracle(whims(seed), garbage(seed)), index, strategy=WRAPPED[wrapped](EXACT[name][0]())
        ).rank(candidates, user=asked.user)
        for _ in range(2)
    )
    assert first == again
    assert sorted(item.item_id for item in first.items) == sorted(c.item_id for c in candidates)
    assert [item.rank for item in first.items] == list(range(1, n + 1))
    given_scores = [item.score for item in first.items if item.score is not None]
    assert given_scores == sorted(given_scores, reverse=True)
    assert np.isfinite(given_scores).all()
    unscored = first.fallbacks.get("unscored", 0)
    assert [item.score is None for item in first.items] == [False] * (n - unscored) + [
        True
    ] * unscored


@pytest.mark.parametrize("wrapped", WRAPPED)
@pytest.mark.parametrize("name", sorted(set(EXACT) - {"listwise-generated"}))
def test_without_any_answer_there_is_no_score(name: str, wrapped: str) -> None:
    mute = Oracle(lambda *_: None)
    judged = judged_by(WRAPPED[wrapped](EXACT[name][0]()), mute, question(8))
    assert np.isnan(judged.scores).all()
    assert judged.fallbacks["request_failed"] >= mute.failed > 0  # shuffles share prompts


@pytest.mark.parametrize("n", [5, 24])
@pytest.mark.parametrize("text", ["", "I'm sorry, I can't.", "All of them."])
def test_without_a_readable_order_there_is_no_score(text: str, n: int) -> None:
    model = Oracle(lambda *_: 0.0, lambda *_: text)
    judged = judged_by(ListwiseGenerated(), model, question(n))
    assert np.isnan(judged.scores).all()
    assert judged.fallbacks["answer_missing"] == (1 if n == 5 else 2)


def test_a_generation_that_failed_is_no_answer_to_find_faults_in() -> None:
    class Down(Oracle):
        def generate(self, prompts: Sequence[Prompt], **_: object) -> Generated:
            return Generated(("",), Usage(), {}, (False,), (0,), ("request_failed",))

    judged = judged_by(ListwiseGenerated(), Down(lambda *_: 0.0), question(5))
    assert np.isnan(judged.scores).all()
    assert judged.fallbacks == {"request_failed": 1}


def test_a_window_that_cannot_be_read_stays_as_it_was_and_is_counted() -> None:
    def write(prompt: str, labels: Sequence[str], order: list[str]) -> str:
        return "?" if "Kite 23" in prompt else " > ".join(f"[{label}]" for label in order[:9])

    model = Oracle(lambda title, *_: worth_of(title), write)
    judged = judged_by(ListwiseGenerated(), model, question(24))
    head = ranking(np.array([worth_of(f"Kite {i}") for i in range(14)]))
    assert ranking(judged.scores)[:9] == head[:9]
    assert ranking(judged.scores)[14:] == list(range(14, 24))
    assert judged.fallbacks == {"answer_missing": 2}


FILMS = ("Jaws", "Jurassic Park", "Seven Days in May", "Casablanca", "Fargo", "Brazil")


def films(n: int) -> Question:
    items = {str(i): Item(str(i), title) for i, title in enumerate(FILMS)}
    seen = (Interaction("u", "0", 5.0, 1), Interaction("u", "1", 4.0, 2))
    return Question(User("u", seen), tuple(items.values())[len(items) - n :], Context(items))


def test_listwise_scores_are_those_of_an_ordinary_forward(smollm2: TransformersModel) -> None:
    asked, strategy = films(4), Listwise()
    judged = judged_by(strategy, smollm2, asked)
    (prompt,) = LabelledGroups(strategy.template, asked, smollm2).prompts([range(4)])
    with torch.inference_mode():
        tokens = torch.tensor([smollm2.encode_prompts([prompt])[0].tolist()])
        last = smollm2.model(input_ids=tokens).logits[0, -1].log_softmax(-1)
    expected = [float(last[list(label_tokens(smollm2, label))].logsumexp(0)) for label in "ABCD"]
    assert judged.scores == pytest.approx(expected, abs=1e-3)
    assert judged.fallbacks == {}


@pytest.mark.parametrize("strategy", [ListwiseGenerated(), ListwiseGenerated(window=4, step=2)])
def test_constrained_model_writes_a_complete_order(
    smollm2: TransformersModel, strategy: ListwiseGenerated
) -> None:
    judged = judged_by(strategy, smollm2, films(6))
    assert sorted(judged.scores) == [1, 2, 3, 4, 5, 6]
    assert judged.fallbacks == {}
    assert judged.usage.tokens_generated > 0


@pytest.mark.parametrize("times", [0, -1, MOST_SHUFFLES + 1, 10**9, 10**400])
def test_the_number_of_shuffles_has_limits(times: int) -> None:
    with pytest.raises(OptionError, match="allowed are 1 to 1,000"):
        Shuffled(Pointwise(), times)
