"""The classic multimodal recommender: does this user meet this item, yes or no.

User and item vectors side by side, a linear layer to 512, an MLP with 256, a sigmoid; binary
cross-entropy against items the user really never met. A user vector is the mean of the item vectors
of the history without the item that is asked about, so a new user needs no training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from llmrec.catalog import Catalog
from llmrec.errors import OptionError
from llmrec.items import ModalityVectors
from llmrec.items.fusion import FusionConfig
from llmrec.records import Interaction
from llmrec.training.dataset import FusionDataset, UserHistory, build_dataset
from llmrec.training.train_fusion import reproducible

_PAIRS = 1024
"""Pairs a step."""


@dataclass(frozen=True, slots=True)
class ClassicFigures:
    """How well held-out pairs are told from as many sampled ones, each in [0, 1], higher better."""

    accuracy: float
    precision: float
    recall: float
    f1: float
    auc: float


@dataclass(frozen=True, eq=False)
class Classic:
    """A trained classic recommender over the items it was trained on.

    Attributes:
        network: Pairs [n, 2 d] to log-odds [n, 1].
        items: float32 [n_items, d], all modalities side by side.
    """

    network: nn.Module
    items: Tensor

    def scores(self, history: NDArray[np.int64]) -> NDArray[np.float32]:
        """The probability of each item for a history of item rows: float32 [n_items]."""
        user = _user(self.items, history)
        with torch.inference_mode():
            pairs = torch.cat([user.expand(len(self.items), -1), self.items], dim=1)
            found: NDArray[np.float32] = torch.sigmoid(self.network(pairs))[:, 0].numpy()
        return found


def train_classic(
    training: Catalog,
    modalities: Sequence[ModalityVectors],
    *,
    epochs: int = 5,
    negatives: int = 1,
    seed: int = 0,
) -> Classic:
    """Train it on every interaction and ``negatives`` sampled items for each.

    Args:
        training: Items and interactions.
        modalities: At least one; rows in the order of the items.
        epochs: Passes, 1 or more.
        negatives: Items the user never met that are drawn for each one met, 1 or more.
        seed: Of everything drawn.

    Raises:
        DataError: As of :func:`~llmrec.training.dataset.build_dataset`.
        OptionError: There is no modality, or a number is below 1.
    """
    if epochs < 1 or negatives < 1:
        raise OptionError(f"epochs is {epochs}, negatives {negatives}; allowed is 1 or more.")
    material = build_dataset(training, modalities, {}, FusionConfig(identities=False))
    items = torch.cat(list(material.vectors.values()), dim=1)
    draw = np.random.default_rng(seed)
    with reproducible(seed):
        network = nn.Sequential(
            nn.Linear(2 * items.shape[1], 512), nn.ReLU(), nn.Dropout(0.2),
            nn.Linear(512, 256), nn.ReLU(), nn.Dropout(0.2), nn.Linear(256, 1),
        )  # fmt: skip
        optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
        for _ in range(epochs):
            users, rows, labels = _pairs(material, items, negatives, draw)
            order = torch.tensor(draw.permutation(len(labels)))
            for some in order.split(_PAIRS):
                asked = torch.cat([users(some), items[rows[some]]], dim=1)
                loss = functional.binary_cross_entropy_with_logits(
                    network(asked)[:, 0], labels[some]
                )
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    return Classic(network.eval(), items)


def judge_classic(
    classic: Classic, training: Catalog, held_out: Mapping[str, Interaction], *, seed: int = 0
) -> ClassicFigures:
    """Compare each held-out pair with one item the user never met; scikit-learn's metrics.

    Raises:
        DataError: A held-out row is among the training rows, or names an unknown item.
        OptionError: There is no held-out row of a user with a history.
    """
    from sklearn import metrics  # noqa: PLC0415

    material = build_dataset(training, (), held_out, FusionConfig())
    if not material.targets:
        raise OptionError("There is no held-out row of a user with a history.")
    draw = np.random.default_rng(seed)
    odds: list[float] = []
    for user, target in material.targets.items():
        history = material.histories[user].items
        scores = classic.scores(history)
        other = _unmet(np.append(history, target), len(scores), 1, draw)[0]
        odds += [float(scores[target]), float(scores[other])]
    truth, found = np.tile([1, 0], len(material.targets)), np.array(odds)
    says = found >= 0.5
    return ClassicFigures(
        accuracy=float(metrics.accuracy_score(truth, says)),
        precision=float(metrics.precision_score(truth, says, zero_division=0)),
        recall=float(metrics.recall_score(truth, says, zero_division=0)),
        f1=float(metrics.f1_score(truth, says, zero_division=0)),
        auc=float(metrics.roc_auc_score(truth, found)),
    )


@dataclass(frozen=True, eq=False)
class _Users:
    """User vectors of pairs, made when asked for: a history's mean without the pair's own item."""

    items: Tensor
    sums: Tensor
    sizes: Tensor
    user: Tensor
    own: Tensor

    def __call__(self, some: Tensor) -> Tensor:
        user, own = self.user[some], self.own[some]
        left_out = self.items[own.clamp(min=0)] * (own >= 0)[:, None]
        sizes = self.sizes[user] - (own >= 0).float()
        return (self.sums[user] - left_out) / sizes.clamp(min=1)[:, None]


def _pairs(
    material: FusionDataset, items: Tensor, negatives: int, draw: np.random.Generator
) -> tuple[_Users, Tensor, Tensor]:
    histories: list[UserHistory] = list(material.histories.values())
    user: list[int] = []
    rows: list[int] = []
    own: list[int] = []
    for number, history in enumerate(histories):
        met = history.items
        unmet = _unmet(met, len(items), negatives * len(met), draw)
        user += [number] * (len(met) + len(unmet))
        rows += [*met.tolist(), *unmet.tolist()]
        own += [*met.tolist(), *[-1] * len(unmet)]
    sums = torch.stack([items[torch.tensor(h.items)].sum(dim=0) for h in histories])
    sizes = torch.tensor([float(len(h.items)) for h in histories])
    belongs = torch.tensor(own)
    users = _Users(items, sums, sizes, torch.tensor(user), belongs)
    return users, torch.tensor(rows), (belongs >= 0).float()


def _unmet(
    met: NDArray[np.int64], items: int, count: int, draw: np.random.Generator
) -> NDArray[np.int64]:
    free = np.setdiff1d(np.arange(items), met)
    return draw.choice(free if free.size else np.arange(items), size=count)


def _user(items: Tensor, history: NDArray[np.int64]) -> Tensor:
    rows = items[torch.tensor(history)]
    return rows.mean(dim=0) if len(history) else torch.zeros(items.shape[1])
