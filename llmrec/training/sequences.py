"""Histories as training material: overlapping windows whose places foretell what follows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llmrec.catalog import Catalog, liked

Rows = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Met:
    """What one user met: item rows [t], oldest first, and which of them were liked, bool [t]."""

    items: Rows
    liked: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Window:
    """A piece of a history, and what its places foretell.

    ``items`` and ``liked`` are [t]. ``targets`` and ``given`` are [t + 1, horizon]: place p stands
    before item p of the window, knows the items before it, and foretells it and those that follow;
    ``given`` is False where there is nothing more, or where an earlier window foretold it.
    """

    items: Rows
    liked: NDArray[np.bool_]
    targets: Rows
    given: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Batch:
    """Windows filled up to the longest: items and liked [b, t], targets and given [b, t + 1, k]."""

    items: Rows
    liked: NDArray[np.bool_]
    targets: Rows
    given: NDArray[np.bool_]


def histories(training: Catalog) -> dict[str, Met]:
    """Each user's history as rows of ``training.items``; users without one are left out."""
    row = {item_id: number for number, item_id in enumerate(training.items)}
    found: dict[str, Met] = {}
    for user_id in training.user_ids:
        history = [met for met in training.user(user_id).history if met.item_id in row]
        if history:
            items = np.array([row[met.item_id] for met in history], dtype=np.int64)
            found[user_id] = Met(items, np.array(liked(history), dtype=bool))
    return found


def windows(history: Met, length: int, horizon: int) -> list[Window]:
    """Cut a history into windows of at most ``length`` items that overlap by half.

    Every item of the history is foretold exactly once as the next one, with as many items before
    it as there are, at least half a window in a later window.
    """
    total, covered, start = len(history.items), 0, 0
    made: list[Window] = []
    while covered < total:
        stop = min(start + length, total - 1)
        places = np.arange(start, stop + 1)
        ahead = places[:, None] + np.arange(horizon)
        given = (ahead < total) & (places >= covered)[:, None]
        targets = history.items[np.minimum(ahead, total - 1)]
        made.append(Window(history.items[start:stop], history.liked[start:stop], targets, given))
        covered, start = stop + 1, start + max(1, length // 2)
    return made


def batch_of(some: Sequence[Window], filler: int) -> Batch:
    """Put windows side by side, filled up at the end with the item row ``filler``."""
    t, k = max(len(w.items) for w in some), some[0].targets.shape[1]
    items = np.full((len(some), t), filler, dtype=np.int64)
    opinions = np.ones((len(some), t), dtype=bool)
    targets = np.zeros((len(some), t + 1, k), dtype=np.int64)
    given = np.zeros((len(some), t + 1, k), dtype=bool)
    for row, window in enumerate(some):
        n = len(window.items)
        items[row, :n], opinions[row, :n] = window.items, window.liked
        targets[row, : n + 1], given[row, : n + 1] = window.targets, window.given
    return Batch(items, opinions, targets, given)


def popularity(sequences: Mapping[str, Met], items: int) -> NDArray[np.int64]:
    """How often each item was met: [n_items]."""
    counts = np.zeros(items, dtype=np.int64)
    for history in sequences.values():
        np.add.at(counts, history.items, 1)
    return counts
