"""Linear item-to-item peers: item-kNN and EASE, with recent items weighted most."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

Table = NDArray[np.float64]


def met_table(histories: Sequence[NDArray[np.int64]], n_items: int) -> csr_array:
    """1 where a user met an item: [users, items]."""
    met = [np.unique(history) for history in histories]
    ends = np.cumsum([0, *map(len, met)])
    columns = np.concatenate(met)
    return csr_array((np.ones(len(columns)), columns, ends), shape=(len(met), n_items))


def recent(histories: Sequence[NDArray[np.int64]], n_items: int, half_life: float) -> Table:
    """Each history as a vector over items, a row's weight halving with its age."""
    table = np.zeros((len(histories), n_items))
    for row, history in enumerate(histories):
        table[row, history] = 0.5 ** (np.arange(len(history))[::-1] / half_life)
    return table


def item_knn(met: csr_array, shrinkage: float = 0.0, neighbours: int | None = None) -> csr_array:
    """Shrunk cosine of items (Sarwar et al. 2001), of the nearest neighbours or of all."""
    counts = met.sum(axis=0)
    likeness = csr_array(met.T @ met)
    rows = np.repeat(np.arange(len(counts)), np.diff(likeness.indptr))
    lengths = np.sqrt(counts[rows] * counts[likeness.indices])
    likeness.data /= lengths + shrinkage + 1e-9
    likeness.data[rows == likeness.indices] = 0
    for start, end in pairwise(likeness.indptr):
        if neighbours is not None and end - start > neighbours:
            row = likeness.data[start:end]
            row[row < np.partition(row, -neighbours)[-neighbours]] = 0
    likeness.eliminate_zeros()
    return csr_array(likeness.T)


def ease(met: csr_array, ridge: float) -> Table:
    """EASE (Steck, "Embarrassingly shallow autoencoders for sparse data", 2019)."""
    together = (met.T @ met).toarray()
    np.fill_diagonal(together, together.diagonal() + ridge)
    inverse = np.linalg.inv(together)
    model: Table = -inverse / np.diag(inverse)
    np.fill_diagonal(model, 0)
    return model
