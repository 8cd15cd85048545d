from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from llmrec.benchmarking.cells import Cell
from llmrec.benchmarking.measures import (
    beyond_accuracy,
    calibration_error,
    diversity,
    gini,
    length_bias,
    paraphrases,
    reliability,
    spread,
    user_groups,
)
from llmrec.benchmarking.rows import RankedLists, RowScores, rank_lists
from llmrec.benchmarking.users import ItemFacts, UserList

NAN = np.nan
CELL = Cell("pointwise/a", "1", "pointwise", "m", "", "none", "all", {})


def test_gini_by_hand() -> None:
    assert gini([1, 1, 1, 1]) == pytest.approx(0)
    assert gini([0, 0, 0, 8]) == pytest.approx(0.75)
    assert gini([1, 3]) == pytest.approx(0.25)
    assert gini([0, 0]) == 0


def test_diversity_by_vectors() -> None:
    vectors = {"a": np.array([2.0, 0]), "b": np.array([0, 0.5]), "c": np.array([-1.0, 0])}
    assert diversity(["a", "b"], ItemFacts(vectors=vectors)) == pytest.approx(1)
    assert diversity(["a", "b", "c"], ItemFacts(vectors=vectors)) == pytest.approx((1 + 2 + 1) / 3)
    assert diversity(["a", "unknown"], ItemFacts(vectors=vectors)) is None


def test_length_bias_has_the_sign_of_long_titles_first() -> None:
    assert length_bias(["long title", "title", "t"]) == pytest.approx(1)
    assert length_bias(["t", None, "title", "long title"]) == pytest.approx(-1)
    assert length_bias(["one", "two"]) is None
    assert length_bias([None, None]) is None


def two_lists(first: int = 11) -> tuple[list[UserList], RankedLists]:
    """Twelve items of popularity 0 to 11; both users rank the most popular first."""
    items = tuple(f"i{n}" for n in range(12))
    popularity = tuple(float(n) for n in range(12))
    lists = [UserList(u, ("i0",), items, (None,) * 12, popularity) for u in ("u", "v")]
    return lists, rank_lists(lists, [popularity, None], seed=0)


def test_a_row_by_hand() -> None:
    lists, ranked = two_lists()
    facts = ItemFacts(
        titles={f"i{n}": "x" * (n + 1) for n in range(12)},
        vectors={f"i{n}": np.eye(12)[n] for n in range(12)},
        training_users=15,
    )
    found = beyond_accuracy(lists, ranked, facts)
    assert found["coverage"] == pytest.approx(10 / 12)
    assert found["gini"] == pytest.approx(gini([0, 0, *[1] * 10]))
    assert found["novelty"] == pytest.approx(np.mean([np.log2(16 / (n + 1)) for n in range(2, 12)]))
    assert found["intra-list diversity"] == 1
    assert found["popularity lift"] == pytest.approx(6.5 / 5.5 - 1)
    assert found["length bias"] == pytest.approx(1)


def test_measures_without_data_are_skipped() -> None:
    lists, ranked = two_lists()
    assert set(beyond_accuracy(lists, ranked, ItemFacts())) == {
        "coverage", "gini", "popularity lift",
    }  # fmt: skip
    nobody = rank_lists(lists, [None, None], seed=0)
    assert beyond_accuracy(lists, nobody, ItemFacts()) == {}


LISTWISE = replace(CELL, strategy="listwise")


def world(users: int, seed: int) -> tuple[list[UserList], list[list[float]]]:
    """Targets drawn by the odds that the scores say: calibrated by construction."""
    rng = np.random.default_rng(seed)
    lists, scores = [], []
    items = tuple("abcde")
    for user in range(users):
        odds = rng.normal(size=5)
        chances = np.exp(odds) / np.exp(odds).sum()
        target = items[int(rng.choice(5, p=chances))]
        lists.append(UserList(f"u{user}", (target,), items, (None,) * 5))
        scores.append([float(np.log(p / (1 - p))) for p in chances])
    return lists, scores


