from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from llmrec.content_cache import ContentCache
from llmrec.items.rated_sentiment import RatedSentiment, spoken_well, why_not_fitted
from llmrec.records import Review

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
        counts = np.array(rows, dtype=np.float32)
        units: np.ndarray = counts / np.linalg.norm(counts, axis=1, keepdims=True)
        return units


def shop(low: float = 1, high: float = 5) -> list[Review]:
    """Ten items with three reviews of either kind each, no text twice."""
    return [
        Review(f"item{item}", f"{text} Seen {item} times, in room {at}.", rating)
        for item in range(10)
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
def test_ratings_tell_which_reviews_speak_well(
    ratings: list[float | None], expected: list[float]
) -> None:
    reviews = [Review("a", "text", rating) for rating in ratings]
    np.testing.assert_array_equal(spoken_well(reviews), expected)


def test_an_empty_text_speaks_neither_well_nor_ill() -> None:
    assert np.isnan(spoken_well([Review("a", " ", 5), Review("a", "text", 1)])[0])


@pytest.mark.parametrize("scale", [(1, 5), (1, 10)])
def test_unrated_reviews_are_judged_by_what_rated_ones_taught(
    scale: tuple[float, float], cache: ContentCache
) -> None:
    asked = [Review("new", "A charming, lovely story."), Review("new", "A dull and stale story.")]
    good, bad = RatedSentiment(tuple(shop(*scale)), Letters(), cache).scores(asked)
    assert good > 0.5 > bad


def test_an_item_is_judged_by_a_head_that_has_not_seen_its_ratings(cache: ContentCache) -> None:
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
    np.testing.assert_allclose(own_turned, own, rtol=1e-9)
    assert not np.allclose(others_turned, others, rtol=1e-3)


def test_a_copied_text_is_not_learned_from_where_it_is_judged(cache: ContentCache) -> None:
    """Every fold holds a copy, so no head may have learned from one."""
    copies = [Review(f"item{item}", "Zebra zebra quince.", 5) for item in range(10)]
    sentiment = RatedSentiment((*shop(), *copies), Letters(), cache)
    column = sentiment._vocabulary.vectorizer.vocabulary_["zebra zebra"]
    for head in sentiment.heads:
        assert head.sources[0].steps[-1][1].coef_[0][column] == 0


def test_scores_are_the_same_in_another_run(tmp_path: Path) -> None:
    first, second = (
        RatedSentiment(tuple(shop()), Letters(), ContentCache(tmp_path / name)).scores(shop())
        for name in ("one", "two")
    )
    np.testing.assert_array_equal(first, second)


def test_a_second_run_is_served_from_the_cache(cache: ContentCache) -> None:
    first = RatedSentiment(tuple(shop()), Letters(), cache).scores(shop())
    encoder = Letters()
    again = RatedSentiment(tuple(shop()), encoder, cache)
    np.testing.assert_array_equal(again.scores(shop()), first)
    assert len(again.sentence_scores(shop())[0]) == 2
    assert encoder.asked == []


def test_what_cannot_be_read_is_not_judged(cache: ContentCache) -> None:
    unknown = "Die Handlung war langweilig und hat mich sehr geärgert."
    asked = [Review("a", ""), Review("a", unknown), Review("a", "Met expectations")]
    sentiment = RatedSentiment(tuple(shop()), Letters(), cache)
    assert np.isnan(sentiment.scores(asked)).tolist() == [True, True, False]
    assert [len(each) for each in sentiment.sentence_scores(asked)] == [0, 1, 1]


def test_why_a_head_cannot_be_fitted() -> None:
    assert why_not_fitted(shop()) is None
    assert "0 reviews speak well of their item and 0 ill" in str(why_not_fitted([]))
    one_sided = [row for row in shop() if row.rating == 5]
    assert "30 reviews speak well of their item and 0 ill" in str(why_not_fitted(one_sided))
    one_item = [Review("a", row.text, row.rating) for row in shop()]
    assert "too few items" in str(why_not_fitted(one_item))
    equal = [Review(row.item_id, "the same", row.rating) for row in shop()]
    assert "repeat the same texts" in str(why_not_fitted(equal))
