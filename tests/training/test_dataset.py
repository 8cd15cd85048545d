from __future__ import annotations

import numpy as np
import pytest
import torch

from llmrec.items.fusion import FusionConfig
from llmrec.training.dataset import UserHistory, batch_of, build_dataset, vary, windows
from llmrec.training.train_fusion import initial_identities
from tests.training.conftest import World


def met(n: int) -> UserHistory:
    return UserHistory(np.arange(100, 100 + n), np.arange(n) % 2 == 0)


@pytest.mark.parametrize("n", [1, 2, 5, 6, 7, 20, 33])
@pytest.mark.parametrize("length", [1, 2, 6])
def test_each_item_is_the_target_once_from_the_items_before_it(n: int, length: int) -> None:
    targets = []
    for window in windows(met(n), length, horizon=1):
        assert len(window.items) <= length
        for place in np.flatnonzero(window.given[:, 0]):
            target = window.targets[place, 0]
            targets.append(target)
            if place:
                assert window.items[place - 1] == target - 1
    assert targets == list(range(100, 100 + n))


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


def test_items_that_the_same_users_met_start_close(world: World) -> None:
    dataset = build_dataset(world.training, (), {}, FusionConfig())
    n = len(dataset.known_ids)
    start = torch.randn(n, 4, generator=torch.Generator().manual_seed(0)) / 2
    made = initial_identities(dataset, start).numpy()
    np.testing.assert_array_equal(made, initial_identities(dataset, start).numpy())
    kind = np.array([int(item_id[1:]) % 4 for item_id in dataset.known_ids])
    units = made / np.linalg.norm(made, axis=1, keepdims=True)
    cosines, same = units @ units.T, kind[:, None] == kind
    assert cosines[same].mean() > 0.9
    assert abs(cosines[~same]).mean() < 0.2
    np.testing.assert_allclose(made.std(), start.std(), rtol=0.2)


def test_columns_beyond_the_rank_stay_random(world: World) -> None:
    dataset = build_dataset(world.training, (), {}, FusionConfig())
    start = torch.randn(len(dataset.known_ids), 100)
    made = initial_identities(dataset, start)
    rank = min(len(dataset.histories), len(dataset.known_ids)) - 1
    torch.testing.assert_close(made[:, rank:], start[:, rank:])
