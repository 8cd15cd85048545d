"""Retrieval signals: content, sequence, co-occurrence, keywords, popularity, friends.

A signal gives a user's values of all items. Each kind of values proposes its best rows, scores some
rows exactly, and standardises them over the whole catalogue without scoring every item.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from functools import cached_property
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from llmrec.catalog import liked
from llmrec.errors import DataError, OptionError
from llmrec.items import Encoder, item_text, unit
from llmrec.records import Item, User
from llmrec.retrieval.index import Index
from llmrec.retrieval.search import VectorSearch
from llmrec.retrieval.storage import check_rows, check_scores
from llmrec.retrieval.weights import standardise

logger = logging.getLogger(__name__)

DISLIKED_WEIGHT = 0.5
"""Weight of a disliked item relative to a liked one: choosing it is a signal too.

It was chosen on the same interactions as the retriever's defaults.
"""
RECENT = 5
"""Liked items of the history whose texts are the query of ``keywords``."""


class Full:
    """Values of all items in an array."""

    def __init__(self, values: np.ndarray) -> None:
        self.values = values

    def everything(self) -> np.ndarray:
        """Return the value of each item."""
        return self.values

    def at(self, rows: np.ndarray) -> np.ndarray:
        """Return the values of some rows."""
        found: np.ndarray = self.values[rows]
        return found

    def standardised(self, rows: np.ndarray) -> np.ndarray | None:
        """Return z-scores of some rows."""
        return None if self._standardised is None else self._standardised[rows]

    def best(self, n: int, allowed: np.ndarray, share: float) -> tuple[np.ndarray, float]:
        """Propose the best n allowed rows; the order of all is computed once."""
        order, step = self._order, math.ceil(1.5 * n / share)
        found = np.empty(0, dtype=np.int64)
        for start in range(0, len(order), step):
            rows = order[start : start + step]
            found = np.concatenate([found, rows[allowed[rows]]])
            if len(found) >= n:
                break
        found = found[:n]
        scores = self.standardised(found[-1:])
        return found, 0.0 if scores is None or not len(scores) else float(scores[0])

    @cached_property
    def _standardised(self) -> np.ndarray | None:
        scores = standardise(self.values)
        return scores if scores.any() else None

    @cached_property
    def _order(self) -> np.ndarray:
        return np.argsort(-self.values, kind="stable")


class Sparse:
    """Values that few items have; all others have 0.

    Args:
        n_items: How many items there are.
        rows: int [n], ascending.
        values: float64 [n].
    """

    def __init__(self, n_items: int, rows: np.ndarray, values: np.ndarray) -> None:
        self.n_items = n_items
        self.rows = rows
        self.values = values

    def everything(self) -> np.ndarray:
        """Return the value of each item."""
        scores = np.zeros(self.n_items)
        scores[self.rows] = self.values
        return scores

    def at(self, rows: np.ndarray) -> np.ndarray:
        """Return the values of some rows."""
        if not len(self.rows):
            return np.zeros(len(rows))
        places = np.minimum(np.searchsorted(self.rows, rows), len(self.rows) - 1)
        return np.where(self.rows[places] == rows, self.values[places], 0.0)

    def standardised(self, rows: np.ndarray) -> np.ndarray | None:
        """Return z-scores of some rows."""
        mean, spread = self._scale
        if spread <= 1e-12 * np.abs(self.values).max(initial=0.0):
            return None
        found: np.ndarray = (self.at(rows) - mean) / spread
        return found

    def best(self, n: int, allowed: np.ndarray, share: float) -> tuple[np.ndarray, float]:  # noqa: ARG002
        """Propose the best n rows."""
        places, bound = np.flatnonzero(allowed[self.rows]), 0.0
        if len(places) > n:
            places = places[np.argpartition(-self.values[places], n)[:n]]
            bound = self.values[places].min()
        mean, spread = self._scale
        return self.rows[places], (bound - mean) / spread if spread else 0.0

    @cached_property
    def _scale(self) -> tuple[float, float]:
        mean = self.values.sum() / self.n_items
        squares = ((self.values - mean) ** 2).sum() + (self.n_items - len(self.values)) * mean**2
        return mean, math.sqrt(squares / self.n_items)


class Dense:
    """Inner products of a query with the vectors of all items.

    Args:
        search: The vectors.
        query: float32 [d].
        average: bool [n_items], items that have the mean of all products instead.
    """

    def __init__(
        self, search: VectorSearch, query: np.ndarray, average: np.ndarray | None = None
    ) -> None:
        self.search = search
        self.query = query
        self.average = average

    def everything(self) -> np.ndarray:
        """Return the value of each item."""
        return self._averaged(self.search.products(self.query), slice(None))

    def at(self, rows: np.ndarray) -> np.ndarray:
        """Return the values of some rows."""
        return self._averaged(self.search.products_at(rows, self.query), rows)

    def _averaged(self, products: np.ndarray, rows: np.ndarray | slice) -> np.ndarray:
        if self.average is None:
            return products
        return np.where(self.average[rows], self.search.scale(self.query)[0], products)

    def standardised(self, rows: np.ndarray) -> np.ndarray | None:
        """Return z-scores of some rows."""
        mean, spread = self.search.scale(self.query)
        return None if spread == 0 else (self.at(rows) - mean) / spread

    def best(self, n: int, allowed: np.ndarray, share: float) -> tuple[np.ndarray, float]:
        """Propose rows that are nearly the best n."""
        mean, spread = self.search.scale(self.query)
        if self.average is not None:
            before, allowed = np.count_nonzero(allowed), allowed & ~self.average
            share *= np.count_nonzero(allowed) / before
        if not share:
            return np.empty(0, dtype=np.int64), 0.0
        rows, least = self.search.best(self.query, n, allowed, share)
        bound = (least - mean) / spread if spread else 0.0
        return rows, bound if self.average is None else max(bound, 0.0)


Values = Full | Sparse | Dense
"""A signal's values of all items for one user; higher is better. ``everything`` is all of them,
``at`` those of some rows, ``standardised`` their z-scores over the catalogue (None where all items
have one value), ``best`` up to n allowed rows with large values and a bound of the z-scores of all
other allowed rows; ``share`` is that of the allowed.
"""


class Content:
    """The cosine of an item's vector and the user's taste, in [-1, 1].

    The taste is the weighted mean of the history (:func:`history_weights`), and both are taken from
    the catalogue's mean vector: what all texts have in common tells no item from another. Without a
    history the profile's text takes its place where there are a profile and an encoder; else every
    item has 0.

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
        name = getattr(encoder, "name", encoder)
        if encoder and name != index.encoder:
            raise OptionError(
                f"The index was made with the encoder {index.encoder!r}, not {name!r}.",
                hint="Give that one, or make the index again with `llmrec index`.",
            )
        self._search = index.content
        self._half_life = half_life
        self._encoder = encoder

    def of(self, user: User, met: Sequence[int]) -> Values:
        """Return the cosine of each item."""
        centre = self._search.centre
        if user.history:
            weights = history_weights(user, self._half_life)
            taste = weights @ self._search.at(list(met))
        elif user.profile and self._encoder:
            logger.info("User %s has no history: the profile is used.", user.user_id)
            text = item_text(Item(user.user_id, attributes=user.profile))
            # Text is the first block of a joint vector; of the others a profile says nothing.
            query = self._encoder.encode([text])[0]
            taste = np.zeros_like(centre)
            taste[: len(query)] = query - centre[: len(query)]
        else:
            logger.info("User %s has no history: no content signal.", user.user_id)
            return Sparse(len(self._search.vectors), np.empty(0, np.int64), np.empty(0))
        return Dense(self._search, unit(taste))


