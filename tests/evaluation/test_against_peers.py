"""Our page of numpy against ir-measures, and our statistics against what they claim to be."""

from __future__ import annotations

import ir_measures
import numpy as np
import pytest
from ir_measures import AP, RR, Measure, R, Success, nDCG
from numpy.typing import NDArray
from scipy import stats
from statsmodels.stats.multitest import multipletests

from llmrec.benchmarking.rows import rank_metrics
from llmrec.evaluation import compare, holm, target_ranks

USERS, ITEMS = 120, 30
MEASURES: tuple[tuple[Measure, str], ...] = (
    *((nDCG @ k, f"ndcg@{k}") for k in (1, 5, 10, 20)),
    *((R @ k, f"recall@{k}") for k in (1, 5, 10, 20)),
    *((Success @ k, f"hit@{k}") for k in (1, 5, 10, 20)),
    *((RR @ k, f"mrr@{k}") for k in (1, 5, 10, 20)),
    *((AP @ k, f"map@{k}") for k in (1, 5, 10, 20)),
    (RR, "mrr"),
    (AP, "map"),
)


def by_peer(measures: list[Measure], scores: NDArray[np.float64], target: int) -> dict[str, float]:
    """Every measure of one user, as ir-measures has it."""
    qrels = [ir_measures.Qrel("u", f"i{target:02}", 1)]
    run = [ir_measures.ScoredDoc("u", f"i{n:02}", float(s)) for n, s in enumerate(scores)]
    return {str(row.measure): row.value for row in ir_measures.iter_calc(measures, qrels, run)}


def test_every_metric_equals_ir_measures_user_by_user() -> None:
    rng = np.random.default_rng(3)
    scores = rng.normal(size=(USERS, ITEMS))
    targets = rng.integers(ITEMS, size=USERS)
    ours = rank_metrics(target_ranks(scores, targets, seed=0))
    assert len(ours) == len(MEASURES)
    qrels = [ir_measures.Qrel(f"u{u}", f"i{t}", 1) for u, t in enumerate(targets)]
    run = [
        ir_measures.ScoredDoc(f"u{user}", f"i{item}", float(score))
        for user, row in enumerate(scores)
        for item, score in enumerate(row)
    ]
    theirs: dict[str, dict[str, float]] = {}
    for row in ir_measures.iter_calc([measure for measure, _ in MEASURES], qrels, run):
        theirs.setdefault(str(row.measure), {})[row.query_id] = row.value
    for measure, name in MEASURES:
        expected = [theirs[str(measure)][f"u{user}"] for user in range(USERS)]
        np.testing.assert_allclose(ours[name], expected, atol=1e-9, rtol=0, err_msg=name)


@pytest.mark.parametrize("seed", range(5))
def test_a_tie_is_one_of_the_orders_that_ir_measures_sees(seed: int) -> None:
    # ir-measures breaks ties by item id: broken our way first, both say the same.
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 4, size=(20, ITEMS)).astype(float)
    targets = rng.integers(ITEMS, size=20)
    ranks = target_ranks(scores, targets, seed=seed)
    ours = rank_metrics(ranks)
    for user, (own, target, rank) in enumerate(zip(scores, targets, ranks, strict=True)):
        ahead = int(rank) - 1 - int((own > own[target]).sum())
        ties = [item for item in np.flatnonzero(own == own[target]) if item != target]
        broken = own.copy()
        broken[ties[:ahead]] += 0.5
        broken[ties[ahead:]] -= 0.5
        theirs = by_peer([measure for measure, _ in MEASURES], broken, int(target))
        for measure, name in MEASURES:
            assert ours[name][user] == pytest.approx(theirs[str(measure)], abs=1e-9)


def test_over_all_tie_breaks_the_mean_is_that_of_all_orders() -> None:
    scores = np.tile([2.0, 1, 1, 1, 0], (30_000, 1))  # the target shares places 2 to 4
    ours = rank_metrics(target_ranks(scores, np.full(30_000, 3), seed=0))
    for measure, name in MEASURES:
        places = [
            by_peer([measure], np.array([2.0, 1 + lift, 1 - lift, 1 + shift, 0]), 3)[str(measure)]
            for lift, shift in ((0.1, 0.2), (0.1, 0.0), (0.1, -0.2))
        ]
        assert float(ours[name].mean()) == pytest.approx(float(np.mean(places)), abs=0.006)


@pytest.mark.parametrize("users", [12, 60])
def test_p_values_of_ndcg_are_uniform_where_rows_do_not_differ(users: int) -> None:
    # Two rows drawn alike, of real nDCG values: many zeros, many users that do not differ.
    rng = np.random.default_rng(users)
    p_values = []
    for seed in range(300):
        ranks = 1.0 + rng.binomial(19, rng.beta(1, 2, size=(2, users)))
        a, b = (rank_metrics(own)["ndcg@10"] for own in ranks)
        p_values.append(compare(a, b, seed=seed, resamples=199).p_value)
    assert stats.kstest(p_values, "uniform").pvalue > 0.001
    for level in (0.01, 0.05, 0.1):
        assert np.mean(np.array(p_values) <= level) <= level + 3 * np.sqrt(level / 300)


def test_holm_equals_statsmodels() -> None:
    rng = np.random.default_rng(0)
    for n in (1, 2, 3, 10, 40, 200):
        for p_values in (rng.random(n), rng.random(n) ** 4, rng.integers(0, 5, n) / 4):
            expected = multipletests(p_values, method="holm")[1]
            np.testing.assert_allclose(holm(p_values), expected, atol=1e-12, rtol=0)
