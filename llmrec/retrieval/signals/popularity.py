"""How many interactions an item has."""

from __future__ import annotations

import numpy as np

from llmrec.records import User
from llmrec.retrieval.index import Index


class Popularity:
    """log(1 + interactions in the index), the same for every user."""

    def __init__(self, index: Index) -> None:
        self._scores: np.ndarray = np.log1p(index.popularity)

    def scores(self, user: User) -> np.ndarray:  # noqa: ARG002
        """Score every item: float64 [n_items], higher is better."""
        return self._scores
