from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from llmrec.content_cache import ContentCache, content_key
from llmrec.items import TextEncoder
from llmrec.items.sentiment import (
    RatedSentiment,
    ZeroShotSentiment,
    choose_sentiment,
    spoken_well,
    why_not_fitted,
)
from llmrec.records import Review, SentimentSource

GOOD = ("I enjoyed the lovely story.", "The cast is charming and funny.", "A fine plot.")
BAD = ("I was bored by the dull story.", "The cast is tiresome and flat.", "A stale plot.")


class Letters:
    """A small encoder: how often each letter occurs. Remembers what it was asked."""

    name = "letters@1"

    def __init__(self, *, constant: bool = False) -> None:
        self.constant = constant
        self.asked: list[str] = []

    def encode(self, texts: Sequence[str], *, progress: bool = False) -> np.ndarray:
        self.asked += texts
        if self.constant:
            return np.ones((len(texts), 1), dtype=np.float32)
        rows = [[text.count(chr(97 + at)) for at in range(26)] + [1] for text in texts]
        counts = np.array(rows, dtype=np.float32).reshape(len(texts), 27)
        units: np.ndarray = counts / np.linalg.norm(counts, axis=1, keepdims=True)
        return units


def shop(low: float | None = 1, high: float | None = 5, items: int = 10) -> list[Review]:
    """Ten items with three reviews of either kind each, no text twice."""
    return [
        Review(f"item{item}", f"{text} Seen {item} times, in room {at}.", rating)
        for item in range(items)
        for texts, rating in ((GOOD, high), (BAD, low))
        for at, text in enumerate(texts)
    ]


@pytest.fixture
def cache(tmp_path: Path) -> ContentCache:
    return ContentCache(tmp_path / "insights.sqlite3")


@pytest.mark.parametrize(
    ("ratings", "expected"),
    [
        ([1, 2, 3, 4, 5], [0, 0, np.nan, 1, 1]),
        ([1, 4, 5, 6, 7, 10], [0, 0, np.nan, np.nan, 1, 1]),
        ([3, 4, 5], [np.nan, 1, 1]),
        ([0, 1], [0, 1]),
        ([None, 5, float("nan")], [np.nan, 1, np.nan]),
        ([None, None], [np.nan, np.nan]),
    ],
)
def test_ratings_say_which_reviews_speak_well(
    ratings: list[float | None], expected: list[float]
) -> None:
    reviews = [Review("a", "text", rating) for rating in ratings]
    np.testing.assert_array_equal(spoken_well(reviews), expected)


def test_an_empty_text_speaks_neither_well_nor_ill() -> None:
    assert np.isnan(spoken_well([Review("a", " ", 5), Review("a", "text", 1)])[0])


@pytest.mark.parametrize("scale", [(1, 5), (1, 10)])
def test_unrated_reviews_are_scored_by_rated_ones(
    scale: tuple[float, float], cache: ContentCache
) -> None:
    asked = [Review("new", "A charming, lovely story."), Review("new", "A dull and stale story.")]
    good, bad = RatedSentiment(tuple(shop(*scale)), Letters(), cache).scores(asked)
    assert good > 0.5 > bad


def test_an_item_is_judged_without_its_own_ratings(cache: ContentCache) -> None:
    """What an item's own reviews are rated changes how others are judged, and not how it is."""

    def judged(own_good: float, own_bad: float) -> tuple[np.ndarray, np.ndarray]:
        rows = [
            Review(name, f"{word} film in room {at} of {name}", rating)
            for name in (f"item{number}" for number in range(10))
            for word, rating in (
                ("splendid", own_good if name == "item3" else 5.0),
                ("dreadful", own_bad if name == "item3" else 1.0),
            )
            for at in range(3)
        ]
        sentiment = RatedSentiment(tuple(rows), Letters(constant=True), cache)
        own = [row for row in rows if row.item_id == "item3"]
        fold = sentiment.fold("item3")
        elsewhere = [row for row in rows if sentiment.fold(row.item_id) != fold]
        return sentiment.scores(own), sentiment.scores(elsewhere)

    own, others = judged(5.0, 1.0)
    own_turned, others_turned = judged(1.0, 5.0)
    assert (own[:3] > own[3:]).all()
    np.testing.assert_allclose(own_turned, own, rtol=1e-6)
    assert not np.allclose(others_turned, others, rtol=1e-3)


def test_a_copied_text_is_not_learned_from_where_it_is_judged(cache: ContentCache) -> None:
    """Every fold holds a copy, so no regression may have learned from one."""
    copies = [Review(f"item{item}", "Zebra zebra quince.", 5) for item in range(10)]
    sentiment = RatedSentiment((*shop(), *copies), Letters(), cache)
    column = sentiment.vocabulary.vocabulary_["zebra zebra"]
    for regression, _ in sentiment.fitted:
        assert regression.coef_[0][column] == 0


