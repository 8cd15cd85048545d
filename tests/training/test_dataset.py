from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from llmrec.items.fusion import FusionConfig
from llmrec.records import Interaction
from llmrec.retrieval import Index, hold_out
from llmrec.training import hold_out_last_rows
from llmrec.training.dataset import (
    UserHistory,
    Window,
    batches,
    build_dataset,
    histories_of,
    targets_of,
    windows,
)
from llmrec.training.train_fusion import initial_identities
from tests.training.conftest import World


def met(n: int) -> UserHistory:
    rows = np.arange(n)
    return UserHistory(100 + rows, rows % 2 == 0, rows, np.zeros(0, dtype=np.float32))


@pytest.mark.parametrize("n", [1, 2, 5, 6, 7, 20, 33])
@pytest.mark.parametrize("longest", [1, 2, 6])
def test_each_item_is_the_target_once_from_the_items_before_it(n: int, longest: int) -> None:
    found: list[int] = []
    for window in windows([n], longest, np.random.default_rng(3)):
        given = histories_of([met(n)], [window.read])
        targets, there = targets_of([met(n)], [window])
        assert given.items.shape[1] <= longest
        assert targets.shape[1] == given.items.shape[1] + 1
        for place in np.flatnonzero(there[0]):
            found.append(int(targets[0, place]))
            if place:
                assert given.items[0, place - 1] == found[-1] - 1
            else:
                assert found[-1] == 100
    assert found == list(range(100, 100 + n))


def test_a_long_history_is_cut_elsewhere_in_every_epoch() -> None:
    draw = np.random.default_rng(0)
    cuts = {windows([50], 10, draw)[0].stop for _ in range(60)}
    assert cuts == set(range(1, 11))


def test_a_batch_is_filled_up_at_the_end() -> None:
    some = [Window(0, 0, 3), Window(1, 1, 2)]
    given = histories_of([met(3), met(2)], [window.read for window in some])
    assert given.items.tolist() == [[100, 101], [100, 0]]
    assert given.times.tolist() == [[0, 1], [0, -1]]
    targets, there = targets_of([met(3), met(2)], some)
    assert targets.tolist() == [[100, 101, 102], [100, 101, 0]]
    assert there.tolist() == [[True, True, True], [False, True, False]]


def test_batches_hold_every_window_and_little_filling() -> None:
    draw = np.random.default_rng(0)
    some = windows(list(range(1, 120)), 40, draw)
    made = list(batches(some, 200, draw))
    assert sorted(w for batch in made for w in (hash(one) for one in batch)) == sorted(
        map(hash, some)
    )
    lengths = [[window.stop - window.start for window in batch] for batch in made]
    assert all(max(some) * len(some) <= 200 for some in lengths)
    assert sum(max(some) * len(some) for some in lengths) < 1.1 * sum(map(sum, lengths))


def test_the_rows_held_out_are_those_that_weights_are_learned_on(world: World) -> None:
    few = [Interaction("few", f"i{n}", None, n) for n in (0, 1, 2, 0, 3)]
    catalog = replace(world.training, interactions=(*world.training.interactions, *few))
    training, validation = hold_out_last_rows(catalog)
    vectors = np.ones((len(catalog.items), 1), dtype=np.float32)
    known, targets = hold_out(Index(catalog.items, vectors, catalog.interactions))
    assert {user: row.item_id for user, row in validation.items()} == targets
    rows = (training.interactions, known.interactions)
    assert Counter(rows[0]) == Counter(rows[1])  # the repeated one is in neither


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