class UserEncoder(Protocol):
    """Turns a user into a vector, as a trained ``Fusion`` does."""

    @property
    def item_ids(self) -> tuple[str, ...]:
        """The items that training met; empty where it does not tell them apart."""
        ...

    def user_vector(self, history: np.ndarray, user: User) -> np.ndarray:
        """Return float32 [d] for a user and the vectors [h, d] of the history, oldest first."""
        ...


class Sequential:
    """The inner product of an item's trained vector and the user's.

    An item that training did not meet has the mean of all items: what is known of it are its
    texts and pictures, which ``content`` and ``keywords`` read better.

    Args:
        index: Whose items.
        encoder: The trained model.
        item_vectors: float32 [n_items, d] of that model, in the order of the index.

    Raises:
        DataError: There is not one vector per item.
    """

    def __init__(self, index: Index, encoder: UserEncoder, item_vectors: np.ndarray) -> None:
        if item_vectors.ndim != 2 or len(item_vectors) != len(index.items):
            raise DataError(
                f"{len(index.items)} items and trained vectors of shape {item_vectors.shape}.",
                hint="Give one vector an item, in the order of the index.",
            )
        self._encoder = encoder
        own = index.sequence
        is_own = own is not None and own.vectors is item_vectors
        self._search = own if own and is_own else VectorSearch(item_vectors, centred=False)
        met = pa.array(encoder.item_ids, index.ids.names.type)
        new = pc.invert(pc.is_in(index.ids.names, met)).to_numpy(zero_copy_only=False)
        self._new = new if new.any() and not new.all() else None

    def of(self, user: User, met: Sequence[int]) -> Values:
        """Return the inner product of each item."""
        taste = self._encoder.user_vector(self._search.at(list(met)), user)
        return Dense(self._search, taste, self._new)


