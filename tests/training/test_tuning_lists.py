from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llmrec import Index, Reranker, Retriever, TransformersModel
from llmrec.errors import DataError
from llmrec.prompting import load_template
from llmrec.reranking import Likelihood, Strategy, make_strategy
from llmrec.training.gated_validation import Limits, all_scores
from llmrec.training.tuning_lists import out_of_fold_lists, taught_lists, tuning_data
from tests.training.conftest import World

TEMPLATES = [
    "likelihood/list",
    "likelihood/numbered",
    "likelihood/chat-next",
    "pointwise/plain-list",
    "listwise/plain-list",
]


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


def test_histories_without_times_are_in_the_order_of_the_file(index: Index) -> None:
    rows = [replace(row, timestamp=None) for row in index.interactions]
    (held, *_) = out_of_fold_lists(Index(index.items, index.vectors, interactions=rows), events=1)
    for request in held.requests:
        every = [row.item_id for row in rows if row.user_id == request.user.user_id]
        assert request.relevant == {every[-1]}


def ranked(user_id: str, *item_ids: str) -> dict[str, Any]:
    items = [
        {"item_id": i, "rank": n, "retrieval_rank": 9 - n, "score": 2.0 - n, "signals": {}}
        for n, i in enumerate(item_ids, start=1)
    ]
    return {"user_id": user_id, "items": items}


def test_a_teacher_names_no_item_that_its_user_met(index: Index, tmp_path: Path) -> None:
    met = [row.item_id for row in index.user("u0").history]
    new = [item_id for item_id in index.item_ids if item_id not in met][:3]
    rows = [
        ranked("u0", new[0], met[-1], new[1], "unknown", new[2]),
        ranked("stranger", *new),
        {"user_id": "u1", "error": {"type": "DataError"}},
        ranked("u2", met[0]),
    ]
    file = tmp_path / "teacher.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    known = out_of_fold_lists(index, events=1)[0].index
    (entry,) = taught_lists(file, index, known)
    assert [index.item_ids[row] for row in entry.items] == new[::-1]  # the retriever's order
    assert entry.target == 2
    assert entry.teacher is not None
    assert entry.teacher.argmax() == 2
    assert [row.item_id for row in entry.user.history] == met[:-1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"user_id": "u0", "items": []}', "None of the 1 rows"),
        ("", "None of the 0 rows"),
        ("{", "cannot be read"),
        ("[1]", "cannot be read"),
        ('{"user_id": "u0", "items": [{"item_id": "i0"}]}', "cannot be read"),
        ('{"user_id": "u0", "items": [1]}', "cannot be read"),
        (None, "cannot be read"),
    ],
)
def test_a_file_of_no_teacher_is_refused(
    content: str | None, message: str, index: Index, tmp_path: Path
) -> None:
    file = tmp_path / "teacher.jsonl"
    if content is not None:
        file.write_text(content)
    with pytest.raises(DataError, match=message):
        taught_lists(file, index, index)


def test_an_index_without_long_histories_is_refused(index: Index) -> None:
    short = Index(index.items, index.vectors, interactions=list(index.interactions)[:3])
    with pytest.raises(DataError, match="No list to fit a gate on"):
        out_of_fold_lists(short)


def test_lists_of_another_catalogue_are_other_data(index: Index, label_model: Path) -> None:
    model = TransformersModel.from_pretrained(str(label_model), device="cpu")
    template = load_template("pointwise/details")
    other = replace(index, fingerprint="of the same titles and other descriptions")
    options: dict[str, Any] = {"strategy": "pointwise", "events": 1, "lists": 2, "validation": 3}
    one, two = (tuning_data(each, model, template, **options) for each in (index, other))
    assert one.fingerprint != two.fingerprint


@pytest.mark.parametrize("name", TEMPLATES)
def test_lists_are_scored_as_their_strategy_scores_them(
    name: str, index: Index, label_model: Path
) -> None:
    model = TransformersModel.from_pretrained(str(label_model), device="cpu")
    template = load_template(name)
    strategy = template.strategy
    options: dict[str, Any] = {"strategy": strategy, "events": 1, "lists": 2, "validation": 3}
    data = tuning_data(index, model, template, **options)
    (held, *_) = out_of_fold_lists(index, events=1)
    asked = [
        r for r in held.requests if next(iter(r.relevant)) in [c.item_id for c in r.candidates[:20]]
    ][:3]
    made: Strategy = make_strategy(strategy, name)
    if isinstance(made, Likelihood):
        made = replace(made, prior_weight=0.0)
    reranker = Reranker(model, held.index, strategy=made)
    scores = all_scores(
        model.model,
        [data.write(e.user, e.items) for e in data.validation],
        Limits.of(model.model),
    )
    for request, entry, own in zip(asked, data.validation, scores, strict=True):
        judged = reranker.judge(request.user, [c.item_id for c in request.candidates[:20]])
        assert own == pytest.approx(judged[strategy].scores, abs=1e-3)
        assert request.candidates[entry.target].item_id in request.relevant
