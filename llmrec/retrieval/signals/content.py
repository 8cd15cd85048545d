"""Closeness to the recent, liked history in the space of the item vectors."""

from __future__ import annotations

import logging

import numpy as np

from llmrec.errors import OptionError
from llmrec.items import item_text, unit
from llmrec.records import Item, User
from llmrec.retrieval.encoder import Encoder
from llmrec.retrieval.index import Index
from llmrec.retrieval.taste import history_rows, history_weights

logger = logging.getLogger(__name__)


class Content:
    """The cosine of an item's vector and the user's taste, in [-1, 1].

    The taste is the weighted mean of the history
    (:func:`~llmrec.retrieval.taste.history_weights`), and both are taken from the catalogue's mean
    vector: what all texts have in common tells no item from another. Without a history the
    profile's text stands in where there are a profile and an encoder; else every item has 0.

    One product of all vectors a user: 3,000 items take 0.1 ms, a million of 384 numbers 0.1 s.

    Args:
        index: Whose vectors.
        half_life: Interactions after which a history item weighs half.
        encoder: Embeds the profiles of users without a history; the one that made the index.

    Raises:
        OptionError: The encoder is not the one that made the index.
    """

    def __init__(
        self, index: Index, *, half_life: float = 10.0, encoder: Encoder | None = None
    ) -> None:
        if encoder and encoder.name != index.encoder:
            raise OptionError(
                f"The index was made with the encoder {index.encoder!r}, not {encoder.name!r}.",
                hint="Give that one, or make the index again with `llmrec index`.",
            )
        vectors = np.asarray(index.vectors)
        self._index = index
        self._half_life = half_life
        self._encoder = encoder
        self._centre = vectors.mean(axis=0)
        self._vectors = unit(vectors - self._centre)

    def scores(self, user: User) -> np.ndarray:
        """Score every item: float64 [n_items], higher is better."""
        if user.history:
            weights = history_weights(user, self._half_life)
            taste = weights @ self._vectors[history_rows(self._index, user)]
        elif user.profile and self._encoder:
            logger.info("User %s has no history: the profile stands in.", user.user_id)
            text = item_text(Item(user.user_id, attributes=user.profile))
            # Text is the first block of a joint vector; of the others a profile says nothing.
            query = self._encoder.encode([text])[0]
            taste = np.zeros_like(self._centre)
            taste[: len(query)] = query - self._centre[: len(query)]
        else:
            logger.info("User %s has no history: content says nothing.", user.user_id)
            return np.zeros(len(self._vectors))
        return np.asarray(self._vectors @ unit(taste), dtype=np.float64)
