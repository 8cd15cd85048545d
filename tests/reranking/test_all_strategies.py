"""What holds of every strategy, plain or wrapped, whatever the model answers."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeAlias

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from llmrec.language_models import LabelRequest, LogProbs, TransformersModel
from llmrec.language_models.labels import label_tokens
from llmrec.prompting import Prompt
from llmrec.records import Interaction, Item, Usage, User
from llmrec.reranking import (
    Calibrated,
    Graded,
    Judgement,
    Likelihood,
    Listwise,
    ListwiseGenerated,
    Pairwise,
    Pointwise,
    Question,
    Setwise,
    Shuffled,
    Strategy,
    Tournament,
    judge,
)
from llmrec.reranking.labelled import BLANK, LabelledGroups, stand_ins
from tests.reranking.oracle import NOBODY, Oracle

Scores: TypeAlias = NDArray[np.float64]


def question(n: int, user: str = "u", first: int = 0) -> Question:
    items = {f"k{i}": Item(f"k{i}", f"Kite {i}") for i in range(first, first + n)}
    past = {f"m{i}": Item(f"m{i}", f"Mug {i}") for i in range(3)}
    history = tuple(Interaction(user, item_id, 5.0, time) for time, item_id in enumerate(past))
    return Question(User(user, history), tuple(items.values()), {**items, **past})


def judged_by(strategy: Strategy, model: Oracle | TransformersModel, asked: Question) -> Judgement:
    (judgement,) = judge(model, strategy, [asked])
    return judgement


def ranking(scores: Scores) -> list[int]:
    """Best first, those without a score last, of equals the one that was given first."""
    return [
        int(place)
        for place in np.argsort(np.where(np.isnan(scores), np.inf, -scores), kind="stable")
    ]


# Each with the number of places that it has to get right of many.
EXACT: dict[str, tuple[Callable[[], Strategy], int]] = {
    "pointwise": (Pointwise, 1000),
    "graded": (Graded, 1000),
    "likelihood": (Likelihood, 1000),
    "listwise": (Listwise, 10),
    "listwise in windows of 5": (lambda: Listwise(window=5, step=2), 3),
    "listwise-generated": (ListwiseGenerated, 10),
    "setwise": (Setwise, 10),
    "pairwise": (Pairwise, 10),
    "all pairs": (lambda: Pairwise(top=None), 1000),
    "tournament": (Tournament, 10),
    "tournament of 4": (lambda: Tournament(top=2, window=4), 2),
}
WRAPPED: dict[str, Callable[[Strategy], Strategy]] = {
    "plain": lambda strategy: strategy,
    "calibrated": Calibrated,
    "shuffled": lambda strategy: Shuffled(strategy, 3),
    "both": lambda strategy: Shuffled(Calibrated(strategy), 4, stable_top=2),
}
GROUPS = sorted(set(EXACT) - {"pointwise", "graded", "likelihood", "listwise-generated"})


def worth_of(title: str) -> float:
    """A preference that nothing but the item decides; nothing is known of ``N/A``."""
    return 0.0 if title == NOBODY else zlib.crc32(title.encode()) % 9973 / 2500 - 2


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


@pytest.mark.parametrize("n", [2, 9, 24])
@pytest.mark.parametrize("name", GROUPS)
def test_a_model_that_likes_places_alone_keeps_the_order_once_calibrated(name: str, n: int) -> None:
    place_lover = Oracle(lambda _title, place, _prompt: -1.5 * place)
    strategy = EXACT[name][0]()
    judged = judged_by(Calibrated(strategy), place_lover, question(n))
    assert ranking(judged.scores) == list(range(n))
    assert "order_conflict" not in judged.fallbacks
    if name in {"all pairs", "pairwise"} or (name == "listwise" and n <= 20):
        assert np.ptp(judged.scores) == 0


@pytest.mark.parametrize("name", GROUPS)
def test_a_model_that_likes_places_alone_comes_out_flat_once_shuffled(name: str) -> None:
    place_lover = Oracle(lambda _title, place, _prompt: -1.5 * place)
    strategy, asked = EXACT[name][0](), question(12)
    plain = np.ptp(judged_by(strategy, place_lover, asked).scores)
    some = np.ptp(judged_by(Shuffled(strategy, 4), place_lover, asked).scores)
    every = np.ptp(judged_by(Shuffled(strategy, 12), place_lover, asked).scores)
    assert every == pytest.approx(0, abs=1e-9)
    assert some <= plain / 2


@pytest.mark.parametrize("n", [2, 9])
def test_a_bias_that_only_real_titles_wake_is_taken_off_too(n: int) -> None:
    woken = Oracle(lambda title, place, _prompt: 0.0 if title == NOBODY else -1.5 * place)
    asked = question(n)
    others = {f"o{i}": Item(f"o{i}", f"Kite {100 + i}") for i in range(20)}
    items = {**asked.items, **others}
    asked = replace(asked, items=items, pool=tuple(items))
    strategy = Calibrated(Listwise())
    assert np.ptp(judged_by(strategy, woken, asked).scores) == pytest.approx(0)
    assert np.ptp(judged_by(strategy, woken, replace(asked, pool=())).scores) > 1


def test_stand_ins_are_other_items_whatever_the_order() -> None:
    asked = question(9)
    items = {**asked.items, **{f"o{i}": Item(f"o{i}", f"Other {i}") for i in range(12)}}
    asked = replace(asked, items=items, pool=tuple(items))
    found = stand_ins(asked, 9)
    assert len({item.item_id for item in found}) == 9
    assert {item.item_id[0] for item in found} == {"o"}
    turned = replace(asked, candidates=asked.candidates[::-1])
    assert stand_ins(turned, 9) == found
    assert stand_ins(replace(asked, candidates=asked.candidates[1:]), 9) != found
    few = stand_ins(replace(asked, pool=tuple(items)[:15]), 9)  # nine kites, three mugs
    assert few == [BLANK] * 9  # never some of both
    assert stand_ins(replace(asked, pool=()), 3) == [BLANK] * 3


@pytest.mark.parametrize("others", [0, 3, 12, 20])
def test_calibration_in_a_small_catalogue_makes_no_order_of_its_own(others: int) -> None:
    likes_items = Oracle(lambda title, _place, _prompt: 0.0 if title == NOBODY else 3.0)
    asked = question(20)
    items = {**asked.items, **{f"o{i}": Item(f"o{i}", f"Kite {100 + i}") for i in range(others)}}
    asked = replace(asked, items=items, pool=tuple(items))
    judged = judged_by(Calibrated(Listwise()), likes_items, asked)
    assert np.ptp(judged.scores) == pytest.approx(0)


def test_stand_ins_too_long_for_the_model_cost_no_user() -> None:
    short = Oracle(lambda title, *_: worth_of(title), max_length=200)
    asked = question(9)
    long = {f"o{i}": Item(f"o{i}", f"Kite {100 + i} " + "word " * 60) for i in range(20)}
    items = {**asked.items, **long}
    judged = judged_by(
        Calibrated(Listwise()), short, replace(asked, items=items, pool=tuple(items))
    )
    assert ranking(judged.scores) == ranking(
        np.array([worth_of(c.title) for c in asked.candidates])
    )


@pytest.mark.parametrize("top", [10, None])
def test_the_order_given_is_no_judgement_where_all_pairs_are_ties(top: int | None) -> None:
    place_lover = Oracle(lambda _title, place, _prompt: -1.5 * place)
    judged = judged_by(Pairwise(top=top), place_lover, question(9))
    assert np.ptp(judged.scores) == 0
    assert judged.fallbacks["order_conflict"] > 0


@pytest.mark.parametrize("wrapped", ["plain", "calibrated"])
@pytest.mark.parametrize("name", ["setwise", "pairwise", "tournament", "listwise in windows of 5"])
def test_who_stood_in_no_answered_group_is_not_judged(name: str, wrapped: str) -> None:
    """Three of 24 candidates spoil every prompt they stand in; some groups never hold them."""
    spoilt = {"Kite 21", "Kite 22", "Kite 23"}

    def label(title: str, _place: int, prompt: Prompt) -> float | None:
        shown = prompt.text or prompt.user
        return None if any(f"{one}\n" in f"{shown}\n" for one in spoilt) else worth_of(title)

    judged = judged_by(WRAPPED[wrapped](EXACT[name][0]()), Oracle(label), question(24))
    assert np.isnan(judged.scores[21:]).all()
    assert np.isfinite(judged.scores[:10]).all()
    assert judged.fallbacks["no_answer"] > 0


def whims(seed: int) -> Callable[[str, int, Prompt], float | None]:
    """Answers that contradict each other, tie, are 0 in probability, or do not come at all."""

    def answer(title: str, place: int, prompt: Prompt) -> float | None:
        told = zlib.crc32(f"{seed}{prompt.system}{prompt.user}{prompt.text}".encode())
        if told % 5 == 0:
            return None
        own = zlib.crc32(f"{told}{title}{place}".encode())
        return (float("-inf"), 0.0, -1.0, -1e300, -own % 1000 / 100)[own // 7 % 5]

    return answer


def garbage(seed: int) -> Callable[[str, Sequence[str], list[str]], str]:
    def write(prompt: str, labels: Sequence[str], order: list[str]) -> str:
        chance = np.random.default_rng(zlib.crc32(f"{seed}{prompt}".encode()))
        parts = [*labels, "[A] > [B]", "[Z]", " > ", "Plan [B]", "\n", "[", "I cannot", "C, A", ""]
        return "".join(str(part) for part in chance.choice(parts, int(chance.integers(0, 9))))

    return write


VECTORS: list[int] = []


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(sorted(EXACT)),
    st.sampled_from(sorted(WRAPPED)),
    st.integers(1, 12),
    st.integers(),
)
def test_whatever_is_answered_the_ranking_is_whole(
    name: str, wrapped: str, n: int, seed: int
) -> None:
    asked = question(n)
    first, again = (
        (model, judged_by(WRAPPED[wrapped](EXACT[name][0]()), model, asked))
        for model in (Oracle(whims(seed), garbage(seed)) for _ in range(2))
    )
    model, judged = first
    VECTORS.append(model.vectors)
    assert judged.scores.shape == (n,)
    assert sorted(ranking(judged.scores)) == list(range(n))
    assert not np.isinf(judged.scores).any()
    np.testing.assert_array_equal(judged.scores, again[1].scores)
    assert judged.fallbacks == again[1].fallbacks
    assert judged.fallbacks.get("request_failed", 0) == model.failed
    if wrapped == "plain" and name in GROUPS:
        assert judged.fallbacks.get("no_answer", 0) == model.failed
    if model.vectors and model.failed == model.vectors:
        assert np.isnan(judged.scores).all()
    if wrapped == "plain" and name in {"pointwise", "graded"}:
        assert np.isnan(judged.scores).sum() == model.failed


def test_many_vectors_were_tried() -> None:
    if VECTORS:
        assert sum(VECTORS) > 3000


@pytest.mark.parametrize("wrapped", WRAPPED)
@pytest.mark.parametrize("name", sorted(set(EXACT) - {"listwise-generated"}))
def test_without_any_answer_there_is_no_score(name: str, wrapped: str) -> None:
    mute = Oracle(lambda *_: None)
    judged = judged_by(WRAPPED[wrapped](EXACT[name][0]()), mute, question(8))
    assert np.isnan(judged.scores).all()
    assert judged.fallbacks["request_failed"] == mute.failed > 0


@pytest.mark.parametrize("n", [5, 24])
@pytest.mark.parametrize("text", ["", "I'm sorry, I can't.", "All of them."])
def test_without_a_readable_order_there_is_no_score(text: str, n: int) -> None:
    model = Oracle(lambda *_: 0.0, lambda *_: text)
    judged = judged_by(ListwiseGenerated(), model, question(n))
    assert np.isnan(judged.scores).all()
    assert judged.fallbacks["answer_missing"] == (1 if n == 5 else 2)


def test_a_window_that_cannot_be_read_stays_as_it_was_and_is_counted() -> None:
    def write(prompt: str, labels: Sequence[str], order: list[str]) -> str:
        return "?" if "Kite 23" in prompt else " > ".join(f"[{label}]" for label in order[:9])

    model = Oracle(lambda title, *_: worth_of(title), write)
    judged = judged_by(ListwiseGenerated(), model, question(24))
    head = ranking(np.array([worth_of(f"Kite {i}") for i in range(14)]))
    assert ranking(judged.scores)[:9] == head[:9]
    assert ranking(judged.scores)[14:] == list(range(14, 24))
    assert judged.fallbacks == {"answer_missing": 2}


def test_a_failed_prior_is_not_remembered() -> None:
    failing = [True]

    def label(title: str, _place: int, prompt: Prompt) -> float | None:
        unknown = "Mug" not in f"{prompt.user}{prompt.text}" or title == NOBODY
        return None if unknown and failing[0] else worth_of(title)

    model = Oracle(label)
    for strategy in (Likelihood(), Calibrated(Listwise()), Calibrated(Graded())):
        failing[0] = True
        assert np.isnan(judged_by(strategy, model, question(3)).scores).all()
        failing[0] = False
        assert np.isfinite(judged_by(strategy, model, question(3)).scores).all()


@pytest.mark.parametrize("wrapped", WRAPPED)
@pytest.mark.parametrize("name", EXACT)
def test_questions_asked_together_are_answered_as_one_by_one(name: str, wrapped: str) -> None:
    asked = [question(5), question(9, "v", first=3), question(1, "w"), question(12, "x", first=7)]
    model = Oracle(whims(3), garbage(3))
    strategy = WRAPPED[wrapped](EXACT[name][0]())
    together = judge(model, strategy, asked)
    for judged, one in zip(together, asked, strict=True):
        alone = judged_by(WRAPPED[wrapped](EXACT[name][0]()), Oracle(whims(3), garbage(3)), one)
        np.testing.assert_array_equal(judged.scores, alone.scores)
    total = sum((judged.usage for judged in together), Usage())
    assert total.seconds == pytest.approx(model.spent.seconds)
    assert replace(total, seconds=0, prompts=0) == replace(model.spent, seconds=0, prompts=0)


def test_usage_is_shared_out_where_nothing_was_answered() -> None:
    class Down(Oracle):
        def label_log_probs(self, requests: Sequence[LabelRequest]) -> LogProbs:
            values = tuple(np.full(len(request.labels), np.nan) for request in requests)
            return LogProbs(values, Usage(seconds=4.0, forwards=2), {}, (0,) * len(requests))

    judged = judge(Down(lambda *_: None), Pointwise(), [question(2), question(2, "v")])
    assert [each.usage.seconds for each in judged] == [2.0, 2.0]
    assert [each.usage.forwards for each in judged] == [1, 1]


FILMS = ("Jaws", "Jurassic Park", "Seven Days in May", "Casablanca", "Fargo", "Brazil")


def films(n: int) -> Question:
    items = {str(i): Item(str(i), title) for i, title in enumerate(FILMS)}
    seen = (Interaction("u", "0", 5.0, 1), Interaction("u", "1", 4.0, 2))
    return Question(User("u", seen), tuple(items.values())[len(items) - n :], items)


def test_listwise_scores_are_those_of_an_ordinary_forward(smollm2: TransformersModel) -> None:
    asked, strategy = films(4), Listwise()
    judged = judged_by(strategy, smollm2, asked)
    (prompt,) = LabelledGroups(strategy.template, asked, smollm2).prompts([range(4)])
    with torch.inference_mode():
        tokens = torch.tensor([smollm2.encode_prompt(prompt)])
        last = smollm2.model(input_ids=tokens).logits[0, -1].log_softmax(-1)
    expected = [float(last[list(label_tokens(smollm2, label))].logsumexp(0)) for label in "ABCD"]
    assert judged.scores == pytest.approx(expected, abs=1e-3)
    assert judged.fallbacks == {}


@pytest.mark.parametrize("strategy", [ListwiseGenerated(), ListwiseGenerated(window=4, step=2)])
def test_a_held_model_writes_a_whole_order(
    smollm2: TransformersModel, strategy: ListwiseGenerated
) -> None:
    judged = judged_by(strategy, smollm2, films(6))
    assert sorted(judged.scores) == [1, 2, 3, 4, 5, 6]
    assert judged.fallbacks == {}
    assert judged.usage.tokens_generated > 0
