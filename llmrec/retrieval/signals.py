"""What speaks for an item: content, sequence, co-occurrence, keywords, popularity, friends."""

from __future__ import annotations

import logging
import re
from collections import defaultdict
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from scipy import sparse

from llmrec.catalog import liked
from llmrec.catalog.catalog import by_time, by_user
from llmrec.errors import DataError, OptionError
from llmrec.items import Encoder, item_text, unit
from llmrec.records import Item, User
from llmrec.retrieval.index import Index

logger = logging.getLogger(__name__)

DISLIKED_WEIGHT = 0.5
"""What a disliked item weighs beside a liked one: that it was chosen says something too.

It was chosen on the same interactions as the retriever's defaults.
"""


def history_weights(user: User, half_life: float) -> np.ndarray:
    """Weigh the items of a history: recent ones most, disliked ones half.

    Args:
        user: With a history.
        half_life: After how many later interactions a weight has halved.

    Returns:
        float64 [n_history], the last interaction's weight 1 where it is liked.
    """
    ages = np.arange(len(user.history))[::-1]
    opinions = np.where(liked(user.history), 1.0, DISLIKED_WEIGHT)
    weights: np.ndarray = opinions * 0.5 ** (ages / half_life)
    return weights


def history_rows(index: Index, user: User) -> list[int]:
    """Return the rows of a history's items in an index, oldest first.

    Raises:
        UnknownItemError: The index does not hold one of them.
    """
    return [index.row(interaction.item_id) for interaction in user.history]


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


WINDOW = 50
"""Steps of a history within which two items count as met together."""
BACKWARD = 0.5
"""What "before" weighs beside "after"."""
SHRINKAGE = 5.0
"""Interactions that every item is taken to have more: few meetings by chance say little."""
NEIGHBOURS = 200
"""Items kept for each item."""


class CoOccurrence:
    """The root of the summed likeness of an item to the last items of the history.

    The likeness of j to i is n(i, j) / ((n(i) + s)^.5 (n(j) + s)^.6), a shrunk cosine (Sarwar et
    al., "Item-based collaborative filtering recommendation algorithms", 2001) that leans a little
    against popular items. n(i, j) counts where j was met within ``WINDOW`` steps after i, at a
    distance of d steps 1 / sqrt(d), and half of that where j came before i. The root keeps one very
    strong neighbour from drowning several good ones. Where rows have no time, the order of the
    file stands.

    The figures above were chosen on validation targets of MovieLens, latest small (the order of
    the history is most of it: plain cosine neighbours reach two thirds of its nDCG@10).

    Args:
        index: Whose interactions, and nothing else, are counted.
        half_life: Interactions after which a history item weighs half.
    """

    def __init__(self, index: Index, *, half_life: float = 2.0) -> None:
        self._index = index
        self._half_life = half_life
        self._likeness = _likeness(index)

    def scores(self, user: User) -> np.ndarray:
        """Score every item: float64 [n_items], 0 or more, higher is better."""
        if not user.history:
            return np.zeros(len(self._index.items))
        rows = history_rows(self._index, user)
        weights = sparse.csr_array(history_weights(user, self._half_life)[None])
        summed: np.ndarray = (weights @ self._likeness[rows]).toarray()[0]
        roots: np.ndarray = np.sqrt(summed)
        return roots


def _likeness(index: Index) -> sparse.csr_array:
    """The likeness of each item (column) to each item (row), the best ``NEIGHBOURS`` a row."""
    n_items = len(index.items)
    histories = [
        [index.row(row.item_id) for row in by_time(rows)]
        for rows in by_user(index.interactions).values()
    ]
    items = np.array([row for rows in histories for row in rows], dtype=np.int32)
    users = np.repeat(np.arange(len(histories)), [len(rows) for rows in histories])
    counts = np.bincount(items, minlength=n_items).astype(np.float64)
    together = sparse.csr_array((n_items, n_items))
    for distance in range(1, min(WINDOW, len(items) - 1) + 1):
        same = users[:-distance] == users[distance:]
        first, second = items[:-distance][same], items[distance:][same]
        if not len(first):
            break
        value = np.full(len(first), distance**-0.5)
        after = sparse.csr_array((value, (first, second)), shape=(n_items, n_items))
        together = together + after + BACKWARD * after.T
    left = sparse.diags_array((counts + SHRINKAGE) ** -0.5)
    right = sparse.diags_array((counts + SHRINKAGE) ** -0.6)
    likeness = sparse.csr_array(left @ together @ right)
    likeness.setdiag(0.0)  # an item that was met twice says nothing of others
    return _best_of_each_row(likeness)


