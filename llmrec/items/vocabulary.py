"""The words that a data set's reviews are written in, of whatever language."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

_HAN_AND_KANA = r"\u3040-\u30ff\u3400-\u9fff"
_WORD = rf"[{_HAN_AND_KANA}]|[^\W_{_HAN_AND_KANA}]+"
"""Chinese and Japanese are written without spaces: there each character stands for a word."""
_KNOWN_FROM = 0.5
_RARE = 0.001


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """Words and pairs of words that at least two reviews have.

    Args:
        vectorizer: scikit-learn's ``CountVectorizer``, fitted.
        familiar: The words that one review in a thousand has, and at least two.
    """

    vectorizer: Any
    familiar: frozenset[str]

    @classmethod
    def of(cls, texts: Sequence[str]) -> Vocabulary:
        """Collect the words of some reviews, of which two at least share a word."""
        from sklearn.feature_extraction.text import CountVectorizer  # noqa: PLC0415

        vectorizer = CountVectorizer(token_pattern=_WORD, ngram_range=(1, 2), min_df=2)
        reviews = np.asarray((vectorizer.fit_transform(texts) > 0).sum(axis=0)).ravel()
        words = vectorizer.get_feature_names_out()
        enough = max(2.0, _RARE * len(texts))
        frequent = (str(word) for word in words[reviews >= enough])
        return cls(vectorizer, frozenset(word for word in frequent if " " not in word))

    def counts(self, texts: Sequence[str]) -> Any:  # noqa: ANN401 - scipy has no types
        """Count each text's words and pairs: a sparse int matrix [n, words]."""
        return self.vectorizer.transform(texts)

    def knows(self, text: str) -> bool:
        """Whether at least half of a text's words are familiar, and it has any.

        So a review in another language than the others is not judged by words it does not have.
        """
        words = self.vectorizer.build_tokenizer()(text.lower())
        known = sum(word in self.familiar for word in words)
        return bool(words) and known >= _KNOWN_FROM * len(words)
