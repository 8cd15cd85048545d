"""Words that an item shares with the recent, liked history."""

from __future__ import annotations

import re

import numpy as np

from llmrec.catalog import liked
from llmrec.items import item_text
from llmrec.records import Item, User
from llmrec.retrieval.index import Index

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
