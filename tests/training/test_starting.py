from __future__ import annotations

import numpy as np
import torch

from llmrec.items.fusion import FusionConfig
from llmrec.training.dataset import build_dataset
from llmrec.training.train_fusion import initial_identities
from tests.training.world import World


def test_items_that_the_same_users_met_start_close(world: World) -> None:
    material = build_dataset(world.training, (), {}, FusionConfig())
    n = len(material.known_ids)
    start = torch.randn(n, 4, generator=torch.Generator().manual_seed(0)) / 2
    made = initial_identities(material, start).numpy()
    np.testing.assert_array_equal(made, initial_identities(material, start).numpy())
    kind = np.array([int(item_id[1:]) % 4 for item_id in material.known_ids])
    units = made / np.linalg.norm(made, axis=1, keepdims=True)
    cosines, same = units @ units.T, kind[:, None] == kind
    assert cosines[same].mean() > 0.9
    assert abs(cosines[~same]).mean() < 0.2
    np.testing.assert_allclose(made.std(), start.std(), rtol=0.2)


def test_columns_beyond_the_rank_stay_random(world: World) -> None:
    material = build_dataset(world.training, (), {}, FusionConfig())
    start = torch.randn(len(material.known_ids), 100)
    made = initial_identities(material, start)
    rank = min(len(material.histories), len(material.known_ids)) - 1
    torch.testing.assert_close(made[:, rank:], start[:, rank:])
