from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from llmrec.content_cache import ContentCache
from llmrec.items.sentiment import LexiconSentiment, choose_sentiment
from llmrec.records import Review, SentimentSource


class Constant:
    """Every text has the same vector."""

    name = "constant@1"

    def encode(self, texts: Sequence[str], *, progress: bool = False) -> np.ndarray:
        return np.ones((len(texts), 1), dtype=np.float32)


@pytest.fixture
def cache(tmp_path: Path) -> ContentCache:
    return ContentCache(tmp_path / "insights.sqlite3")


def rated(items: int, *ratings: float | None) -> list[Review]:
    return [
        Review(f"item{item}", f"What a good story, number {item} of {rating}.", rating)
        for item in range(items)
        for rating in ratings
    ]


def test_the_lexicon_orders_english_and_knows_nothing_else(cache: ContentCache) -> None:
    texts = ["I love this great film.", "It was a terrible waste of time.", ""]
    texts.append("Die Handlung war langweilig und hat mich sehr geärgert.")
    reviews = [Review("a", text) for text in texts]
    sentiment = LexiconSentiment(cache)
    good, bad, empty, german = sentiment.scores(reviews)
    assert 0 <= bad < 0.5 < good <= 1
    assert np.isnan([empty, german]).all()
    assert [len(each) for each in sentiment.sentence_scores(reviews)] == [1, 1, 0, 1]


def test_ratings_are_learned_from_where_there_are_enough(cache: ContentCache) -> None:
    chosen = choose_sentiment(rated(20, 1, 5), Constant(), cache)
    assert chosen.source == SentimentSource.RATINGS


@pytest.mark.parametrize(
    ("reviews", "why"),
    [
        (rated(30, 5), "30 reviews speak well of their item and 0 ill"),
        (rated(5, 1, 5), "5 reviews speak well of their item and 5 ill"),
        (rated(30, None), "0 reviews speak well of their item and 0 ill"),
        ([Review(f"item{n}", "equal", 1 + n % 2 * 4) for n in range(60)], "repeat the same texts"),
    ],
)
def test_the_lexicon_takes_over_with_a_warning(
    reviews: list[Review], why: str, cache: ContentCache, caplog: pytest.LogCaptureFixture
) -> None:
    assert choose_sentiment(reviews, Constant(), cache).source == SentimentSource.LEXICON
    assert why in caplog.text


def test_without_any_text_there_is_nothing_to_warn_of(
    cache: ContentCache, caplog: pytest.LogCaptureFixture
) -> None:
    chosen = choose_sentiment([Review("a", " ", 5)], Constant(), cache)
    assert chosen.source == SentimentSource.LEXICON
    assert not caplog.records


def test_the_lexicon_can_be_asked_for(cache: ContentCache) -> None:
    chosen = choose_sentiment(rated(20, 1, 5), Constant(), cache, model="lexicon")
    assert chosen.source == SentimentSource.LEXICON


def test_a_model_that_cannot_be_had_is_done_without(
    cache: ContentCache, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    chosen = choose_sentiment(rated(20, 1, 5), Constant(), cache, model=str(tmp_path / "none"))
    assert chosen.source == SentimentSource.RATINGS
    assert "are judged without it" in caplog.text
