"""The classic multimodal recommender: does this user meet this item, yes or no.

User and item vectors side by side, a linear layer to 512, an MLP with 256, a sigmoid; binary
cross-entropy against sampled items that the user never met. A user vector is the mean of the item
vectors of the history without the item that is asked about.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn import metrics
from torch import Tensor, nn
from torch.nn import functional

Rows = NDArray[np.int64]
BATCH = 1024


@dataclass(frozen=True)
class Classic:
    """A trained network, and float32 [n_items, d], all modalities side by side."""

    network: nn.Module
    items: Tensor

    def scores(self, history: Rows) -> NDArray[np.float64]:
        """The probability of each item: [n_items]."""
        user = self.items[torch.tensor(history)].mean(dim=0)
        with torch.inference_mode():
            pairs = torch.cat([user.expand(len(self.items), -1), self.items], dim=1)
            return np.asarray(torch.sigmoid(self.network(pairs))[:, 0].numpy(), dtype=np.float64)


def train(
    vectors: NDArray[np.float32], histories: Sequence[Rows], *, epochs: int = 5, seed: int = 0
) -> Classic:
    """Train on every interaction and one sampled item for each."""
    items, draw = torch.tensor(vectors), np.random.default_rng(seed)
    sums = torch.stack([items[torch.tensor(history)].sum(dim=0) for history in histories])
    sizes = torch.tensor([float(len(history)) for history in histories])
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = nn.Sequential(
            nn.Linear(2 * items.shape[1], 512), nn.ReLU(), nn.Dropout(0.2),
            nn.Linear(512, 256), nn.ReLU(), nn.Dropout(0.2), nn.Linear(256, 1),
        )  # fmt: skip
        optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
        for _ in range(epochs):
            users, rows, met = _pairs(histories, len(items), draw)
            for some in torch.tensor(draw.permutation(len(rows))).split(BATCH):
                own = met[some][:, None]
                rest = sums[users[some]] - items[rows[some]] * own
                mean = rest / (sizes[users[some]][:, None] - own).clamp(min=1)
                logits = network(torch.cat([mean, items[rows[some]]], dim=1))[:, 0]
                loss = functional.binary_cross_entropy_with_logits(logits, met[some])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    return Classic(network.eval(), items)


def figures(
    classic: Classic, histories: Sequence[Rows], targets: Sequence[int], *, seed: int = 0
) -> dict[str, float]:
    """Each held-out item against one that the user never met, by scikit-learn's metrics."""
    draw, odds = np.random.default_rng(seed), []
    for history, target in zip(histories, targets, strict=True):
        scores = classic.scores(history)
        other = _unmet(np.append(history, target), len(scores), 1, draw)[0]
        odds += [scores[target], scores[other]]
    truth, found = np.tile([1, 0], len(targets)), np.array(odds)
    says = found >= 0.5
    return {
        "accuracy": float(metrics.accuracy_score(truth, says)),
        "precision": float(metrics.precision_score(truth, says, zero_division=0)),
        "recall": float(metrics.recall_score(truth, says, zero_division=0)),
        "f1": float(metrics.f1_score(truth, says, zero_division=0)),
        "auc": float(metrics.roc_auc_score(truth, found)),
    }


def _pairs(
    histories: Sequence[Rows], n_items: int, draw: np.random.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Users, items, and 1 where the user met the item, of an epoch."""
    users: list[int] = []
    rows: list[int] = []
    met: list[float] = []
    for user, history in enumerate(histories):
        unmet = _unmet(history, n_items, len(history), draw)
        users += [user] * (2 * len(history))
        rows += [*history.tolist(), *unmet.tolist()]
        met += [1.0] * len(history) + [0.0] * len(unmet)
    return torch.tensor(users), torch.tensor(rows), torch.tensor(met)


def _unmet(met: Rows, n_items: int, count: int, draw: np.random.Generator) -> Rows:
    free = np.setdiff1d(np.arange(n_items), met)
    return draw.choice(free if free.size else np.arange(n_items), size=count)
