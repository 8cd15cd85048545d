"""Where the learned vectors of items start: not at random, but from who met what."""

from __future__ import annotations

import numpy as np
import torch
from scipy.sparse import coo_array
from scipy.sparse.linalg import svds
from torch import Tensor

from llmrec.training.dataset import Material


def starting_identities(material: Material, start: Tensor) -> Tensor:
    """Item factors of the training rows: [n_met, d], in place of the random ``start``.

    The user-item matrix is divided by the roots of how much each user and each item was met, so
    that the inner product of its factors is close to the cosine that item-kNN uses (PureSVD,
    Cremonesi et al. 2010, on normalised rows). Columns beyond its rank stay as in ``start``, and
    the length of the whole is that of ``start``.
    """
    known = material.known.numpy()
    columns = [known[history.items] for history in material.sequences.values()]
    users = np.repeat(np.arange(len(columns)), [len(some) for some in columns])
    pairs = np.unique(np.stack([users, np.concatenate(columns)]), axis=1)
    shape = (len(columns), len(start))
    rank = min(start.shape[1], min(shape) - 1)
    if rank < 1:
        return start
    by_user, by_item = (
        np.bincount(pairs[axis], minlength=shape[axis]).astype(np.float64) for axis in (0, 1)
    )
    values = 1 / np.sqrt(by_user[pairs[0]] * by_item[pairs[1]])
    matrix = coo_array((values, (pairs[0], pairs[1])), shape=shape).tocsr()
    # A given first vector: ARPACK draws one of its own otherwise, and no two runs were the same.
    first = np.random.default_rng(0).normal(size=min(shape))
    _, sizes, rows = svds(matrix, k=rank, v0=first)
    factors = (rows * np.sqrt(np.maximum(sizes, 0))[:, None]).T
    scale = float(start.std()) / max(float(np.sqrt((factors**2).mean())), 1e-12)
    made = start.clone()
    made[:, :rank] = torch.tensor(factors * scale, dtype=start.dtype)
    return made
