from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from llmrec.content_cache import ContentCache
from llmrec.items.opinions import opinions_by, understand_reviews
from llmrec.items.sentiment import LexiconSentiment
from llmrec.records import Item, Review, SentimentSource

ITEMS = {name: Item(name, f"Title of {name}") for name in ("one", "two")}
GOOD = "The music is wonderful and I love the actors."
BAD = "The dialogue is terrible and the ending is awful."


class Constant:
    """Every text has the same vector."""

    name = "constant@1"

    def encode(self, texts: Sequence[str], *, progress: bool = False) -> np.ndarray:
        return np.ones((len(texts), 1), dtype=np.float32)


@pytest.fixture
def cache(tmp_path: Path) -> ContentCache:
    return ContentCache(tmp_path / "insights.sqlite3")


def test_an_opinion_says_what_is_liked_and_what_is_not(cache: ContentCache) -> None:
    reviews = [Review("one", GOOD), Review("one", BAD), Review("one", f"So good. {GOOD}")]
    found, gaps = understand_reviews(reviews, ITEMS, Constant(), cache=cache)
    assert set(found) == {"one"}
    assert gaps == {}
    opinion = found["one"]
    assert (opinion.n, opinion.source) == (3, SentimentSource.LEXICON)
    assert opinion.share_positive == pytest.approx(2 / 3)
    assert opinion.praise == (GOOD,)
    assert opinion.complaints == (BAD,)
    assert ("music", 2, 0) in {(a.name, a.positive, a.negative) for a in opinion.aspects}


def test_a_good_review_may_hold_the_complaint(cache: ContentCache) -> None:
    reviews = [Review("one", f"{GOOD} {BAD}", 5), Review("one", GOOD, 5)]
    found, _ = opinions_by(LexiconSentiment(cache), reviews, ITEMS, cache)
    assert found["one"].share_positive == 1
    assert found["one"].complaints == (BAD,)


def test_a_story_s_deaths_are_no_complaint_of_a_good_review(cache: ContentCache) -> None:
    story = "In the beginning a virus murders and kills nearly all of mankind."
    reviews = [Review("one", f"{story} {GOOD}", 5), Review("one", BAD, 1)]
    found, _ = opinions_by(LexiconSentiment(cache), reviews, ITEMS, cache)
    assert found["one"].complaints == (BAD,)


@pytest.mark.parametrize("scale", [(1, 3, 5), (2, 5, 9)])
def test_a_clear_rating_goes_before_the_text(
    scale: tuple[float, float, float], cache: ContentCache
) -> None:
    low, middle, high = scale
    ends = [Review("two", "Nothing.", low), Review("two", "Something.", high)]
    reviews = [Review("one", GOOD, low), Review("one", GOOD, middle), *ends]
    found, _ = opinions_by(LexiconSentiment(cache), reviews, ITEMS, cache)
    assert found["one"].share_positive == 0.5


def test_a_review_that_cannot_be_judged_is_left_out_and_counted(cache: ContentCache) -> None:
    german = "Die Handlung war langweilig und hat mich sehr geärgert."
    reviews = [Review("one", GOOD), Review("one", german), Review("one", " "), Review("two", "")]
    found, gaps = understand_reviews(reviews, ITEMS, Constant(), cache=cache)
    assert found["one"].n == 1
    assert "2 of 3 reviews are empty or in a language" in gaps["one"]
    assert set(found) == {"one"}
    assert "1 of 1 reviews" in gaps["two"]


def test_no_reviews_no_opinions(cache: ContentCache) -> None:
    assert understand_reviews([], ITEMS, Constant(), cache=cache) == ({}, {})


def test_reviews_of_other_items_and_later_ones_are_not_used(cache: ContentCache) -> None:
    reviews = [
        Review("one", GOOD, timestamp=9),
        Review("one", BAD, timestamp=10),
        Review("one", GOOD),
        Review("elsewhere", BAD),
    ]
    found, _ = understand_reviews(reviews, ITEMS, Constant(), cache=cache, before=10)
    assert found["one"].n == 2
    assert found["one"].complaints == ()


def test_all_texts_equal(cache: ContentCache) -> None:
    reviews = [Review(name, GOOD, 1 + n % 2 * 4) for name in ITEMS for n in range(40)]
    found, _ = understand_reviews(reviews, ITEMS, Constant(), cache=cache)
    assert (found["one"].n, found["one"].share_positive) == (40, 0.5)


def test_at_most_a_hundred_reviews_are_read_whatever_their_order(cache: ContentCache) -> None:
    reviews = [Review("one", f"{GOOD if n % 3 else BAD} Copy {n}.") for n in range(130)]
    first, _ = understand_reviews(reviews, ITEMS, Constant(), cache=cache)
    again, _ = understand_reviews(reviews[::-1], ITEMS, Constant(), cache=cache)
    assert first["one"].n == 100
    assert again == first


@pytest.mark.parametrize(
    "text",
    [
        "And the music is wonderful to hear.",
        "I just hope that the wonderful music is back.",
        "THE MUSIC IS WONDERFUL AND SO GOOD.",
        "Is the music not a wonderful thing?",
        "the music is wonderful and so good.",
        "Find the wonderful music at www.music.example now.",
        "Wonderful music.",
    ],
)
def test_sentences_that_do_not_stand_alone_are_not_quoted(text: str, cache: ContentCache) -> None:
    found, _ = understand_reviews([Review("one", text)], ITEMS, Constant(), cache=cache)
    assert found["one"].praise == ()


def test_a_sentence_that_names_an_aspect_is_preferred(cache: ContentCache) -> None:
    music = "I really do like the music in this one."
    others = [f"I love my wonderful, happy, great old {noun}." for noun in ("sofa", "lamp")]
    reviews = [Review("one", text) for text in (*others, f"Hi. {music}", music)]
    found, _ = understand_reviews(reviews, ITEMS, Constant(), cache=cache)
    assert found["one"].praise[0] == music
