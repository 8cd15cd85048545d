from __future__ import annotations

from collections.abc import Callable

import ir_measures
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ir_measures import RR, Measure, R, nDCG
from numpy.typing import NDArray

from llmrec.errors import OptionError
from llmrec.evaluation import ndcg_at, recall_at, reciprocal_rank, target_ranks

Metric = Callable[[NDArray[np.float64]], NDArray[np.float64]]

METRICS: tuple[tuple[Measure, Metric], ...] = (
    (nDCG @ 1, lambda ranks: ndcg_at(ranks, 1)),
    (nDCG @ 10, lambda ranks: ndcg_at(ranks, 10)),
    (nDCG @ 50, lambda ranks: ndcg_at(ranks, 50)),
    (RR, reciprocal_rank),
    (RR @ 5, lambda ranks: reciprocal_rank(ranks, 5)),
    (R @ 1, lambda ranks: recall_at(ranks, 1)),
    (R @ 10, lambda ranks: recall_at(ranks, 10)),
)


@pytest.mark.parametrize(("peer", "ours"), METRICS, ids=[str(peer) for peer, _ in METRICS])
def test_equals_ir_measures_user_by_user(peer: Measure, ours: Metric) -> None:
    rng = np.random.default_rng(7)
    rankings, targets = [], []
    for _ in range(80):
        items = [f"i{n}" for n in rng.permutation(40)]
        targets.append(items[0])
        rankings.append([items[n] for n in rng.permutation(40)[: rng.integers(1, 31)]])
    qrels = [ir_measures.Qrel(f"u{u:02}", target, 1) for u, target in enumerate(targets)]
    run = [
        ir_measures.ScoredDoc(f"u{u:02}", item, -float(place))
        for u, ranking in enumerate(rankings)
        for place, item in enumerate(ranking)
    ]
    theirs = {row.query_id: row.value for row in ir_measures.iter_calc([peer], qrels, run)}
    ranks = np.array(
        [
            1.0 + ranking.index(target) if target in ranking else np.inf
            for ranking, target in zip(rankings, targets, strict=True)
        ]
    )
    assert np.isinf(ranks).any()
    assert np.isfinite(ranks).any()
    expected = np.array([theirs.get(f"u{u:02}", 0.0) for u in range(80)])
    np.testing.assert_allclose(ours(ranks), expected, atol=1e-9, rtol=0)


def test_metrics_by_hand() -> None:
    ranks = [1, 3, 11, np.inf]
    np.testing.assert_allclose(ndcg_at(ranks, 10), [1, 0.5, 0, 0])
    np.testing.assert_allclose(reciprocal_rank(ranks), [1, 1 / 3, 1 / 11, 0])
    np.testing.assert_allclose(recall_at(ranks, 3), [1, 1, 0, 0])


@pytest.mark.parametrize("wrong", [0, 0.5, -1, np.nan])
def test_invalid_ranks_are_refused(wrong: float) -> None:
    with pytest.raises(OptionError, match="is not a rank"):
        ndcg_at([1, wrong], 10)


def test_a_cutoff_below_one_is_refused() -> None:
    for metric in (ndcg_at, reciprocal_rank, recall_at):
        with pytest.raises(OptionError, match="cutoff k is 0"):
            metric([1.0], 0)


def test_ranks_by_score() -> None:
    scores = [[0.1, 0.9, 0.5], [3.0, 2.0, 1.0], [-np.inf, 0.0, np.inf]]
    np.testing.assert_array_equal(target_ranks(scores, [2, 0, 0], seed=0), [2, 1, 3])


@pytest.mark.parametrize("same", [0.0, np.nan, -np.inf])
@pytest.mark.parametrize("column", [0, 19])
def test_a_scorer_that_says_the_same_of_everything_is_random(same: float, column: int) -> None:
    users = 20_000
    ranks = target_ranks(np.full((users, 20), same), np.full(users, column), seed=3)
    counts = np.bincount(ranks.astype(int), minlength=21)[1:]
    assert len(counts) == 20
    assert np.abs(counts - users / 20).max() < 5 * np.sqrt(users / 20)
    chance = (1 / np.log2(np.arange(2, 12))).sum() / 20
    assert ndcg_at(ranks, 10).mean() == pytest.approx(chance, abs=0.01)


def test_a_tie_of_two_is_split_in_half() -> None:
    ranks = target_ranks(np.tile([2.0, 1.0, 1.0, 0.0], (4000, 1)), np.full(4000, 2), seed=1)
    assert set(ranks) == {2, 3}
    assert ranks.mean() == pytest.approx(2.5, abs=0.05)


def test_nan_ranks_behind_every_number_and_never_lifts_the_target() -> None:
    scores = [[np.nan, -np.inf, 0.0], [np.nan, -np.inf, 0.0], [np.nan, 1.0, np.nan]]
    ranks = target_ranks(scores, [0, 1, 0], seed=0)
    np.testing.assert_array_equal(ranks[:2], [3, 2])
    assert ranks[2] in (2, 3)


@given(
    scores=st.lists(
        st.lists(st.sampled_from([np.nan, -np.inf, -1.0, 0.0, 2.5]), min_size=6, max_size=6),
        min_size=1,
        max_size=5,
    ),
    column=st.integers(0, 5),
    seed=st.integers(0, 100),
)
def test_a_rank_lies_within_its_tied_block_and_follows_the_seed(
    scores: list[list[float]], column: int, seed: int
) -> None:
    targets = [column] * len(scores)
    ranks = target_ranks(scores, targets, seed=seed)
    for row, rank in zip(scores, ranks, strict=True):
        keys = [(-1, 0.0) if np.isnan(score) else (0, score) for score in row]
        better = sum(key > keys[column] for key in keys)
        assert better < rank <= better + keys.count(keys[column])
    np.testing.assert_array_equal(ranks, target_ranks(scores, targets, seed=seed))


def test_shapes_and_columns_are_checked() -> None:
    with pytest.raises(OptionError, match="shape"):
        target_ranks([[1.0, 2.0]], [0, 1], seed=0)
    with pytest.raises(OptionError, match="shape"):
        target_ranks([[1.0, 2.0]], [0.0], seed=0)
    for column in (-1, 2):
        with pytest.raises(OptionError, match="columns 0 to 1"):
            target_ranks([[1.0, 2.0]], [column], seed=0)
