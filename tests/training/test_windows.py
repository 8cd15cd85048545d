from __future__ import annotations

import numpy as np
import pytest

from llmrec.training.augmentation import vary
from llmrec.training.dataset import UserHistory, batch_of, windows


def met(n: int) -> UserHistory:
    return UserHistory(np.arange(100, 100 + n), np.arange(n) % 2 == 0)


@pytest.mark.parametrize("n", [1, 2, 5, 6, 7, 20, 33])
@pytest.mark.parametrize("length", [1, 2, 6])
def test_each_item_is_foretold_once_from_the_items_before_it(n: int, length: int) -> None:
    foretold = []
    for window in windows(met(n), length, horizon=1):
        assert len(window.items) <= length
        for place in np.flatnonzero(window.given[:, 0]):
            target = window.targets[place, 0]
            foretold.append(target)
            if place:
                assert window.items[place - 1] == target - 1
    assert foretold == list(range(100, 100 + n))


def test_a_horizon_looks_further_but_not_past_the_end() -> None:
    (window,) = windows(met(3), 6, horizon=2)
    assert window.targets.tolist() == [[100, 101], [101, 102], [102, 102]]
    assert window.given.tolist() == [[True, True], [True, True], [True, False]]


def test_a_batch_is_filled_up_at_the_end() -> None:
    batch = batch_of([*windows(met(3), 6, 1), *windows(met(2), 6, 1)], filler=7)
    assert batch.items.tolist() == [[100, 101], [100, 7]]
    assert batch.given[:, :, 0].tolist() == [[True, True, True], [True, True, False]]


@pytest.mark.parametrize("way", ["crop", "mask", "reorder"])
def test_variants_are_seeded_and_keep_their_promise(way: str) -> None:
    (window,) = windows(met(11), 20, 1)
    one, two = (vary(window, (way,), 7, np.random.default_rng(3)) for _ in range(2))
    np.testing.assert_array_equal(one.items, two.items)
    assert len(one.targets) == len(one.items) + 1
    if way == "crop":
        assert one.items.tolist() == list(range(one.items[0], one.items[0] + 6))
    if way == "mask":
        assert (one.items == 7).sum() == 3
    if way == "reorder":
        assert sorted(one.items) == sorted(window.items)
        assert (one.items != window.items).any()
        np.testing.assert_array_equal((one.items - 100) % 2 == 0, one.liked)
    assert window.items.tolist() == list(range(100, 110))
