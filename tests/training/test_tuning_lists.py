from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from llmrec import Index, Reranker, Retriever, TransformersModel
from llmrec.errors import DataError
from llmrec.prompting import load_template
from llmrec.reranking import Likelihood
from llmrec.training.gated_validation import Limits, all_scores
from llmrec.training.tuning_lists import out_of_fold_lists, tuning_data
from tests.training.conftest import World

TEMPLATES = ["likelihood/list", "likelihood/numbered", "likelihood/chat-next"]


@pytest.fixture(scope="module")
def index(world: World) -> Index:
    catalog = world.training
    return Index(
        items=catalog.items, vectors=world.modalities[0].vectors, interactions=catalog.interactions
    )


def test_no_list_knows_its_target_or_what_came_later(index: Index) -> None:
    held = out_of_fold_lists(index, events=3)
    assert len(held) == 3
    for depth, entry in enumerate(held, start=1):
        for request in entry.requests:
            (target,) = request.relevant
            every = [row.item_id for row in index.user(request.user.user_id).history]
            assert target == every[-depth]
            known = [row.item_id for row in entry.index.user(request.user.user_id).history]
            assert [row.item_id for row in request.user.history] == known == every[:-depth]
            assert entry.index.popularity.sum() == len(index.interactions) - depth * 60


def test_in_sample_lists_are_too_easy(index: Index) -> None:
    weights = {"co_occurrence": 1.0, "popularity": 1.0}
    (held, *_) = out_of_fold_lists(index, events=1, n_candidates=48)

    def mean_rank(known: Index) -> float:
        retriever = Retriever(known, weights=weights)
        ranks = []
        for request in held.requests:
            found = [c.item_id for c in retriever.retrieve(request.user, 48)]
            (target,) = request.relevant
            ranks.append(found.index(target))
        return float(np.mean(ranks))

    out_of_fold, in_sample = mean_rank(held.index), mean_rank(index)
    assert in_sample < 0.8 * out_of_fold


def test_events_that_no_user_has_are_left_out(index: Index) -> None:
    assert 1 <= len(out_of_fold_lists(index, events=50)) < 10


def test_an_index_without_long_histories_is_refused(index: Index) -> None:
    short = Index(index.items, index.vectors, interactions=list(index.interactions)[:3])
    with pytest.raises(DataError, match="No list to fit a gate on"):
        out_of_fold_lists(short)


@pytest.mark.parametrize("name", TEMPLATES)
def test_lists_are_scored_as_the_likelihood_strategy_scores_them(
    name: str, index: Index, byte_model: Path
) -> None:
    model = TransformersModel.from_pretrained(str(byte_model), device="cpu")
    template = load_template(name)
    data = tuning_data(index, model, template, events=1, lists=2, validation=3)
    (held, *_) = out_of_fold_lists(index, events=1)
    asked = [
        r for r in held.requests if next(iter(r.relevant)) in [c.item_id for c in r.candidates[:20]]
    ][:3]
    reranker = Reranker(model, held.index, strategy=Likelihood(template, prior_weight=0.0))
    scores = all_scores(
        model.model, [data.segment(e) for e in data.validation], Limits.of(model.model)
    )
    for request, entry, own in zip(asked, data.validation, scores, strict=True):
        judged = reranker.judge(request.user, [c.item_id for c in request.candidates[:20]])
        assert own == pytest.approx(judged["likelihood"].scores, abs=1e-3)
        assert request.candidates[entry.target].item_id in request.relevant
