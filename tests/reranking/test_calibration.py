"""What a model would answer anyway is taken off, and nothing else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from llmrec.prompting import Context
from llmrec.records import Item, Prompt
from llmrec.reranking import Calibrated, Graded, Likelihood, Listwise
from llmrec.reranking.groups import BLANK, stand_ins
from tests.reranking.cases import EXACT, GROUPS, judged_by, question, ranking, worth_of
from tests.reranking.oracle import NOBODY, Oracle


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


@pytest.mark.parametrize("n", [2, 9])
def test_a_bias_that_only_real_titles_wake_is_taken_off_too(n: int) -> None:
    woken = Oracle(lambda title, place, _prompt: 0.0 if title == NOBODY else -1.5 * place)
    asked = question(n)
    others = {f"o{i}": Item(f"o{i}", f"Kite {100 + i}") for i in range(20)}
    items = {**asked.context.items, **others}
    asked = replace(asked, context=Context(items, pool=tuple(items)))
    strategy = Calibrated(Listwise())
    assert np.ptp(judged_by(strategy, woken, asked).scores) == pytest.approx(0)
    assert (
        np.ptp(
            judged_by(
                strategy, woken, replace(asked, context=replace(asked.context, pool=()))
            ).scores
        )
        > 1
    )


def test_neutral_items_do_not_depend_on_candidate_order() -> None:
    asked = question(9)
    items = {**asked.context.items, **{f"o{i}": Item(f"o{i}", f"Other {i}") for i in range(12)}}
    asked = replace(asked, context=Context(items, pool=tuple(items)))
    found = stand_ins(asked, 9)
    assert len({item.item_id for item in found}) == 9
    assert {item.item_id[0] for item in found} == {"o"}
    turned = replace(asked, candidates=asked.candidates[::-1])
    assert stand_ins(turned, 9) == found
    assert stand_ins(replace(asked, candidates=asked.candidates[1:]), 9) != found
    few = stand_ins(
        replace(asked, context=replace(asked.context, pool=tuple(items)[:15])), 9
    )  # nine kites, three mugs
    assert few == [BLANK] * 9  # never some of both
    assert stand_ins(replace(asked, context=replace(asked.context, pool=())), 3) == [BLANK] * 3


@pytest.mark.parametrize("others", [0, 3, 12, 20])
def test_calibration_in_a_small_catalogue_makes_no_order_of_its_own(others: int) -> None:
    likes_items = Oracle(lambda title, _place, _prompt: 0.0 if title == NOBODY else 3.0)
    asked = question(20)
    items = {
        **asked.context.items,
        **{f"o{i}": Item(f"o{i}", f"Kite {100 + i}") for i in range(others)},
    }
    asked = replace(asked, context=Context(items, pool=tuple(items)))
    judged = judged_by(Calibrated(Listwise()), likes_items, asked)
    assert np.ptp(judged.scores) == pytest.approx(0)


def test_too_long_neutral_items_become_blank() -> None:
    short = Oracle(lambda title, *_: worth_of(title), max_length=200)
    asked = question(9)
    long = {f"o{i}": Item(f"o{i}", f"Kite {100 + i} " + "word " * 60) for i in range(20)}
    items = {**asked.context.items, **long}
    judged = judged_by(
        Calibrated(Listwise()), short, replace(asked, context=Context(items, pool=tuple(items)))
    )
    assert ranking(judged.scores) == ranking(
        np.array([worth_of(c.title) for c in asked.candidates])
    )


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
