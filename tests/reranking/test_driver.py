"""Questions that are asked together: answers, usage and faults are each question's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from llmrec.models import LabelRequest, LogProbs
from llmrec.records import Prompt, Usage
from llmrec.reranking import Calibrated, Pointwise, judge
from tests.reranking.cases import EXACT, WRAPPED, garbage, judged_by, question, whims, worth_of
from tests.reranking.oracle import Oracle


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


def test_usage_is_divided_without_answers() -> None:
    class Down(Oracle):
        def label_log_probs(self, requests: Sequence[LabelRequest]) -> LogProbs:
            values = tuple(np.full(len(request.labels), np.nan) for request in requests)
            return LogProbs(values, Usage(seconds=4.0, forwards=2), {}, (0,) * len(requests))

    judged = judge(Down(lambda *_: None), Pointwise(), [question(2), question(2, "v")])
    assert [each.usage.seconds for each in judged] == [2.0, 2.0]
    assert [each.usage.forwards for each in judged] == [1, 1]


def test_equal_requests_of_a_round_are_sent_once() -> None:
    asked = [question(5), question(5, "v"), question(3, "w", first=2)]
    model = Oracle(lambda title, *_: worth_of(title))
    judged = judge(model, Calibrated(Pointwise()), asked)
    assert model.vectors == 5 + 5  # five candidates after equal histories, and their priors
    assert [each.usage.prompts for each in judged] == [10, 10, 6]
    assert sum(each.usage.tokens_given for each in judged) == model.spent.tokens_given
    np.testing.assert_array_equal(judged[2].scores, judged[0].scores[2:])


@pytest.mark.parametrize("name", EXACT)
def test_failed_request_counts_for_its_question(name: str) -> None:
    def label(title: str, _place: int, prompt: Prompt) -> float | None:
        return None if "Kite 25" in f"{title}{prompt.user}{prompt.text}" else worth_of(title)

    asked = [question(4), question(4, "v", first=22), question(4, "w", first=40)]
    judged = judge(Oracle(label), EXACT[name][0](), asked)
    counts = [each.fallbacks.get("request_failed", 0) for each in judged]
    assert counts[0] == counts[2] == 0
    assert counts[1] > 0 or name == "listwise-generated"  # the fake writes in any case