def test_calibrated_odds_have_no_error_and_shifted_ones_have() -> None:
    lists, scores = world(4000, 0)
    bins = reliability(CELL, lists, scores)
    assert [entry.candidates for entry in bins] == [2000] * 10
    assert [b.predicted for b in bins] == sorted(b.predicted for b in bins)
    assert calibration_error(bins) < 0.015
    shifted = [[score + 2 for score in own] for own in scores]
    assert calibration_error(reliability(CELL, lists, shifted)) > 0.2


def test_log_probabilities_of_a_whole_list_are_softened_to_one() -> None:
    lists, scores = world(2000, 1)
    logs = [[-np.logaddexp(0, -s) - 5 for s in own] for own in scores]  # log p, short of one by 5
    bins = reliability(LISTWISE, lists, logs)
    assert calibration_error(bins) < 0.02
    assert sum(b.predicted * b.candidates for b in bins) == pytest.approx(2000)


def test_unscored_users_are_skipped() -> None:
    lists, scores = world(4, 2)
    table = [None, [None] * 5, *scores[2:]]
    assert sum(b.candidates for b in reliability(CELL, lists, table)) == 10
    assert reliability(CELL, lists, [None] * 4) == ()


@pytest.mark.parametrize(
    "cell", [replace(CELL, strategy="likelihood"), replace(CELL, calibrate=True)]
)
def test_scores_that_are_no_probabilities_have_no_reliability(cell: Cell) -> None:
    lists, scores = world(3, 3)
    assert reliability(cell, lists, scores) == ()


def test_places_from_windows_are_no_probabilities() -> None:
    lists, _ = world(1, 4)
    assert reliability(LISTWISE, lists, [[5.0, 4.0, 3.0, 2.0, 1.0]]) == ()


def test_spread_of_users_differs_from_spread_of_means() -> None:
    found = spread([np.array([1.0, 0, 1, NAN]), np.array([0.0, 1, 1, 1])])
    assert found.of_means == 0
    assert found.within_user == pytest.approx(2 / 3)
    assert found.users == 3
    assert spread([np.array([NAN, 1.0]), np.array([1.0, NAN])]).users == 0


def row_of(name: str, **settings: str) -> RowScores:
    cell = replace(CELL, name=name, **settings)  # type: ignore[arg-type]
    return RowScores(name, "cell", {}, cell=cell)


def test_paraphrases_differ_only_in_wording() -> None:
    rows = [
        row_of("a", template="p/a"),
        row_of("a2", template="p/a2", template_sha256="2", variant_of="p/a"),
        row_of("b", template="p/b"),
        row_of("a big", template="p/a", model="n"),
    ]
    assert paraphrases(rows) == {"p/a": ("a", "a2")}
    assert paraphrases(rows[::-1]) == {"p/a": ("a", "a2")}
    rows.append(row_of("a2 big", template="p/a2", model="n", variant_of="p/a"))
    assert paraphrases(rows) == {"a": ("a", "a2"), "a big": ("a big", "a2 big")}


def lists_of(activity: list[int], popularity: list[int]) -> list[UserList]:
    return [
        UserList(f"u{n}", ("i",), ("i",), (None,), (0.0,), a, p)
        for n, (a, p) in enumerate(zip(activity, popularity, strict=True))
    ]


def test_users_are_split_by_activity_and_rarity_and_equal_values_stay_together() -> None:
    splits = user_groups(lists_of([9, 1, 2, 8, 3, 5, 6, 4, 7], [0, 0, 0, 0, 0, 0, 0, 4, 9]))
    assert {group: mask.sum() for group, mask in splits["activity"].items()} == {
        "low (1 to 3)": 3,
        "middle (4 to 6)": 3,
        "high (7 to 9)": 3,
    }
    assert list(splits["rarity of the target"]) == ["0-4 interactions (8)", "5-9 interactions (1)"]
    for groups in splits.values():
        assert np.stack(list(groups.values())).sum(axis=0).tolist() == [1] * 9


def test_few_users_are_split_too() -> None:
    assert list(user_groups(lists_of([5], [5]))["activity"]) == ["low (5)"]
