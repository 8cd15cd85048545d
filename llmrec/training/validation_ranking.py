"""Where validation targets stand among all items."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llmrec.evaluation import target_ranks
from llmrec.items.fusion import FusionConfig
from llmrec.items.fusion.network import FusionNetwork
from llmrec.training.dataset import Material

_USERS = 256
"""Users that are ranked at once: bounds memory, not results."""


def validation_ranks(
    network: FusionNetwork, material: Material, config: FusionConfig
) -> NDArray[np.float64]:
    """Rank each validation target among all items but those of the user's history: float64 [n]."""
    network.eval()
    users = list(material.targets)
    ranks = []
    with torch.inference_mode():
        items = network.items(material.vectors, material.present, material.known)
        for start in range(0, len(users), _USERS):
            some = users[start : start + _USERS]
            scores = (
                user_vectors(network, items, material, some, config.history) @ items.T
            ).numpy()
            for row, user in enumerate(some):
                scores[row, material.sequences[user].items] = -np.inf
            targets = np.array([material.targets[user] for user in some])
            ranks.append(target_ranks(scores, targets, seed=config.seed))
    return np.concatenate(ranks)


def user_vectors(
    network: FusionNetwork,
    items: Tensor,
    material: Material,
    users: list[str],
    length: int,
) -> Tensor:
    """Encode the most recent ``length`` items of each user's history: [n_users, d]."""
    histories = [material.sequences[user].items[-length:] for user in users]
    opinions = [material.sequences[user].liked[-length:] for user in users]
    longest = max(len(rows) for rows in histories)
    rows = np.zeros((len(users), longest), dtype=np.int64)
    liked = np.ones((len(users), longest), dtype=bool)
    for place, (some, says) in enumerate(zip(histories, opinions, strict=True)):
        rows[place, : len(some)], liked[place, : len(some)] = some, says
    encoded: Tensor = network.users(items[torch.tensor(rows)], torch.tensor(liked))
    last = torch.tensor([len(some) for some in histories])
    return encoded[torch.arange(len(users)), last]