_HALF_LIFE = 2.0


class CoOccurrence:
    """The root of the summed likeness of an item to the last items of the history.

    For the likeness see :func:`~llmrec.retrieval.co_occurrence.neighbours`. The root keeps one very
    strong neighbour from drowning several good ones. A history item weighs half after two later
    ones. Where rows have no time, the order of the file counts.

    Args:
        index: Whose interactions, and nothing else, are counted.
    """

    def __init__(self, index: Index) -> None:
        self._neighbours = index.neighbours
        self._n_items = len(index.items)

    def of(self, user: User, met: Sequence[int]) -> Values:
        """Return the likeness of each item, 0 or more."""
        if not user.history:
            return Sparse(self._n_items, np.empty(0, np.int64), np.empty(0))
        starts, items, likeness = self._neighbours
        spans = [slice(starts[row], starts[row + 1]) for row in met]
        weights = history_weights(user, _HALF_LIFE)
        rows = check_rows(
            np.concatenate([items[span] for span in spans]), self._n_items, "co-occurrences"
        )
        values = np.concatenate([w * likeness[s] for w, s in zip(weights, spans, strict=True)])
        rows, places = np.unique(rows, return_inverse=True)
        scores = check_scores(np.sqrt(np.bincount(places, values, len(rows))))
        return Sparse(self._n_items, rows, scores)


class Keywords:
    """BM25 of an item's text for the texts of the last liked items, or the profile's.

    See :class:`~llmrec.retrieval.keywords.Postings`. A user with neither history nor profile has
    zeros.

    Args:
        index: Whose items.
    """

    def __init__(self, index: Index) -> None:
        self._items = index.items
        self._postings = index.postings

    def of(self, user: User, met: Sequence[int]) -> Values:  # noqa: ARG002
        """Return the score of each item, 0 or more."""
        if user.history:
            opinions = liked(user.history, user.neutral_rating)
            rows = zip(user.history, opinions, strict=True)
            recent = [row.item_id for row, likes in rows if likes][-RECENT:]
            query = " ".join(item_text(self._items[item_id]) for item_id in recent)
        else:
            query = item_text(Item(user.user_id, attributes=user.profile))
        return Sparse(len(self._items), *self._postings.search(query))


class Popularity:
    """log(1 + interactions in the index), the same for every user."""

    def __init__(self, index: Index) -> None:
        self._values = Full(np.log1p(index.popularity))

    def of(self, user: User, met: Sequence[int]) -> Values:  # noqa: ARG002
        """Return the value of each item."""
        return self._values


class Friends:
    """log(1 + how many of the user's friends met the item); zeros for a user without friends."""

    def __init__(self, index: Index) -> None:
        self._index = index

    def of(self, user: User, met: Sequence[int]) -> Values:  # noqa: ARG002
        """Return the value of each item."""
        index = self._index
        theirs = [
            np.unique(index.interaction_rows[index.interaction_columns.rows_of(friend)])
            for friend in dict.fromkeys(user.friends)
        ]
        rows, counts = np.unique(
            np.concatenate([np.empty(0, np.int64), *theirs]), return_counts=True
        )
        return Sparse(len(index.items), rows.astype(np.int64), np.log1p(counts.astype(np.float64)))


Known = Content | Sequential | CoOccurrence | Keywords | Popularity | Friends
"""The signals that an index holds by itself."""


def history_weights(user: User, half_life: float) -> np.ndarray:
    """Weigh the items of a history: recent ones most, disliked ones half.

    Args:
        user: With a history.
        half_life: After how many later interactions a weight has halved.

    Returns:
        float64 [n_history], the last interaction's weight 1 where it is liked.
    """
    ages = np.arange(len(user.history))[::-1]
    opinions = np.where(liked(user.history, user.neutral_rating), 1.0, DISLIKED_WEIGHT)
    weights: np.ndarray = opinions * 0.5 ** (ages / half_life)
    return weights


def history_rows(index: Index, user: User) -> list[int]:
    """Return the rows of a history's items in an index, oldest first.

    Raises:
        UnknownItemError: The index does not hold one of them.
    """
    return [index.row(interaction.item_id) for interaction in user.history]
