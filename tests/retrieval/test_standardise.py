from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmrec.retrieval import standardise


def test_mean_is_zero_and_deviation_one() -> None:
    scores = standardise([3.0, 7.0, 8.0, 100.0])
    assert scores.mean() == pytest.approx(0)
    assert scores.std() == pytest.approx(1)


def test_missing_values_stay_missing() -> None:
    np.testing.assert_allclose(standardise([1.0, np.nan, 3.0]), [-1.0, np.nan, 1.0])


@pytest.mark.parametrize("values", [[5.0], [0.1] * 7, [0.0, 0.0], [1e300, 1e300]])
def test_a_list_without_spread_becomes_zeros(values: list[float]) -> None:
    np.testing.assert_array_equal(standardise(values), np.zeros(len(values)))


@pytest.mark.parametrize("factor", [2.0**-1000, 2.0**-300, 2.0**300, 2.0**1000])
def test_the_size_of_values_does_not_matter(factor: float) -> None:
    values = np.array([1.0, -3.0, np.nan, 8.0, 100.0])
    np.testing.assert_array_equal(standardise(values * factor), standardise(values))
    assert standardise([0.0, 1.7e308])[1] == pytest.approx(1.0)


def test_missing_values_only_and_no_values() -> None:
    assert np.isnan(standardise([np.nan, np.nan])).all()
    assert standardise([]).shape == (0,)


def test_the_given_array_is_not_changed() -> None:
    values = np.array([1.0, 2.0])
    standardise(values)
    np.testing.assert_array_equal(values, [1.0, 2.0])


@given(st.lists(st.integers(-1000, 1000), min_size=2, max_size=30))
def test_the_order_stays(values: list[int]) -> None:
    order = np.argsort(values, kind="stable")
    assert (np.diff(standardise(values)[order]) >= 0).all()