def _best_of_each_row(table: sparse.csr_array) -> sparse.csr_array:
    """Keep the ``NEIGHBOURS`` largest values of each row; equal ones in the order of the index."""
    table.eliminate_zeros()
    table.sort_indices()
    kept = np.ones(table.nnz, dtype=bool)
    for row in np.flatnonzero(np.diff(table.indptr) > NEIGHBOURS):
        start, end = table.indptr[row], table.indptr[row + 1]
        worst = np.argsort(-table.data[start:end], kind="stable")[NEIGHBOURS:]
        kept[start + worst] = False
    table.data[~kept] = 0.0
    table.eliminate_zeros()
    return table


RECENT = 5
"""Liked items of the history whose texts are the query."""
_UNSPACED = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\u0e00-\u0e7f"
_WORDS = re.compile(rf"[{_UNSPACED}]+|[^\W{_UNSPACED}]+")


class Keywords:
    """BM25 of an item's text for the texts of the last liked items, or the profile's.

    Robertson and Zaragoza, "The probabilistic relevance framework: BM25 and beyond" (2009), through
    bm25s. No list of stop words and no stemming, so no language is assumed. A user with neither
    history nor profile has zeros.

    Args:
        index: Whose items.
    """

    def __init__(self, index: Index) -> None:
        import bm25s  # noqa: PLC0415

        self._index = index
        corpus = [tokens(item_text(item)) for item in index.items.values()]
        self._bm25 = bm25s.BM25() if any(corpus) else None
        if self._bm25:
            self._bm25.index(corpus, show_progress=False)

    def scores(self, user: User) -> np.ndarray:
        """Score every item: float64 [n_items], 0 or more, higher is better."""
        if user.history:
            speaks = [
                row for row, likes in zip(user.history, liked(user.history), strict=True) if likes
            ]
            items = [self._index.items[row.item_id] for row in speaks[-RECENT:]]
            return self.search(" ".join(item_text(item) for item in items))
        return self.search(item_text(Item(user.user_id, attributes=user.profile)))

    def search(self, query: str) -> np.ndarray:
        """Score every item for a query of any words: float64 [n_items], higher is better."""
        known = self._bm25.vocab_dict if self._bm25 else {}
        words = [word for word in tokens(query) if word in known]
        if not words or self._bm25 is None:
            return np.zeros(len(self._index.items))
        return np.asarray(self._bm25.get_scores(words), dtype=np.float64)


def tokens(text: str) -> list[str]:
    """Cut a text to words; where a script has no spaces (Chinese, Japanese, Thai), to pairs.

    >>> tokens("The 红楼梦, 1791")
    ['the', '红楼', '楼梦', '1791']
    """
    found = []
    for word in _WORDS.findall(text.casefold()):
        pairs = "\u0e00" <= word[0] <= "\u0e7f" or "\u3040" <= word[0] <= "\ufaff"
        if pairs and len(word) > 1:
            found += [word[i : i + 2] for i in range(len(word) - 1)]
        else:
            found.append(word)
    return found


class Popularity:
    """log(1 + interactions in the index), the same for every user."""

    def __init__(self, index: Index) -> None:
        self._scores: np.ndarray = np.log1p(index.popularity)

    def scores(self, user: User) -> np.ndarray:  # noqa: ARG002
        """Score every item: float64 [n_items], higher is better."""
        return self._scores


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
