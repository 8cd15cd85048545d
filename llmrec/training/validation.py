"""Validation of a fusion as it is used: beside the retriever's other signals, reweighted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llmrec.catalog import Catalog
from llmrec.errors import DataError
from llmrec.evaluation import ndcg_at, recall_at, target_ranks
from llmrec.items import ModalityVectors
from llmrec.retrieval import (
    DEFAULT_WEIGHTS,
    Index,
    Retriever,
    SignalList,
    fit_weights,
    learn_weights,
)
from llmrec.retrieval.item_vectors import join
from llmrec.retrieval.learning import LEARNED

_USERS, _SCORES = 2_000, 32_000_000
"""Validation users at most, and scores of the other signals that are kept: users times items."""
_LEARNED_ON = 1_000
"""Users whose last training rows the weights of the other signals are learned on."""
_SAMPLED = 500
"""Items beside the target that the weight of a fusion is fitted on."""


@dataclass(frozen=True, eq=False)
class ValidationUsers:
    """Users with a target, and what the other signals say of all items.

    Attributes:
        user_ids: The users.
        histories: Item rows of each user's history.
        targets: Item row of each target, int64 [n].
        others: The other signals, weighted and standardised: float32 [n, n_items].
        sampled: The rows that weights are fitted on, the target first: int64 [n, 1 + some].
        seed: Seed of ties.
    """

    user_ids: tuple[str, ...]
    histories: tuple[NDArray[np.int64], ...]
    targets: NDArray[np.int64]
    others: NDArray[np.float32]
    sampled: NDArray[np.int64]
    seed: int

    def metrics(self, scores: NDArray[np.float32]) -> tuple[float, float, float]:
        """Return recall@10 and nDCG@10 of a fusion's scores [n, n_items], and the hybrid's nDCG@10.

        The weight of the fusion is fitted on these same users: one number.
        """
        mean, spread = scores.mean(axis=1, keepdims=True), scores.std(axis=1, keepdims=True)
        scores = (scores - mean) / np.maximum(spread, 1e-12)
        lists = [
            SignalList(
                {"others": other[rows].astype(float), "sequence": own[rows].astype(float)}, 0
            )
            for own, other, rows in zip(scores, self.others, self.sampled, strict=True)
        ]
        weights = fit_weights(lists).weights
        hybrid = weights["others"] * self.others + weights["sequence"] * scores
        ranks, with_others = self._ranks(scores), self._ranks(hybrid)
        return (
            float(recall_at(ranks, 10).mean()),
            float(ndcg_at(ranks, 10).mean()),
            float(ndcg_at(with_others, 10).mean()),
        )

    def _ranks(self, scores: NDArray[np.float32]) -> NDArray[np.float64]:
        table = scores.copy()
        for row, history in zip(table, self.histories, strict=True):
            row[history] = -np.inf
        return target_ranks(table, self.targets, seed=self.seed)


def validation_users(
    training: Catalog,
    modalities: Sequence[ModalityVectors],
    targets: Mapping[str, int],
    seed: int,
) -> ValidationUsers:
    """Draw users with a target, and score all items for them by the other signals.

    Args:
        training: The training rows: all that the other signals know.
        modalities: The vectors of the items.
        targets: Item row of each user's target, one or more.
        seed: Seed of the draws.
    """
    n = len(training.items)
    index = Index(
        items=training.items,
        vectors=join(modalities, {}) if modalities else np.zeros((n, 1), dtype=np.float32),
        interactions=training.interactions,
        profiles=training.profiles,
        friends=training.friends,
    )
    names = [name for name in LEARNED if modalities or name != "content"]
    try:
        weights = learn_weights(index, names=names, users=_LEARNED_ON, seed=seed).weights
    except DataError:  # too few interactions
        weights = {name: DEFAULT_WEIGHTS[name] for name in names if name in DEFAULT_WEIGHTS}
    retriever = Retriever(index, weights=weights)
    draw = np.random.default_rng(seed)
    known = sorted(targets)
    chosen = [known[i] for i in draw.permutation(len(known))[: max(1, min(_USERS, _SCORES // n))]]
    users = [index.user(user_id) for user_id in chosen]
    histories = tuple(np.array([index.row(r.item_id) for r in user.history]) for user in users)
    own = np.array([targets[user_id] for user_id in chosen])
    return ValidationUsers(
        tuple(chosen),
        histories,
        own,
        np.array([retriever.scores(user) for user in users], dtype=np.float32),
        np.array([[target, *draw.integers(n, size=_SAMPLED)] for target in own]),
        seed,
    )
