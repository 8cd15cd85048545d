"""Linear item-to-item peers: item-kNN and EASE, with recent items weighted most."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Table = NDArray[np.float64]


def met_table(histories: Sequence[NDArray[np.int64]], n_items: int) -> Table:
    """1 where a user met an item: [users, items]."""
    met = np.zeros((len(histories), n_items))
    for row, history in enumerate(histories):
        met[row, history] = 1.0
    return met


def recent(histories: Sequence[NDArray[np.int64]], n_items: int, half_life: float) -> Table:
    """Each history as a vector over items, a row's weight halving with its age."""
    table = np.zeros((len(histories), n_items))
    for row, history in enumerate(histories):
        table[row, history] = 0.5 ** (np.arange(len(history))[::-1] / half_life)
    return table


def item_knn(met: Table, shrinkage: float = 0.0, neighbours: int | None = None) -> Table:
    """Shrunk cosine of items (Sarwar et al. 2001), of the nearest neighbours or of all."""
    counts, together = met.sum(axis=0), met.T @ met
    np.fill_diagonal(together, 0)
    likeness: Table = together / (np.sqrt(np.outer(counts, counts)) + shrinkage + 1e-9)
    if neighbours is None:
        return likeness
    least = np.partition(likeness, -neighbours, axis=0)[-neighbours]
    return np.where(likeness >= least, likeness, 0.0)


def ease(met: Table, ridge: float) -> Table:
    """EASE (Steck, "Embarrassingly shallow autoencoders for sparse data", 2019)."""
    inverse = np.linalg.inv(met.T @ met + ridge * np.eye(met.shape[1]))
    model: Table = -inverse / np.diag(inverse)
    np.fill_diagonal(model, 0)
    return model
