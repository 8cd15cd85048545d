"""Whether a review speaks well of its item: the sources, and which of them is taken."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from llmrec.content_cache import ContentCache
from llmrec.errors import ModelNotFoundError
from llmrec.items.rated_sentiment import RatedSentiment, why_not_fitted
from llmrec.items.readings import read_texts
from llmrec.items.sentiment_model import ModelSentiment
from llmrec.items.text_encoder import Encoder
from llmrec.records import Review, SentimentSource

logger = logging.getLogger(__name__)

DEFAULT_SENTIMENT_MODEL = "nlptown/bert-base-multilingual-uncased-sentiment"
"""One to five stars for product reviews in English, Dutch, German, French, Spanish and Italian."""


class Sentiment(Protocol):
    """Says whether reviews, and their sentences, speak well of their items."""

    @property
    def source(self) -> SentimentSource:
        """What it judges by."""
        ...

    def scores(self, reviews: Sequence[Review]) -> NDArray[np.float64]:
        """The probability that each review speaks well of its item, float64 [n] in 0 to 1.

        NaN where it cannot tell: the text is empty or in a language that it does not know.
        """
        ...

    def sentence_scores(self, reviews: Sequence[Review]) -> list[NDArray[np.float64]]:
        """The same for each of a review's :func:`~llmrec.items.reviews.sentences`."""
        ...


@dataclass(frozen=True)
class LexiconSentiment:
    """VADER alone: a review's score is the mean tone of its sentences, from -1..1 to 0..1.

    It knows English only and has seen no rating, so its scores order reviews and are no calibrated
    probabilities.
    """

    cache: ContentCache
    progress: bool = False
    source: SentimentSource = field(default=SentimentSource.LEXICON, init=False)

    def scores(self, reviews: Sequence[Review]) -> NDArray[np.float64]:
        """See :class:`Sentiment`."""
        means = [each.mean() if each.size else np.nan for each in self.sentence_scores(reviews)]
        return np.array(means, dtype=np.float64)

    def sentence_scores(self, reviews: Sequence[Review]) -> list[NDArray[np.float64]]:
        """See :class:`Sentiment`."""
        readings = read_texts(
            [review.text for review in reviews], self.cache, progress=self.progress
        )
        scores = []
        for review in reviews:
            reading = readings[review.text]
            tones = [each.tone if reading.english else np.nan for each in reading.sentences]
            scores.append((np.array(tones, dtype=np.float64) + 1) / 2)
        return scores


def choose_sentiment(
    reviews: Sequence[Review],
    encoder: Encoder,
    cache: ContentCache,
    *,
    model: str | None = None,
    progress: bool = False,
) -> Sentiment:
    """Take the best source that can be had: a model, else the ratings, else the lexicon.

    Args:
        reviews: Those that may be learned from: none that a split holds out.
        encoder: Embeds the reviews that a head is fitted on.
        cache: Where scores are kept between runs.
        model: A text-classification model by hub id, folder or packaged name; ``"lexicon"`` takes
            the English word list, None no model. One that cannot be found is done without, and a
            warning says so.
        progress: Show bars on stderr, where that is a terminal.

    Raises:
        ModelError: The model is there and is no sentiment classifier.
    """
    if model == SentimentSource.LEXICON:
        return LexiconSentiment(cache, progress)
    if model is not None:
        try:
            return ModelSentiment.from_pretrained(model, cache=cache, progress=progress)
        except ModelNotFoundError as error:
            logger.warning("%s Reviews are judged without it.", error.message)
    why = why_not_fitted(reviews)
    if why is None:
        return RatedSentiment(tuple(reviews), encoder, cache, progress)
    if any(review.text.strip() for review in reviews):
        logger.warning("Sentiment comes from an English word list alone: %s.", why)
    return LexiconSentiment(cache, progress)
