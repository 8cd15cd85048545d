"""BM25 over item texts: the words of each item and their weights."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from llmrec.catalog.values import composed
from llmrec.retrieval.item_table import Ids
from llmrec.retrieval.search import EXACT_UP_TO
from llmrec.retrieval.storage import check_rows, check_scores

WORDS_KEPT = 1 << 17
"""Words whose rows are remembered."""
_PAIRED = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7a3\uf900-\ufaff\u0e00-\u0e7f"
# Vowels of Indic scripts are marks, which \w lacks.
_MARKS = "".join(c for c in map(chr, range(0x300, 0x10000)) if unicodedata.category(c)[0] == "M")
_WORDS = re.compile(rf"[{_PAIRED}]+|[^\W{_PAIRED}]+(?:[{_MARKS}]+[^\W{_PAIRED}]*)*")
_IN_PAIRS = re.compile(f"[{_PAIRED}]{{2}}")


@dataclass(frozen=True, eq=False)
class Postings:
    """The items of each word, with the word's BM25 score in each.

    Robertson and Zaragoza, "The probabilistic relevance framework: BM25 and beyond" (2009), through
    bm25s. No list of stop words and no stemming, so no language is assumed.

    Args:
        words: The words.
        starts: int64 [n_words + 1], where each word's items begin.
        items: int32, rows of items.
        scores: float32, beside ``items``.
        n_items: How many items there are.
    """

    words: Ids
    starts: np.ndarray
    items: np.ndarray
    scores: np.ndarray
    n_items: int

    @classmethod
    def of(cls, texts: Iterable[str]) -> Postings:
        """Count the words of item texts."""
        import bm25s  # noqa: PLC0415

        corpus = [tokens(text) for text in texts]
        if not any(corpus):
            none = np.empty(0, dtype=np.int32)
            return cls(Ids.of(()), np.zeros(1, dtype=np.int64), none, none, len(corpus))
        bm25 = bm25s.BM25()
        bm25.index(corpus, show_progress=False, create_empty_token=False)
        table = bm25.scores
        words = sorted(bm25.vocab_dict, key=bm25.vocab_dict.__getitem__)
        starts = np.asarray(table["indptr"], dtype=np.int64)
        return cls(Ids.of(words), starts, table["indices"], table["data"], len(corpus))

    def search(self, query: str) -> tuple[np.ndarray, np.ndarray]:
        """Score the items that have a word of a query: their rows, ascending, and scores float64.

        A word that the query has twice counts twice. Of more than ``EXACT_UP_TO`` items, a word
        that all have is left out: its score is below 1e-5.
        """
        named = [row for word in tokens(query) if (row := self._row(word)) is not None]
        rows = np.array(named, dtype=np.int64)
        starts, ends = self.starts[rows], self.starts[rows + 1]
        if self.n_items > EXACT_UP_TO:
            rare = ends - starts < self.n_items
            starts, ends = starts[rare], ends[rare]
        spans = [slice(0), *map(slice, starts.tolist(), ends.tolist())]
        found = np.concatenate([self.items[span] for span in spans])
        added = np.concatenate([self.scores[span] for span in spans])
        scores = np.zeros(self.n_items, dtype=np.float32)
        np.add.at(scores, check_rows(found, self.n_items, "keywords"), added)
        some = np.flatnonzero(check_scores(scores))
        return some, scores[some].astype(np.float64)

    @cached_property
    def _row(self) -> Callable[[str], int | None]:
        """The row of a word; users ask for the same words again and again."""
        return lru_cache(WORDS_KEPT)(self.words.find)


def tokens(text: str) -> list[str]:
    """Cut a text to words, and the words of some scripts to pairs of characters.

    Those are scripts without spaces (Chinese, Japanese, Thai), and Korean, whose words end in
    particles. Unicode is composed (NFC).

    >>> tokens("The 红楼梦, 1791")
    ['the', '红楼', '楼梦', '1791']
    """
    found = []
    for word in _WORDS.findall(composed(text.casefold())):
        if not word.isascii() and _IN_PAIRS.match(word):
            found += [word[i : i + 2] for i in range(len(word) - 1)]
        else:
            found.append(word)
    return found
