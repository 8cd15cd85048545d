"""The best rows by inner product, found by looking at every vector, in bounded memory.

A pass in float32 says which rows can be among the best; those are scored again in float64, summed
in one order. So a score does not hang on where a vector lies or what else was searched, and equal
vectors have equal scores.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from llmrec.retrieval.vectors.segments import Segments

_NUMBERS_AT_ONCE = 1 << 24  # 64 MiB of float32
_QUERIES_AT_ONCE = 1 << 10
_ROUNDING = 1e-5  # what float32 may be off, of the product of both lengths
_GATHER_BELOW = 0.25  # the share of slots below which copying them beats scoring all


@dataclass(frozen=True, eq=False)
class Slots:
    """The slots of some vectors, and what row each one is.

    Args:
        segments: Where the vectors lie.
        live: bool [n_slots], those to search; None for all.
        rows: int64 [n_slots], the row of each slot; None where both are the same.
    """

    segments: Segments
    live: np.ndarray | None = None
    rows: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Found:
    """Rows int64 [n] with their scores float32 [n], best first, equal scores in row order."""

    rows: np.ndarray
    scores: np.ndarray

    def joined(self, other: Found, k: int) -> Found:
        """Return the best k of two findings that share no row."""
        rows = np.concatenate([self.rows, other.rows])
        scores = np.concatenate([self.scores, other.scores])
        order = np.lexsort((rows, -scores))[:k]
        return Found(rows[order], scores[order])


NOTHING = Found(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32))


def search_all(
    where: Slots, queries: np.ndarray, k: int, *, longest: float, start: int = 0
) -> list[Found]:
    """Find the best k of all live slots for each query.

    Args:
        where: What is searched.
        queries: float32 [m, d].
        k: How many a query; fewer where fewer are live.
        longest: A length that no vector exceeds.
        start: The first slot to look at.
    """
    found: list[Found] = []
    for first in range(0, len(queries), _QUERIES_AT_ONCE):
        some = queries[first : first + _QUERIES_AT_ONCE]
        best = [NOTHING] * len(some)
        slack = 2 * _ROUNDING * longest * np.linalg.norm(some, axis=1)
        for slots, vectors, live in _blocks(where, len(some), start):
            for i, line in enumerate(some @ vectors.T):
                reach = _reaching(line if live is None else line[live], best[i], k, slack[i])
                places = reach if live is None else live[reach]
                candidates = slots + places if isinstance(slots, int) else slots[places]
                best[i] = best[i].joined(score(where, candidates, some[i], k), k)
        found += best
    return found


def score(where: Slots, slots: np.ndarray, query: np.ndarray, k: int) -> Found:
    """Score slots exactly and return the best k of them."""
    best = NOTHING
    exact = query.astype(np.float64)
    size = max(1, _NUMBERS_AT_ONCE // (4 * where.segments.dimension))
    for at in range(0, len(slots), size):
        some = slots[at : at + size]
        products = where.segments.gather(some) * exact  # summed a row: the same wherever it lies
        rows = some if where.rows is None else where.rows[some]
        best = best.joined(Found(rows, products.sum(axis=1).astype(np.float32)), k)
    return best


def _blocks(
    where: Slots, n_queries: int, start: int
) -> Iterator[tuple[int | np.ndarray, np.ndarray, np.ndarray | None]]:
    """Run through the live slots.

    Yields:
        Slots [n], or the first where they follow each other; their vectors [n, d]; the places of
        the live ones among them, None where all are.
    """
    segments, live = where.segments, where.live
    size = max(1, _NUMBERS_AT_ONCE // n_queries)
    if live is not None and np.count_nonzero(live[start:]) < _GATHER_BELOW * len(live[start:]):
        slots = start + np.flatnonzero(live[start:])
        size = min(size, max(1, _NUMBERS_AT_ONCE // segments.dimension))
        for at in range(0, len(slots), size):
            some = slots[at : at + size]
            yield some, segments.gather(some), None
        return
    for first, vectors in segments.blocks(size, start):
        here = None if live is None else np.flatnonzero(live[first : first + len(vectors)])
        yield first, vectors, here


def _reaching(scores: np.ndarray, best: Found, k: int, slack: float) -> np.ndarray:
    """Return the places of all scores that could be among the best k with those found so far."""
    if len(best.scores) == k:
        return np.flatnonzero(scores >= best.scores[-1] - slack)
    if len(scores) > k:
        return np.flatnonzero(scores >= np.partition(scores, -k)[-k] - slack)
    return np.arange(len(scores))
