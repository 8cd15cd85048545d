from __future__ import annotations

import numpy as np
import pytest

from llmrec.benchmarking.records import UserList
from llmrec.benchmarking.reliability import calibration_error, reliability

POINTWISE = {"strategy": "pointwise"}


def world(users: int, seed: int) -> tuple[list[UserList], list[list[float]]]:
    """Targets drawn by the odds that the scores say: calibrated by construction."""
    rng = np.random.default_rng(seed)
    lists, scores = [], []
    items = tuple("abcde")
    for user in range(users):
        odds = rng.normal(size=5)
        chances = np.exp(odds) / np.exp(odds).sum()
        target = items[int(rng.choice(5, p=chances))]
        lists.append(UserList(f"u{user}", target, items, (None,) * 5, (0.0,) * 5, 1, 0, True))
        scores.append([float(np.log(p / (1 - p))) for p in chances])
    return lists, scores


def test_calibrated_odds_have_no_error_and_shifted_ones_have() -> None:
    lists, scores = world(4000, 0)
    bins = reliability(POINTWISE, lists, scores)
    assert [entry.candidates for entry in bins] == [2000] * 10
    assert [b.predicted for b in bins] == sorted(b.predicted for b in bins)
    assert calibration_error(bins) < 0.015
    shifted = [[score + 2 for score in own] for own in scores]
    assert calibration_error(reliability(POINTWISE, lists, shifted)) > 0.2


def test_log_probabilities_of_a_whole_list_are_softened_to_one() -> None:
    lists, scores = world(2000, 1)
    logs = [[-np.logaddexp(0, -s) - 5 for s in own] for own in scores]  # log p, short of one by 5
    bins = reliability({"strategy": "listwise"}, lists, logs)
    assert calibration_error(bins) < 0.02
    assert sum(b.predicted * b.candidates for b in bins) == pytest.approx(2000)


def test_who_was_not_judged_is_left_out() -> None:
    lists, scores = world(4, 2)
    table = [None, [None] * 5, *scores[2:]]
    assert sum(b.candidates for b in reliability(POINTWISE, lists, table)) == 10
    assert reliability(POINTWISE, lists, [None] * 4) == ()


@pytest.mark.parametrize(
    "settings",
    [{}, {"strategy": "likelihood"}, {"strategy": "pointwise", "calibrate": True}],
)
def test_scores_that_are_no_probabilities_have_no_reliability(
    settings: dict[str, str | int | bool],
) -> None:
    lists, scores = world(3, 3)
    assert reliability(settings, lists, scores) == ()


def test_places_from_windows_are_no_probabilities() -> None:
    lists, _ = world(1, 4)
    assert reliability({"strategy": "listwise"}, lists, [[5.0, 4.0, 3.0, 2.0, 1.0]]) == ()
