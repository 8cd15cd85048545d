"""The sorters against judges that are always right: exact where they promise it, and how cheap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmrec.reranking.ordering import Best, Group, Orders, sliding_windows, top_by_best, top_down


@dataclass
class Held:
    """What a sorter gave, and what it took."""

    order: list[int]
    rounds: list[list[Group]]

    @property
    def comparisons(self) -> int:
        return sum(map(len, self.rounds))


def ordered(group: Group, worth: Sequence[float]) -> list[int]:
    """Places of a group, best first; of equals the one that was given first."""
    return sorted(range(len(group)), key=lambda i: (-worth[group[i]], group[i]))


def best(sorter: Best, worth: Sequence[float]) -> Held:
    rounds: list[list[Group]] = []
    answers: list[int] | None = None
    while True:
        try:
            groups = next(sorter) if answers is None else sorter.send(answers)
        except StopIteration as stop:
            return Held(stop.value, rounds)
        rounds.append(groups)
        answers = [ordered(group, worth)[0] for group in groups]


def orders(sorter: Orders, worth: Sequence[float]) -> Held:
    rounds: list[list[Group]] = []
    answers: list[list[int]] | None = None
    while True:
        try:
            groups = next(sorter) if answers is None else sorter.send(answers)
        except StopIteration as stop:
            return Held(stop.value, rounds)
        rounds.append(groups)
        answers = [ordered(group, worth) for group in groups]


def oracle(worth: Sequence[float]) -> list[int]:
    return ordered(tuple(range(len(worth))), worth)


def sound(held: Held, most: int) -> None:
    for groups in held.rounds:
        assert groups
        for group in groups:
            assert 2 <= len(group) <= most
            assert len(set(group)) == len(group)


# Few different values, so that there are ties.
worths = st.lists(st.integers(0, 12).map(float), min_size=1, max_size=70)


@settings(max_examples=200, deadline=None)
@given(worths, st.integers(1, 15), st.integers(3, 6))
def test_the_heap_finds_exactly_the_best(worth: list[float], top: int, ways: int) -> None:
    held = best(top_by_best(len(worth), top, ways), worth)
    assert held.order == oracle(worth)[:top]
    sound(held, ways)
    for groups in held.rounds:  # what is compared at the same time has no place in common
        places = [place for group in groups for place in group]
        assert len(set(places)) == len(places)


@settings(max_examples=200, deadline=None)
@given(worths, st.integers(2, 20), st.data())
def test_windows_bring_exactly_the_best_to_the_head(
    worth: list[float], window: int, data: st.DataObject
) -> None:
    step = data.draw(st.integers(1, window - 1))
    held = orders(sliding_windows(len(worth), window, step), worth)
    exact = len(worth) if len(worth) <= window else window - step
    assert held.order[:exact] == oracle(worth)[:exact]
    assert sorted(held.order) == list(range(len(worth)))
    assert all(len(groups) == 1 for groups in held.rounds)
    if len(worth) > 1:
        sound(held, window)


@settings(max_examples=200, deadline=None)
@given(worths, st.integers(3, 20), st.data())
def test_a_tournament_settles_exactly_the_best(
    worth: list[float], window: int, data: st.DataObject
) -> None:
    top = data.draw(st.integers(1, window - 1))
    held = orders(top_down(len(worth), top, window), worth)
    assert held.order[:top] == oracle(worth)[:top]
    assert sorted(held.order) == list(range(len(worth)))
    sound(held, window)


@settings(max_examples=100, deadline=None)
@given(st.integers(2, 60), st.integers(3, 20), st.integers(0, 1000))
def test_an_inconsistent_judge_still_gets_a_permutation(n: int, window: int, seed: int) -> None:
    whims = Random(seed)
    for sorter in (sliding_windows(n, window, 1), top_down(n, window - 1, window)):
        order = whimsical(sorter, whims)
        assert sorted(order) == list(range(n))


def whimsical(sorter: Orders, whims: Random) -> list[int]:
    answers: list[list[int]] | None = None
    while True:
        try:
            groups = next(sorter) if answers is None else sorter.send(answers)
        except StopIteration as stop:
            order: list[int] = stop.value
            return order
        answers = [whims.sample(range(len(group)), len(group)) for group in groups]


def test_equals_keep_the_order_they_were_given_in() -> None:
    flat = [0.0] * 45
    assert best(top_by_best(45, 45, 4), flat).order == list(range(45))
    assert orders(sliding_windows(45, 20, 10), flat).order == list(range(45))
    assert orders(top_down(45, 10, 20), flat).order == list(range(45))


def spread(n: int) -> list[float]:
    """A fixed order that is neither sorted nor reversed."""
    return [float(place * 37 % 101) for place in range(n)]


# (comparisons, rounds) at 20 and at 100 candidates: what a caller pays, and waits for.
@pytest.mark.parametrize(
    ("n", "of_heap", "of_windows", "of_tournament"),
    [(20, (30, 26), (1, 1), (1, 1)), (100, (82, 44), (9, 9), (10, 5))],
)
def test_comparisons_per_algorithm(
    n: int, of_heap: tuple[int, int], of_windows: tuple[int, int], of_tournament: tuple[int, int]
) -> None:
    worth = spread(n)
    heap = best(top_by_best(n, 10, 4), worth)
    windows = orders(sliding_windows(n, 20, 10), worth)
    tournament = orders(top_down(n, 10, 20), worth)
    assert (heap.comparisons, len(heap.rounds)) == of_heap
    assert (windows.comparisons, len(windows.rounds)) == of_windows
    assert (tournament.comparisons, len(tournament.rounds)) == of_tournament


def test_top_down_takes_two_rounds_if_the_pivot_wins() -> None:
    held = orders(top_down(100, 10, 20), [float(-place) for place in range(100)])
    assert held.order[:10] == list(range(10))
    assert len(held.rounds) == 2
    assert held.comparisons == 1 + 5  # the head, and 80 others in windows of 19 and the pivot
