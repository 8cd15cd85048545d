from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from llmrec.benchmarking.race import race
from llmrec.errors import OptionError

Rows = dict[str, NDArray[np.float64]]


def rows(seed: int, means: tuple[float, ...], users: int = 60) -> Rows:
    table = np.random.default_rng(seed).normal(0, 0.3, (len(means), users))
    return {f"r{n}": own + mean for n, (own, mean) in enumerate(zip(table, means, strict=True))}


def test_a_row_far_behind_is_dropped_with_its_p_value() -> None:
    values = rows(0, (0.8, 0.1, 0.75))
    dropped = race(values, looks=5, look=1)
    assert list(dropped) == ["r1"]
    drop = dropped["r1"]
    behind = values["r0"] - values["r1"]
    t = behind.mean() / (behind.std(ddof=1) * np.sqrt((1 - 1 / 5) / 60))
    assert drop.against == "r0"
    assert drop.users == 60
    assert drop.p_corrected == pytest.approx(float(stats.t.sf(t, 59)) * 4 * 2, rel=1e-6, abs=0)
    assert str(drop).startswith("after 60 users: significantly worse than r0 (p = ")


def test_more_looks_and_more_rivals_ask_for_more() -> None:
    values = rows(2, (0.5, 0.35))
    behind = values["r0"] - values["r1"]
    t = behind.mean() / (behind.std(ddof=1) * np.sqrt((1 - 1 / 4) / len(behind)))
    p = float(stats.t.sf(t, len(behind) - 1))  # three looks test
    assert race(values, looks=4, look=1, alpha=p * 3.01)
    assert not race(values, looks=4, look=1, alpha=p * 2.99)
    assert race(values, looks=4, look=1, alpha=p * 33.1, started=12)
    assert not race(values, looks=4, look=1, alpha=p * 32.9, started=12)


def test_no_drop_at_the_last_look_or_below_ten_users() -> None:
    values = rows(3, (0.9, 0.0))
    assert race(values, looks=4, look=3)
    assert race(values, looks=4, look=4) == {}
    assert race({name: own[:9] for name, own in values.items()}, looks=4, look=1) == {}
    assert race({"r0": values["r0"]}, looks=4, look=1) == {}


def test_users_that_failed_in_one_row_are_left_out_of_its_comparison() -> None:
    values = rows(4, (0.9, 0.0, 0.0))
    values["r1"][:20] = np.nan
    values["r2"][:] = np.nan
    dropped = race(values, looks=4, look=1)
    assert list(dropped) == ["r1"]
    assert dropped["r1"].users == 40


def test_equal_rows_stay_and_a_constant_lag_goes() -> None:
    same = np.linspace(0, 1, 30)
    assert race({"a": same, "b": same}, looks=3, look=1) == {}
    lag = np.full(30, 0.5)
    assert list(race({"a": lag, "b": lag - 0.25}, looks=3, look=1)) == ["b"]


def test_the_winner_of_the_full_run_is_seldom_dropped() -> None:
    users, looks, lost = 200, 5, 0
    for seed in range(150):
        full = rows(seed, (0.5,) * 6, users)  # all alike: the hardest case
        winner = max(full, key=lambda name: float(full[name].mean()))
        left = dict(full)
        for look in range(1, looks):
            seen = {name: own[: users * look // looks] for name, own in left.items()}
            for name in race(seen, looks, look, started=6):
                del left[name]
        lost += winner not in left
    assert lost <= 15  # 5 % of 150 is 7.5: a binomial bound


@pytest.mark.parametrize(
    ("looks", "look", "alpha"), [(3, 0, 0.05), (3, 4, 0.05), (3, 1, 0), (3, 1, 1)]
)
def test_numbers_out_of_range_are_refused(looks: int, look: int, alpha: float) -> None:
    with pytest.raises(OptionError, match="allowed"):
        race(rows(5, (0.5, 0.5)), looks, look, alpha)


def test_rows_of_other_users_are_refused() -> None:
    with pytest.raises(OptionError, match="same users"):
        race({"a": np.ones(12), "b": np.ones(13)}, 3, 1)
