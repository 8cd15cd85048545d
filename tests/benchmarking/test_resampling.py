from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from llmrec.benchmarking.resampling import Resampler
from llmrec.evaluation import compare, estimate

NAN = np.nan


def test_an_estimate_is_over_whom_there_is_a_value_for() -> None:
    values = np.array([0.2, NAN, 0.4, 0.9, NAN])
    (result,) = Resampler(0, 200).estimates([values])
    assert result.mean == pytest.approx(0.5)
    assert 0.2 <= result.low < 0.5 < result.high <= 0.9


def test_one_user_says_nothing_and_none_is_not_a_number() -> None:
    one, none = Resampler(0, 10).estimates([np.array([NAN, 0.3]), np.array([NAN, NAN])])
    assert (one.mean, one.low, one.high) == (0.3, 0.0, 1.0)
    assert np.isnan([none.mean, none.low, none.high]).all()


def test_estimates_and_comparisons_are_those_of_one_row_at_a_time() -> None:
    rng = np.random.default_rng(1)
    rows = list(rng.random((4, 200)))
    for found, own in zip(Resampler(0).estimates(rows), rows, strict=True):
        alone = estimate(own, seed=5)
        assert found.mean == pytest.approx(alone.mean)
        assert found.low == pytest.approx(alone.low, abs=0.002)
        assert found.high == pytest.approx(alone.high, abs=0.002)
    differences = [rng.normal(shift, 0.3, 200) for shift in (0.0, 0.02, -0.04, 0.2)]
    for one, own in zip(Resampler(0).comparisons(differences), differences, strict=True):
        expected = compare(own, np.zeros(200), seed=5)
        assert one.difference == pytest.approx(expected.difference)
        assert one.p_value == pytest.approx(expected.p_value, abs=0.04)
        assert one.low == pytest.approx(expected.low, abs=0.003)
        assert one.high == pytest.approx(expected.high, abs=0.003)
        assert (one.users, one.detectable) == (expected.users, expected.detectable)


def test_who_is_missing_in_one_row_changes_no_other() -> None:
    rows = list(np.random.default_rng(2).random((3, 50)))
    whole = Resampler(3, 500)
    some = [rows[0], np.where(np.arange(50) < 5, NAN, rows[1]), rows[2]]
    assert whole.estimates(some)[::2] == whole.estimates(rows)[::2]
    assert whole.comparisons(some)[::2] == whole.comparisons(rows)[::2]
    assert whole.comparisons(some)[1].users == 45


def test_few_users_are_tested_exactly_and_equal_rows_differ_by_nothing() -> None:
    exact, same = Resampler(0).comparisons([np.array([1.0, 2, 3, 4, 5]), np.zeros(60)])
    assert exact.p_value == pytest.approx(2 / 32)
    assert (same.p_value, same.low, same.high) == (1, 0, 0)


def test_a_large_family_draws_enough_to_show_something() -> None:
    rows = [np.random.default_rng(n).normal(1, 0.1, 40) for n in range(100)]
    for found in Resampler(0, 100).comparisons(rows):
        assert found.p_value * len(rows) <= 0.0101


def test_p_values_are_uniform_under_the_null() -> None:
    rng = np.random.default_rng(4)
    rows = list(rng.choice([-0.5, -0.2, 0, 0, 0.2, 0.5], size=(400, 60)))
    p_values = [found.p_value for found in Resampler(0, 100).comparisons(rows)]
    assert stats.kstest(p_values, "uniform").pvalue > 0.001
