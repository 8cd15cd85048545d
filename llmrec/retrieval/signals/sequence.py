"""What a trained sequence model foretells."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from llmrec.catalog import liked
from llmrec.errors import DataError
from llmrec.records import User
from llmrec.retrieval.index import Index
from llmrec.retrieval.taste import history_rows


class UserEncoder(Protocol):
    """What turns a history into a vector; a trained ``Fusion`` does."""

    def user_vector(self, history: np.ndarray, liked: Sequence[bool]) -> np.ndarray:
        """Return float32 [d] for the vectors [h, d] of a history, oldest first."""
        ...


class Sequential:
    """The inner product of an item's trained vector and the user's.

    Args:
        index: Whose items.
        encoder: The trained model.
        item_vectors: float32 [n_items, d] of that model, in the order of the index.

    Raises:
        DataError: There is not one vector an item.
    """

    def __init__(self, index: Index, encoder: UserEncoder, item_vectors: np.ndarray) -> None:
        if item_vectors.ndim != 2 or len(item_vectors) != len(index.items):
            raise DataError(
                f"{len(index.items)} items and trained vectors of shape {item_vectors.shape}.",
                hint="Give one vector an item, in the order of the index.",
            )
        self._index = index
        self._encoder = encoder
        self._vectors = item_vectors

    def scores(self, user: User) -> np.ndarray:
        """Score every item: float64 [n_items], higher is better."""
        history = self._vectors[history_rows(self._index, user)]
        taste = self._encoder.user_vector(history, liked(user.history))
        return np.asarray(self._vectors @ taste, dtype=np.float64)
