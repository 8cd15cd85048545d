from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmrec.errors import OptionError
from llmrec.retrieval import FittedWeights, SignalList, fit_weights, fuse


def lists(n: int, strength: dict[str, float], seed: int = 0) -> list[SignalList]:
    """Lists of 20 whose target is drawn by a known conditional logit over the signals."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(n):
        signals = {name: rng.normal(size=20) for name in strength}
        utility = sum(weight * signals[name] for name, weight in strength.items())
        target = int(np.argmax(utility + rng.gumbel(size=20)))
        made.append(SignalList(signals, target))
    return made


def test_the_weights_that_made_the_choices_are_found() -> None:
    fitted = fit_weights(lists(2000, {"content": 1.0, "popularity": 0.5}))
    assert fitted.weights["content"] == pytest.approx(1.0, abs=0.1)
    assert fitted.weights["popularity"] == pytest.approx(0.5, abs=0.1)
    assert fitted.lists == 2000


def test_useless_optional_signal_gets_weight_zero() -> None:
    strength = {"content": 1.0, "likelihood": 0.0}
    zeros = [
        fit_weights(lists(150, strength, seed), optional=["likelihood"]).weights["likelihood"] == 0
        for seed in range(20)
    ]
    assert sum(zeros) >= 17


def test_an_optional_signal_that_shows_something_stays() -> None:
    fitted = fit_weights(lists(300, {"content": 1.0, "likelihood": 0.6}), optional=["likelihood"])
    assert fitted.weights["likelihood"] > 0.3
    assert fitted.p_values["likelihood"] < 0.001


def test_a_harmful_signal_is_never_turned_around() -> None:
    fitted = fit_weights(lists(300, {"content": 1.0, "likelihood": -0.8}))
    assert fitted.weights["likelihood"] == 0


def test_missing_values_are_average_ones() -> None:
    made = lists(200, {"content": 1.0})
    hole = np.arange(20) == 3
    holed = [
        SignalList({"content": np.where(hole, np.nan, entry.signals["content"])}, entry.target)
        for entry in made
    ]
    assert fit_weights(holed).weights["content"] > 0.5


def test_a_signal_that_separates_everything_keeps_a_finite_weight() -> None:
    made = [SignalList({"oracle": np.eye(20)[n % 20]}, n % 20) for n in range(50)]
    assert 0 < fit_weights(made).weights["oracle"] < 100


def test_fusing_is_a_weighted_sum_of_standardised_signals() -> None:
    fused = fuse({"a": np.array([1.0, 3.0]), "b": np.array([10.0, -10.0])}, {"a": 2.0, "b": 0.5})
    assert fused.tolist() == pytest.approx([-2 + 0.5, 2 - 0.5])


def test_a_missing_value_counts_as_an_average_one() -> None:
    signals = {"a": np.array([1.0, 2.0, 3.0]), "b": np.array([np.nan, 1.0, 3.0])}
    fused = fuse(signals, {"a": 0.0, "b": 1.0})
    assert fused.tolist() == pytest.approx([0, -1, 1])


@given(
    # Rounded: a spread below the precision of the shift would vanish in it.
    st.lists(st.floats(-1e6, 1e6).map(lambda x: round(x, 2)), min_size=2, max_size=8),
    st.floats(0.1, 100),
    st.floats(-1e3, 1e3),
)
def test_the_unit_of_a_signal_does_not_matter(
    values: list[float], scale: float, shift: float
) -> None:
    first = fuse({"a": np.array(values)}, {"a": 1.0})
    second = fuse({"a": np.array(values) * scale + shift}, {"a": 1.0})
    assert second == pytest.approx(first, abs=1e-3)


@pytest.mark.parametrize("weights", [{}, {"a": -1.0}, {"a": float("nan")}, {"a": float("inf")}])
def test_weights_that_are_missing_or_out_of_range_are_refused(weights: dict[str, float]) -> None:
    with pytest.raises(OptionError, match="a"):
        fuse({"a": np.array([1.0, 2.0])}, weights)


def test_lists_of_different_lengths_are_fitted_together() -> None:
    long = lists(300, {"content": 1.0})
    short = [
        SignalList({"content": entry.signals["content"][:7]}, entry.target)
        for entry in lists(900, {"content": 1.0}, seed=1)
        if entry.target < 7
    ]
    assert fit_weights([*long, *short]).weights["content"] == pytest.approx(1.0, abs=0.2)


def test_fitting_without_lists_is_an_error() -> None:
    with pytest.raises(OptionError, match="no validation lists"):
        fit_weights([])


def test_lists_of_different_signals_are_refused() -> None:
    made = [SignalList({"a": np.zeros(3)}, 0), SignalList({"b": np.zeros(3)}, 0)]
    with pytest.raises(OptionError, match="same signals"):
        fit_weights(made)


def test_the_fit_is_deterministic() -> None:
    made = lists(100, {"content": 1.0, "popularity": 0.2})
    first: FittedWeights = fit_weights(made)
    assert fit_weights(made) == first
