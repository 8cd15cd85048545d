"""Exact search for a user's candidates: content and popularity, filters before the best k."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

from llmrec.embedding import item_text
from llmrec.errors import OptionError
from llmrec.records import Candidate, Item, User
from llmrec.retrieval.filters import Filter, filter_mask
from llmrec.retrieval.index import Encoder, Index
from llmrec.retrieval.standardise import standardise
from llmrec.retrieval.taste import history_weights, unit

logger = logging.getLogger(__name__)


class Retriever:
    """Proposes items for a user: z(content) + popularity_weight * z(popularity).

    *Content* is the cosine between an item's vector and the user's taste, the weighted mean of the
    history (see :func:`~llmrec.retrieval.taste.history_weights`), both taken from the catalogue's
    mean vector: what all texts have in common tells no item from another. Without a history, the
    profile's text stands in where there are a profile and an encoder; else popularity alone serves,
    whatever its weight. *Popularity* is log(1 + interactions in the index).

    Both are standardised over the whole catalogue, so the score of a user and an item depends
    neither on filters nor on the other candidates.

    The defaults were chosen on the last but one interaction of each user of MovieLens (latest
    small, the films with a description); the last one was not looked at.

    Args:
        index: Where to search.
        popularity_weight: 0 searches by content only.
        half_life: Interactions after which a history item weighs half; ``math.inf``: all the same.
        encoder: Embeds the profiles of users without a history; the one that made the index.

    Raises:
        OptionError: A number is out of range, or the encoder is not the one that made the index.
    """

    def __init__(
        self,
        index: Index,
        *,
        popularity_weight: float = 1.0,
        half_life: float = 10.0,
        encoder: Encoder | None = None,
    ) -> None:
        if not (math.isfinite(popularity_weight) and popularity_weight >= 0):
            raise OptionError(
                f"popularity_weight is {popularity_weight}.", hint="Give 0 or a positive number."
            )
        if not half_life > 0:
            raise OptionError(f"half_life is {half_life}.", hint="Give a positive number of items.")
        if encoder and encoder.name != index.encoder:
            raise OptionError(
                f"The index was made with the encoder {index.encoder!r}, not {encoder.name!r}.",
                hint="Give that one, or make the index again with `llmrec index`.",
            )
        self.index = index
        self.popularity_weight = popularity_weight
        self.half_life = half_life
        self.encoder = encoder
        self._centre = index.vectors.mean(axis=0)
        self._vectors = unit(index.vectors - self._centre)
        self._popularity = np.log1p(index.popularity)
        self._z_popularity = standardise(self._popularity)

    def retrieve(
        self,
        user: User,
        k: int = 100,
        *,
        filters: Sequence[Filter] = (),
        include_seen: bool = False,
    ) -> tuple[Candidate, ...]:
        """Find the best items for a user.

        Args:
            user: Need not be in the index; the items of the history must be.
            k: How many; fewer come back only where fewer satisfy the filters.
            filters: Conditions that must all hold.
            include_seen: Whether the history's own items may come back.

        Returns:
            Candidates by score, best first; equal scores in the order of the index.

        Raises:
            OptionError: ``k`` is below 1, or a filter does not fit the items.
            UnknownItemError: The history holds an item that the index does not.
        """
        if k < 1:
            raise OptionError(f"k is {k}.", hint="Ask for at least one candidate.")
        allowed = filter_mask(tuple(self.index.items.values()), filters)
        if not include_seen:
            allowed[self._history_rows(user)] = False
        return self._best(user, np.flatnonzero(allowed), k)

    def candidates(self, user: User, item_ids: Sequence[str]) -> tuple[Candidate, ...]:
        """Score given items for a user, those already seen too.

        Returns:
            A candidate for each id, by score, best first; equal scores in the order of the index.

        Raises:
            OptionError: No id is given, or one twice.
            UnknownItemError: The index does not hold an item.
        """
        if not item_ids:
            raise OptionError("There are no candidates.", hint="Give at least one item id.")
        twice = [item_id for item_id, count in Counter(item_ids).items() if count > 1]
        if twice:
            raise OptionError(
                f"Candidates are given more than once: {', '.join(twice)}.",
                hint="Give each item id once.",
            )
        rows = np.sort([self.index.row(item_id) for item_id in item_ids])
        return self._best(user, rows, len(rows))

    def _best(self, user: User, rows: np.ndarray, k: int) -> tuple[Candidate, ...]:
        """Return the best k of some rows, which are in ascending order."""
        content, popularity_weight = self._content(user)
        scores = (standardise(content) + popularity_weight * self._z_popularity)[rows]
        if k < len(rows):
            # All that reach the k-th best score, ties too: the stable sort then settles those.
            reach = np.flatnonzero(scores >= np.partition(scores, -k)[-k])
            rows, scores = rows[reach], scores[reach]
        order = np.argsort(-scores, kind="stable")[:k]
        return tuple(
            Candidate(
                self.index.item_ids[row],
                float(score),
                {"content": float(content[row]), "popularity": float(self._popularity[row])},
            )
            for row, score in zip(rows[order], scores[order], strict=True)
        )

    def _content(self, user: User) -> tuple[np.ndarray, float]:
        """Return the content signal [n_items] and the weight of popularity beside it."""
        if user.history:
            weights = history_weights(user, self.half_life)
            taste = weights @ self._vectors[self._history_rows(user)]
        elif user.profile and self.encoder:
            logger.info("User %s has no history: the profile stands in.", user.user_id)
            text = item_text(Item(user.user_id, attributes=user.profile))
            taste = self.encoder.encode([text])[0] - self._centre
        else:
            logger.info("User %s has no history: popularity serves.", user.user_id)
            return np.zeros(len(self.index.items)), max(self.popularity_weight, 1.0)
        return self._vectors @ unit(taste), self.popularity_weight

    def _history_rows(self, user: User) -> list[int]:
        return [self.index.row(interaction.item_id) for interaction in user.history]
