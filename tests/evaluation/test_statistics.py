from __future__ import annotations

import tracemalloc
from dataclasses import astuple
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from llmrec.errors import OptionError
from llmrec.evaluation import (
    compare,
    comparisons,
    estimate,
    estimates,
    holm,
    smallest_difference,
)

NAN = np.nan


def test_p_values_are_uniform_under_the_null() -> None:
    rng = np.random.default_rng(11)
    p_values = []
    for seed in range(400):
        a, b = rng.exponential(size=(2, 40))  # skewed, but exchangeable: no true difference
        p_values.append(compare(a, b, seed=seed, resamples=299).p_value)
    assert stats.kstest(p_values, "uniform").pvalue > 0.001
    assert np.mean(np.array(p_values) <= 0.05) == pytest.approx(0.05, abs=0.035)


def test_the_interval_covers_the_true_difference() -> None:
    rng = np.random.default_rng(5)
    covered = 0
    for seed in range(400):
        b = rng.random(80)
        a = b + rng.normal(0.1, 0.3, size=80)
        comparison = compare(a, b, seed=seed, resamples=400)
        covered += comparison.low <= 0.1 <= comparison.high
    assert 0.91 <= covered / 400 <= 0.98


def test_the_p_value_agrees_with_the_paired_t_test_where_both_hold() -> None:
    rng = np.random.default_rng(2)
    b = rng.random(300)
    a = b + rng.normal(0.04, 0.3, size=300)
    comparison = compare(a, b, seed=0)
    expected = stats.ttest_rel(a, b)
    interval = expected.confidence_interval()
    assert comparison.difference == pytest.approx(float(np.mean(a - b)))
    assert comparison.p_value == pytest.approx(float(expected.pvalue), abs=0.01)
    assert comparison.low == pytest.approx(float(interval.low), abs=0.003)
    assert comparison.high == pytest.approx(float(interval.high), abs=0.003)


def test_few_users_are_tested_exactly() -> None:
    # All five differences are positive: 1 of 32 sign patterns is as extreme, on either side.
    assert compare([2, 3, 4, 5, 6], [1, 1, 1, 1, 1], seed=0).p_value == pytest.approx(2 / 32)


def test_pairing_shows_a_clear_difference() -> None:
    rng = np.random.default_rng(9)
    b = rng.normal(0, 10, size=200)
    a = b + rng.normal(0.1, 0.1, size=200)  # a hundredth of the users' own spread
    comparison = compare(a, b, seed=0, resamples=2000)
    assert comparison.p_value == pytest.approx(2 / 2001)
    assert comparison.low > 0
    assert stats.ttest_ind(a, b).pvalue > 0.5


def test_swapping_the_rows_turns_the_sign_and_keeps_the_p_value() -> None:
    a, b = np.random.default_rng(4).random((2, 60))
    forward, backward = compare(a, b, seed=1), compare(b, a, seed=1)
    assert backward.difference == pytest.approx(-forward.difference)
    assert backward.low == pytest.approx(-forward.high, abs=0.01)
    assert backward.p_value == pytest.approx(forward.p_value)
    assert backward.users == 60


def test_equal_rows_differ_by_nothing() -> None:
    values = np.random.default_rng(0).random(50)
    comparison = compare(values, values, seed=0)
    assert (comparison.difference, comparison.low, comparison.high) == (0, 0, 0)
    assert comparison.p_value == 1
    assert comparison.detectable == 0


def test_the_seed_decides() -> None:
    a, b = np.random.default_rng(0).random((2, 50))
    assert compare(a, b, seed=3) == compare(a, b, seed=3)
    assert compare(a, b, seed=3) != compare(a, b, seed=4)


def test_an_estimate_holds_its_mean() -> None:
    values = np.random.default_rng(0).random(100)
    result = estimate(values, seed=0)
    assert result.low < result.mean < result.high
    assert result.mean == pytest.approx(float(values.mean()))
    half = 1.96 * float(values.std(ddof=1)) / 10
    assert result.high - result.low == pytest.approx(2 * half, rel=0.06)


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        ([1.0, 2.0], [1.0, 2.0, 3.0], "same users"),
        ([1.0], [2.0], "two users or more"),
        ([1.0, np.nan], [1.0, 2.0], "1 that are not finite"),
        ([[1.0, 2.0]], [[1.0, 2.0]], "one finite value a user"),
    ],
)
def test_what_cannot_be_compared_is_refused(a: object, b: object, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        compare(np.asarray(a), np.asarray(b), seed=0)


def test_no_resamples_is_refused() -> None:
    with pytest.raises(OptionError, match="resamples is 0"):
        compare([1, 2], [2, 1], seed=0, resamples=0)


def test_holm_by_hand() -> None:
    # Sorted .005 .01 .03 .04, times 4 3 2 1: .02 .03 .06 .04, and no step falls below the last.
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm([0.9, 0.6]), [1, 1])
    assert holm([]).shape == (0,)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_lies_between_the_raw_value_and_bonferroni(p_values: list[float]) -> None:
    raw, corrected = np.array(p_values), holm(p_values)
    assert (corrected >= raw).all()
    assert (corrected <= np.minimum(1, raw * len(raw))).all()
    assert (np.diff(corrected[np.argsort(raw, kind="stable")]) >= 0).all()


@pytest.mark.parametrize("wrong", [[-0.1], [1.1], [np.nan], [[0.5]]])
def test_holm_refuses_invalid_p_values(wrong: object) -> None:
    with pytest.raises(OptionError, match="p-values"):
        holm(np.asarray(wrong))


