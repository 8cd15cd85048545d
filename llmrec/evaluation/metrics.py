"""Metrics of ranked lists in a page of numpy, checked against ir-measures in the tests.

Everything goes through the ranks of the relevant items in each user's list: float64 [n_users] for
one relevant item a user or [n_users, n_relevant] for several, padded with NaN. They count from 1
and are ``inf`` where the list does not hold the item. A metric returns one value per user, float64
[n_users] in [0, 1], higher is better, so that two rows can be compared user by user.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

from llmrec.errors import OptionError

RARITY = (0, 5, 10, 30)
"""Least training interactions of a target by class, rare to popular: 0-4, 5-9, 10-29, 30+."""


def rarity_classes(met: ArrayLike) -> dict[str, NDArray[np.bool_]]:
    """Targets by how often they were met in training, ``0-4`` to ``30+`` (`RARITY`).

    Args:
        met: Training interactions of each user's target, ``[n_users]``.

    Returns:
        bool [n_users] by class, rare first, empty classes too.
    """
    counts = np.asarray(met, dtype=np.float64)
    names = [f"{low}-{high - 1}" for low, high in pairwise(RARITY)] + [f"{RARITY[-1]}+"]
    return {
        name: (low <= counts) & (counts < high)
        for name, (low, high) in zip(names, pairwise((*RARITY, np.inf)), strict=True)
    }


def target_ranks(scores: ArrayLike, targets: ArrayLike, *, seed: int) -> NDArray[np.float64]:
    """Rank each user's target by score, best first, ties broken by a seeded draw.

    The target stands at a uniformly drawn place among the items that tie with it, so a scorer that
    says the same of everything comes out as random wherever the target stands in the list. The
    draws depend on the seed alone: two scorers ranked with one seed stay paired.

    Args:
        scores: [n_users, n_items], higher is better. NaN ranks behind every number, even -inf, and
            ties with NaN.
        targets: [n_users], the target's column in each row.
        seed: Random seed.

    Returns:
        float64 [n_users], each rank from 1 to n_items.

    Raises:
        OptionError: The shapes do not fit, or a target is not a column.
    """
    table, columns = np.asarray(scores, dtype=np.float64), np.asarray(targets)
    if table.ndim != 2 or columns.shape != table.shape[:1] or columns.dtype.kind not in "iu":
        raise OptionError(
            f"scores have the shape {table.shape} and targets {columns.shape} of {columns.dtype}; "
            "allowed are [n_users, n_items] and [n_users] of integers."
        )
    if columns.size and not (columns.min() >= 0 and columns.max() < table.shape[1]):
        raise OptionError(
            f"targets run from {columns.min()} to {columns.max()}; "
            f"allowed are the columns 0 to {table.shape[1] - 1}."
        )
    own = table[np.arange(len(table)), columns][:, None]
    unjudged = np.isnan(table)
    better = np.where(np.isnan(own), ~unjudged, table > own)
    tied = np.where(np.isnan(own), unjudged, table == own)  # the target itself is one of them
    place = np.random.default_rng(seed).random(len(table)) * tied.sum(axis=1)
    ranks: NDArray[np.float64] = 1.0 + better.sum(axis=1) + np.floor(place)
    return ranks


def ndcg_at(ranks: ArrayLike, k: int) -> NDArray[np.float64]:
    """Normalised discounted cumulative gain: 1 / log2(1 + rank) within the first k, else 0.

    The sum over the relevant items is divided by that of a list that has them all first.
    """
    checked, relevant = _checked(ranks, k)
    gains = np.where(checked <= k, 1.0 / np.log2(1.0 + checked), 0.0).sum(axis=1)
    ideal = np.cumsum(1.0 / np.log2(1.0 + np.arange(1, max(checked.shape[1], 1) + 1)))
    return np.asarray(gains / ideal[np.minimum(relevant, k) - 1])


def reciprocal_rank(ranks: ArrayLike, k: int | None = None) -> NDArray[np.float64]:
    """1 / rank of the first relevant item, within the first k where k is given, else 0."""
    first = np.nanmin(_checked(ranks, k)[0], axis=1)
    return np.asarray(np.where(first <= (np.inf if k is None else k), 1.0 / first, 0.0))


def recall_at(ranks: ArrayLike, k: int) -> NDArray[np.float64]:
    """Share of the relevant items within the first k: with one of them also the hit rate."""
    checked, relevant = _checked(ranks, k)
    return np.asarray((checked <= k).sum(axis=1) / relevant)


def hit_at(ranks: ArrayLike, k: int) -> NDArray[np.float64]:
    """1 where a relevant item is within the first k, else 0."""
    return np.asarray((_checked(ranks, k)[0] <= k).any(axis=1), dtype=np.float64)


def average_precision(ranks: ArrayLike, k: int | None = None) -> NDArray[np.float64]:
    """Mean over the relevant items of the precision at their ranks, 0 beyond the first k.

    With one relevant item this is the reciprocal rank. Its mean over users is the MAP.
    """
    checked, relevant = _checked(ranks, k)
    ordered = np.sort(checked, axis=1)  # NaN last
    precision = np.arange(1, ordered.shape[1] + 1) / ordered
    within = ordered <= (np.inf if k is None else k)
    return np.asarray(np.where(within, precision, 0.0).sum(axis=1) / relevant)


def _checked(ranks: ArrayLike, k: int | None) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The ranks as float64 [n_users, n_relevant], and how many each user has."""
    values = np.asarray(ranks, dtype=np.float64)
    table = values[:, None] if values.ndim == 1 else values
    relevant = (~np.isnan(table)).sum(axis=1)
    wrong = table[~(table >= 1)] if values.ndim == 1 else table[table < 1]
    if wrong.size or table.ndim != 2 or (relevant == 0).any():
        raise OptionError(
            f"{wrong[0] if wrong.size else 'no rank'} is not a rank; ranks count from 1 and are "
            "inf where the list does not hold the item, and each user has one or more."
        )
    if k is not None and k < 1:
        raise OptionError(f"the cutoff k is {k}; allowed is 1 or more.")
    return table, relevant
