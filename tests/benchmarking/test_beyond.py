from __future__ import annotations

import numpy as np
import pytest

from llmrec.benchmarking.beyond import ItemFacts, beyond_accuracy, diversity, gini, length_bias
from llmrec.benchmarking.ranking import RankedLists, rank_lists
from llmrec.benchmarking.records import UserList


def test_gini_by_hand() -> None:
    assert gini([1, 1, 1, 1]) == pytest.approx(0)
    assert gini([0, 0, 0, 8]) == pytest.approx(0.75)
    assert gini([1, 3]) == pytest.approx(0.25)
    assert gini([0, 0]) == 0


def test_diversity_by_vectors_and_by_genres() -> None:
    vectors = {"a": np.array([2.0, 0]), "b": np.array([0, 0.5]), "c": np.array([-1.0, 0])}
    assert diversity(["a", "b"], ItemFacts(vectors=vectors)) == pytest.approx(1)
    assert diversity(["a", "b", "c"], ItemFacts(vectors=vectors)) == pytest.approx((1 + 2 + 1) / 3)
    genres = {"a": ["x", "y"], "b": ["y"], "c": ["z"]}
    facts = ItemFacts(genres=genres)
    assert diversity(["a", "b", "c"], facts) == pytest.approx((0.5 + 1 + 1) / 3)
    assert diversity(["a", "unknown"], facts) is None


def test_length_bias_has_the_sign_of_long_titles_first() -> None:
    assert length_bias(["long title", "title", "t"]) == pytest.approx(1)
    assert length_bias(["t", None, "title", "long title"]) == pytest.approx(-1)
    assert length_bias(["one", "two"]) is None
    assert length_bias([None, None]) is None


def two_lists(first: int = 11) -> tuple[list[UserList], RankedLists]:
    """Twelve items of popularity 0 to 11; both users rank the most popular first."""
    items = tuple(f"i{n}" for n in range(12))
    popularity = tuple(float(n) for n in range(12))
    lists = [UserList(u, "i0", items, (None,) * 12, popularity, 1, 0, True) for u in ("u", "v")]
    return lists, rank_lists(lists, [popularity, None], seed=0)


def test_a_row_by_hand() -> None:
    lists, ranked = two_lists()
    facts = ItemFacts(
        titles={f"i{n}": "x" * (n + 1) for n in range(12)},
        genres={f"i{n}": [str(n)] for n in range(12)},
        training_users=15,
    )
    found = beyond_accuracy(lists, ranked, facts)
    assert found["coverage"] == pytest.approx(10 / 12)
    assert found["gini"] == pytest.approx(gini([0, 0, *[1] * 10]))
    assert found["novelty"] == pytest.approx(np.mean([np.log2(16 / (n + 1)) for n in range(2, 12)]))
    assert found["intra-list diversity"] == 1
    assert found["popularity lift"] == pytest.approx(6.5 / 5.5 - 1)
    assert found["length bias"] == pytest.approx(1)


def test_what_cannot_be_had_is_left_out() -> None:
    lists, ranked = two_lists()
    assert set(beyond_accuracy(lists, ranked, ItemFacts())) == {
        "coverage", "gini", "popularity lift",
    }  # fmt: skip
    nobody = rank_lists(lists, [None, None], seed=0)
    assert beyond_accuracy(lists, nobody, ItemFacts()) == {}