def test_the_smallest_difference_by_hand_and_by_simulation() -> None:
    assert smallest_difference(1, 100) == pytest.approx((1.959964 + 0.841621) / 10, abs=1e-6)
    rng = np.random.default_rng(8)
    samples = rng.normal(smallest_difference(0.4, 150), 0.4, size=(4000, 150))
    shown = stats.ttest_1samp(samples, 0, axis=1).pvalue < 0.05
    assert float(np.mean(shown)) == pytest.approx(0.8, abs=0.03)


def test_smallest_difference_refuses_invalid_values() -> None:
    for deviation, users, power, alpha in [
        (-1, 9, 0.8, 0.05),
        (np.nan, 9, 0.8, 0.05),
        (1, 0, 0.8, 0.05),
        (1, 9, 1, 0.05),
        (1, 9, 0.8, 0),
    ]:
        with pytest.raises(OptionError, match="allowed"):
            smallest_difference(deviation, users, power=power, alpha=alpha)


def test_estimate_skips_missing_users() -> None:
    values = np.array([0.2, NAN, 0.4, 0.9, NAN] * 4)
    (result,) = estimates([values], seed=0, resamples=200)
    assert result.mean == pytest.approx(0.5)
    assert 0.2 <= result.low < 0.5 < result.high <= 0.9


def test_no_users_have_no_mean() -> None:
    (none,) = estimates([np.array([NAN, NAN])], seed=0, resamples=10)
    assert np.isnan([none.mean, none.low, none.high]).all()


@pytest.mark.parametrize(
    ("users", "tests", "few"), [(1, 1, True), (9, 1, True), (10, 1, False), (10, 30, True)]
)
def test_few_users_have_no_interval_and_no_verdict(users: int, tests: int, few: bool) -> None:
    values = np.linspace(0.2, 0.9, users)
    (estimated,) = estimates([values], seed=0, resamples=100)
    assert estimated.mean == pytest.approx(values.mean())
    assert np.isnan([estimated.low, estimated.high]).tolist() == [users < 10] * 2
    if users > 1:
        (compared,) = comparisons([values], seed=0, resamples=100)
        assert compared.too_few_users(tests) is few
        assert np.isnan([compared.low, compared.high]).tolist() == [users < 10] * 2
        assert 0 < compared.p_value <= 1


@pytest.mark.parametrize("users", [10, 11, 60, 200])
def test_many_rows_have_the_figures_of_scipy(users: int) -> None:
    rng = np.random.default_rng(users)
    rows = [rng.normal(shift, 0.3, users) for shift in (0.0, 0.02, -0.2)]
    bootstrap = partial(stats.bootstrap, statistic=np.mean, n_resamples=999, method="percentile")
    flips = partial(stats.permutation_test, statistic=np.mean, permutation_type="samples")
    found = zip(
        estimates(rows, seed=5, resamples=999),
        comparisons(rows, seed=5, resamples=999),
        rows,
        strict=True,
    )
    for estimated, compared, row in found:
        interval = bootstrap((row,), rng=np.random.default_rng(5)).confidence_interval
        assert estimated.mean == compared.difference == row.mean()
        for one in (estimated, compared):
            assert (one.low, one.high) == pytest.approx((interval.low, interval.high))
        test = flips((row,), n_resamples=999, rng=np.random.default_rng(5))
        assert compared.p_value == pytest.approx(test.pvalue)


def test_missing_users_affect_only_their_row() -> None:
    rows = list(np.random.default_rng(2).random((3, 50)))
    some = [rows[0], np.where(np.arange(50) < 5, NAN, rows[1]), rows[2]]

    def figures(rows: list[NDArray[np.float64]]) -> list[float]:
        """Of the first row and the last."""
        estimated, compared = estimates(rows, seed=3)[::2], comparisons(rows, seed=3)[::2]
        return [
            *(n for e in estimated for n in astuple(e)),
            *(n for c in compared for n in astuple(c)),
        ]

    # Products of matrices of other widths may round differently, as the CPU has it.
    assert figures(some) == pytest.approx(figures(rows), rel=1e-12)
    assert comparisons(some, seed=3)[1].users == 45


def test_p_values_of_many_rows_are_uniform_under_the_null() -> None:
    rng = np.random.default_rng(4)
    rows = list(rng.choice([-0.5, -0.2, 0, 0, 0.2, 0.5], size=(400, 60)))
    p_values = [found.p_value for found in comparisons(rows, seed=0, resamples=500)]
    assert stats.kstest(p_values, "uniform").pvalue > 0.001


def test_the_draws_of_a_test_are_not_those_of_an_interval() -> None:
    rows = list(np.random.default_rng(6).normal(0.4, 0.3, (3, 60)))
    few = comparisons(rows, seed=0, resamples=200)
    more = comparisons(rows, seed=0, resamples=200, flips=4000)
    assert [(c.low, c.high) for c in more] == [(c.low, c.high) for c in few]
    assert {c.p_value for c in few} == {2 / 201}
    assert {c.p_value for c in more} == {2 / 4001}


@pytest.mark.parametrize("users", [8, 40])  # every sign pattern, and drawn ones
def test_batches_change_no_figure(users: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = list(np.random.default_rng(users).normal(0.05, 0.3, (50, users)))
    whole = comparisons(rows, seed=2, resamples=300)
    monkeypatch.setattr("llmrec.evaluation.statistics._BATCH_VALUES", 1000)
    for one, other in zip(comparisons(rows, seed=2, resamples=300), whole, strict=True):
        assert astuple(one) == pytest.approx(astuple(other), rel=1e-12, nan_ok=True)


@pytest.mark.parametrize("users", [14, 30])
def test_many_rows_and_draws_fit_in_memory(users: int) -> None:
    rows = list(np.random.default_rng(0).normal(size=(1000, users)))
    tracemalloc.start()
    comparisons(rows, seed=0, resamples=1000, flips=20_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100e6  # all flips of all rows at once take 130 MB and more
