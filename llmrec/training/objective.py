"""The training objective: the next item of every position, in a softmax over all items."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from llmrec.items.fusion.network import FusionNetwork, Histories, softmax_loss
from llmrec.training.dataset import FusionDataset, UserHistory, Window, histories_of, targets_of

SAMPLED_ABOVE = 32_768
"""Items up to which the softmax is over all; above it is over so many sampled ones."""
LEAST_DRAWN = 1_024
"""Sampled items a step has at least, however many targets it has."""


def described_softmax(dataset: FusionDataset) -> str:
    """Describe which items the softmax is over."""
    if len(dataset.item_ids) <= SAMPLED_ABOVE:
        return "the softmax is over all of them"
    return f"the softmax is over {SAMPLED_ABOVE} sampled ones"


def batch_loss(
    network: FusionNetwork,
    dataset: FusionDataset,
    histories: Sequence[UserHistory],
    some: Sequence[Window],
    draw: np.random.Generator,
) -> Tensor:
    """Return the mean cross-entropy of a batch's targets.

    Args:
        network: In training mode.
        dataset: With tensors where the network is.
        histories: The data set's, by ``Window.user``.
        some: The batch.
        draw: Of sampled items.
    """
    device = dataset.identities.device
    chosen = [histories[window.user] for window in some]
    given = histories_of(chosen, [window.read for window in some]).to(device)
    targets, there = (tensor.to(device) for tensor in targets_of(chosen, some))
    targets = targets[there]
    n, log_q = len(dataset.item_ids), None
    if n <= SAMPLED_ABOVE:
        items = network.items(*dataset.of_items(slice(None)))
    else:
        drawn = draw.integers(n, size=max(LEAST_DRAWN, SAMPLED_ABOVE - len(targets)))
        met = torch.cat([given.items.flatten(), targets, torch.tensor(drawn, device=device)])
        rows, places = torch.unique(met, return_inverse=True)
        read, targets, _ = places.split([given.items.numel(), len(targets), len(drawn)])
        given = Histories(read.reshape(given.items.shape), given.liked, given.times, given.profiles)
        items = network.items(*dataset.of_items(rows))
        # The probability that an item is among the targets or the drawn items.
        share = dataset.counts[rows].double() / dataset.counts.sum()
        absent = (1 - share) ** len(targets) * (1 - 1 / n) ** len(drawn)
        log_q = torch.log((1 - absent).clamp(min=1e-12)).float()
    users = network.users(items[given.items], given)
    return softmax_loss(users[there], items, targets, log_q)