def test_a_second_run_is_served_from_the_cache(cache: ContentCache) -> None:
    first = RatedSentiment(tuple(shop()), Letters(), cache).scores(shop())
    encoder = Letters()
    again = RatedSentiment(tuple(shop()), encoder, cache)
    np.testing.assert_array_equal(again.scores(shop()), first)
    assert len(again.sentence_scores(shop())[0]) == 2
    assert encoder.asked == []


@pytest.mark.parametrize(
    "row",
    [b"", b"[", b"{}", b"[]", b"[0.5]", b"[0.5, 0.5, 0.5, 0.5]", b"[Infinity, 0.5, 0.5]",
     b"[2.0, 0.5, 0.5]", b'["a", 0.5, 0.5]', b"[" * 900 + b"]" * 900, b"[" + b"9" * 400 + b"]"],
)  # fmt: skip
def test_a_damaged_row_of_the_cache_is_judged_again(cache: ContentCache, row: bytes) -> None:
    sentiment = RatedSentiment(tuple(shop()), Letters(), cache)
    first = sentiment.scores(shop())
    review = shop()[0]
    key = content_key(sentiment._fingerprint, review.item_id, review.text)
    cache.put_many({key: row})
    np.testing.assert_array_equal(sentiment.scores(shop()), first)
    assert cache.get_many([key])[key] != row


def test_scores_are_the_same_in_another_run(tmp_path: Path) -> None:
    first, second = (
        RatedSentiment(tuple(shop()), Letters(), ContentCache(tmp_path / name)).scores(shop())
        for name in ("one", "two")
    )
    np.testing.assert_array_equal(first, second)


def test_unknown_languages_and_empty_texts_are_not_judged(cache: ContentCache) -> None:
    unknown = "Die Handlung war langweilig und hat mich sehr geärgert."
    asked = [Review("a", ""), Review("a", unknown), Review("a", "The cast is dull.")]
    sentiment = RatedSentiment(tuple(shop()), Letters(), cache)
    assert np.isnan(sentiment.scores(asked)).tolist() == [True, True, False]
    assert [len(each) for each in sentiment.sentence_scores(asked)] == [0, 1, 1]


@pytest.mark.parametrize(
    ("reviews", "why"),
    [
        (shop(), None),
        ([], "0 reviews speak well of their item and 0 ill"),
        ([row for row in shop() if row.rating == 5], "30 reviews speak well of their item and 0"),
        (shop(items=2), "6 reviews speak well of their item and 6 ill"),
        (shop(None, None), "0 reviews speak well of their item and 0 ill"),
        ([Review("a", row.text, row.rating) for row in shop()], "too few items"),
        ([Review(row.item_id, "same", row.rating) for row in shop()], "repeat the same texts"),
    ],
)
def test_ratings_are_learned_from_where_they_suffice(
    reviews: list[Review],
    why: str | None,
    cache: ContentCache,
    caplog: pytest.LogCaptureFixture,
) -> None:
    source = choose_sentiment(reviews, Letters(), cache).source
    if why is None:
        assert source == SentimentSource.RATINGS
        assert why_not_fitted(reviews) is None
        return
    assert source == SentimentSource.ZERO_SHOT
    assert why in str(why_not_fitted(reviews))
    assert (why in caplog.text) == bool(reviews)


def test_zero_shot_can_be_chosen(cache: ContentCache) -> None:
    chosen = choose_sentiment(shop(), Letters(), cache, model="zero_shot")
    assert chosen.source == SentimentSource.ZERO_SHOT


def test_a_missing_model_is_replaced_with_a_warning(
    cache: ContentCache, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    chosen = choose_sentiment(shop(), Letters(), cache, model=str(tmp_path / "none"))
    assert chosen.source == SentimentSource.RATINGS
    assert "are judged without it" in caplog.text


def test_zero_shot_tells_praise_from_complaint(minilm_folder: Path, tmp_path: Path) -> None:
    encoder = TextEncoder.from_pretrained(str(minilm_folder), device="cpu")
    reviews = [
        Review("a", "The music is wonderful and I love the actors."),
        Review("a", "The dialogue is terrible. The ending is awful."),
        Review("a", " "),
    ]
    good, bad, empty = ZeroShotSentiment(encoder).scores(reviews)
    assert good > 0.6
    assert bad < 0.4
    assert np.isnan(empty)
    assert [len(each) for each in ZeroShotSentiment(encoder).sentence_scores(reviews)] == [1, 2, 0]
