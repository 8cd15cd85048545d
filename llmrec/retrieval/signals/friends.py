"""What a user's friends met."""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from llmrec.records import User
from llmrec.retrieval.index import Index


class Friends:
    """log(1 + how many of the user's friends met the item); zeros for a user without friends."""

    def __init__(self, index: Index) -> None:
        met: defaultdict[str, set[int]] = defaultdict(set)
        for row in index.interactions:
            met[row.user_id].add(index.row(row.item_id))
        self._met = {user: np.fromiter(sorted(rows), np.int64) for user, rows in met.items()}
        self._n_items = len(index.items)

    def scores(self, user: User) -> np.ndarray:
        """Score every item: float64 [n_items], higher is better."""
        counts = np.zeros(self._n_items)
        for friend in dict.fromkeys(user.friends):
            if friend in self._met:
                counts[self._met[friend]] += 1.0
        return np.log1p(counts)
