from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmrec.benchmarking.rows import METRIC, expected_metrics, oracle_row, rank_lists, rank_metrics
from llmrec.benchmarking.users import UserList
from llmrec.errors import OptionError
from llmrec.evaluation import target_ranks


def a_list(user: str, target: int | None, n: int = 4) -> UserList:
    items = tuple(f"i{column}" for column in range(n))
    name = "elsewhere" if target is None else items[target]
    return UserList(user, (name,), items, (None,) * n)


def test_ranks_and_orders_by_score() -> None:
    ranked = rank_lists([a_list("a", 1), a_list("b", None)], [[1, 3, 2, 0], [1, 2, 3, 4]], seed=0)
    np.testing.assert_array_equal(ranked.ranks[:, 0], [1, np.inf])
    assert ranked.orders == ((1, 2, 0, 3), (3, 2, 1, 0))
    oracle = oracle_row([a_list("a", 1), a_list("b", None)])
    np.testing.assert_array_equal(oracle.metrics[METRIC], [1, 0])


def test_user_without_scores_has_no_rank() -> None:
    lists = [a_list(f"u{n}", n % 4) for n in range(50)]
    same = [[0.0] * 4] * 50
    whole = rank_lists(lists, same, seed=3)
    some = rank_lists(lists, [None, *same[1:]], seed=3)
    assert np.isnan(some.ranks[0, 0])
    assert some.orders[0] == ()
    np.testing.assert_array_equal(some.ranks[1:], whole.ranks[1:])
    assert some.orders[1:] == whole.orders[1:]
    assert rank_lists(lists, same, seed=4).orders != whole.orders


@pytest.mark.parametrize("missing", [None, np.nan])
def test_unscored_candidates_come_last_in_prompt_order(missing: float | None) -> None:
    scores = [missing, -1e300, missing, 5.0]
    ranked = rank_lists([a_list("a", 2)], [scores], seed=0)
    assert ranked.orders == ((3, 1, 0, 2),)
    assert ranked.ranks[0, 0] == 4
    planted = rank_lists([a_list("a", 2)], [scores], seed=0, place=1)
    assert planted.orders == ((3, 1, 2, 0),)


def test_lists_of_different_length_share_a_table() -> None:
    ranked = rank_lists([a_list("a", 0, 2), a_list("b", 5, 6)], [[0, 0], [0] * 6], seed=1)
    assert ranked.ranks[0, 0] <= 2
    assert sorted(ranked.orders[0]) == [0, 1]
    assert sorted(ranked.orders[1]) == list(range(6))


@given(
    table=st.lists(st.lists(st.sampled_from([-1.0, 0.0, 2.5]), min_size=5, max_size=5), min_size=1),
    seed=st.integers(0, 50),
)
def test_ties_are_broken_as_everywhere_and_orders_hold_the_rank(
    table: list[list[float]], seed: int
) -> None:
    lists = [a_list(f"u{row}", row % 5, 5) for row in range(len(table))]
    ranked = rank_lists(lists, table, seed=seed)
    columns = [row % 5 for row in range(len(table))]
    np.testing.assert_array_equal(ranked.ranks[:, 0], target_ranks(table, columns, seed=seed))
    for scores, order, rank, column in zip(
        table, ranked.orders, ranked.ranks[:, 0], columns, strict=True
    ):
        assert order[int(rank) - 1] == column
        assert [scores[place] for place in order] == sorted(scores, reverse=True)


def test_ties_of_a_user_are_those_of_a_longer_run() -> None:
    tied = [replace(SEVERAL, user_id=f"u{n}") for n in range(20)]
    more = [*tied, a_list("long", 2, 30)]
    some = rank_lists(tied, [[0.0] * 4] * 20, seed=0)
    assert len(set(some.orders)) > 1
    assert rank_lists(more, [[0.0] * 4] * 20 + [[0.0] * 30], seed=0).orders[:20] == some.orders


@pytest.mark.parametrize("scores", [[[1.0]], [], [[1.0] * 4] * 2])
def test_as_many_scores_as_there_are_candidates(scores: Sequence[Sequence[float]]) -> None:
    with pytest.raises(OptionError, match="allowed"):
        rank_lists([a_list("a", 0)], scores, seed=0)


SEVERAL = UserList("a", ("i3", "i0"), ("i0", "i1", "i2", "i3"), (None,) * 4)


def test_several_relevant_candidates_have_a_rank_each() -> None:
    ranked = rank_lists([SEVERAL, a_list("b", 1)], [[1, 4, 2, 3], [1, 4, 2, 3]], seed=0)
    np.testing.assert_array_equal(ranked.ranks, [[4, 2], [1, np.nan]])
    metrics = rank_metrics(ranked.ranks)
    ideal = 1 + 1 / np.log2(3)
    np.testing.assert_allclose(metrics["ndcg@10"], [(1 / np.log2(3) + 1 / np.log2(5)) / ideal, 1])
    np.testing.assert_allclose(metrics["recall@1"], [0, 1])
    np.testing.assert_allclose(metrics["recall@5"], [1, 1])
    np.testing.assert_allclose(metrics["mrr"], [1 / 2, 1])
    np.testing.assert_allclose(metrics["map"], [(1 / 2 + 2 / 4) / 2, 1])
    assert oracle_row([SEVERAL]).metrics["ndcg@10"][0] == 1


def test_expected_metrics_are_the_mean_over_all_orders() -> None:
    for one in (SEVERAL, a_list("b", 2, 5), a_list("c", None, 5)):
        n = len(one.candidates)
        orders = list(permutations(range(n)))
        scores = [[-float(order.index(at)) for at in range(n)] for order in orders]
        every = rank_metrics(rank_lists([one] * len(orders), scores, seed=0).ranks)
        for name, value in expected_metrics([one]).items():
            assert value[0] == pytest.approx(every[name].mean()), name
