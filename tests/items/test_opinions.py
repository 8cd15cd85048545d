from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from llmrec.content_cache import ContentCache
from llmrec.items.opinions import opinion_line, opinions_by, understand_reviews
from llmrec.items.reviews import sentences
from llmrec.records import Aspect, Item, Opinion, Review, SentimentSource

ITEMS = {name: Item(name, f"Title of {name}") for name in ("one", "two")}
GOOD = "The music is wonderful and I love the actors."
BAD = "The dialogue is terrible and the ending is awful."


class Words:
    """Sentiment by a few words; a text in capitals is a language that it does not know."""

    source = SentimentSource.MODEL

    def scores(self, reviews: Sequence[Review]) -> np.ndarray:
        each = self.sentence_scores(reviews)
        return np.array([scores.mean() if scores.size else np.nan for scores in each])

    def sentence_scores(self, reviews: Sequence[Review]) -> list[np.ndarray]:
        return [np.array([self._score(s) for s in sentences(row.text)]) for row in reviews]

    def _score(self, text: str) -> float:
        if text.isupper():
            return float("nan")
        good = sum(word in text for word in ("wonderful", "love", "good"))
        bad = sum(word in text for word in ("terrible", "awful", "bad"))
        return 0.5 + 0.2 * max(-2, min(2, good - bad))


class Letters:
    """Embeds a text by whether it praises."""

    name = "letters@1"

    def encode(self, texts: Sequence[str], *, progress: bool = False) -> np.ndarray:
        love = [["love" in text.lower(), "hate" in text.lower()] for text in texts]
        return np.array(love, dtype=np.float32).reshape(len(texts), 2)


def test_opinion_has_praise_and_complaints() -> None:
    reviews = [Review("one", GOOD), Review("one", BAD), Review("one", f"So good. {GOOD}")]
    found, gaps = opinions_by(Words(), reviews, ITEMS)
    assert set(found) == {"one"}
    assert gaps == {}
    opinion = found["one"]
    assert (opinion.n, opinion.source) == (3, SentimentSource.MODEL)
    assert opinion.share_positive == pytest.approx(2 / 3)
    assert opinion.praise == (GOOD,)
    assert opinion.complaints == (BAD,)


def test_a_good_review_may_hold_a_complaint_about_an_aspect() -> None:
    complaint = "I find the dialogue terrible, as bad as it is awful."
    vague = "I find it all so terrible, as bad as it is awful."
    reviews = [Review("one", f"{GOOD} {text}", 5) for text in (complaint, vague)]
    others = [
        Review("two", f"We saw it and the {noun} was {word}.", 1 + n % 2 * 4)
        for n, noun in enumerate(("dialogue", "plot", "music", "camera", "pacing", "script"))
        for word in ("slow", "fine", "thin", "weak", "dark", "bold")
    ]
    found, _ = opinions_by(Words(), [*reviews, *others], ITEMS)
    assert found["one"].share_positive == 1
    assert found["one"].complaints == (complaint,)


@pytest.mark.parametrize("scale", [(1, 3, 5), (2, 5, 9)])
def test_a_clear_rating_goes_before_the_text(scale: tuple[float, float, float]) -> None:
    low, middle, high = scale
    ends = [Review("two", "Nothing.", low), Review("two", "Something.", high)]
    reviews = [Review("one", GOOD, low), Review("one", GOOD, middle), *ends]
    found, _ = opinions_by(Words(), reviews, ITEMS)
    assert found["one"].share_positive == 0.5


def test_a_review_that_cannot_be_judged_is_left_out_and_counted() -> None:
    reviews = [Review("one", GOOD), Review("one", "UNKNOWN."), Review("one", " ")]
    found, gaps = opinions_by(Words(), [*reviews, Review("two", "")], ITEMS)
    assert set(found) == {"one"}
    assert found["one"].n == 1
    assert "2 of 3 reviews are empty or in a language" in gaps["one"]
    assert "1 of 1 reviews" in gaps["two"]


def test_reviews_of_other_items_are_not_used(tmp_path: Path) -> None:
    cache = ContentCache(tmp_path / "insights.sqlite3")
    reviews = [
        Review("one", "I love it so very much, really."),
        Review("one", "I love it."),
        Review("elsewhere", "I hate it."),
    ]
    found, _ = understand_reviews(reviews, ITEMS, Letters(), cache=cache)
    assert set(found) == {"one"}
    assert (found["one"].n, found["one"].complaints) == (2, ())
    assert found["one"].source == SentimentSource.ZERO_SHOT
    assert understand_reviews([], ITEMS, Letters(), cache=cache) == ({}, {})


def test_all_texts_equal(tmp_path: Path) -> None:
    cache = ContentCache(tmp_path / "insights.sqlite3")
    reviews = [Review(name, GOOD, 1 + n % 2 * 4) for name in ITEMS for n in range(40)]
    found, _ = understand_reviews(reviews, ITEMS, Letters(), cache=cache)
    assert (found["one"].n, found["one"].share_positive) == (40, 0.5)


def test_at_most_a_hundred_reviews_are_read_in_any_order() -> None:
    reviews = [Review("one", f"{GOOD if n % 3 else BAD} Copy {n}.") for n in range(130)]
    first, _ = opinions_by(Words(), reviews, ITEMS)
    again, _ = opinions_by(Words(), reviews[::-1], ITEMS)
    assert first["one"].n == 100
    assert again == first


@pytest.mark.parametrize(
    "text",
    [
        "And the music is wonderful to hear.",
        "THE MUSIC IS WONDERFUL AND SO GOOD.",
        "Is the music not a wonderful thing?",
        "the music is wonderful and so good.",
        "Find the wonderful music at www.music.example now.",
        "Wonderful music.",
    ],
)
def test_dependent_sentences_are_not_quoted(text: str) -> None:
    found, _ = opinions_by(Words(), [Review("one", text), Review("one", "So good.")], ITEMS)
    assert found["one"].praise == ()


def opinion(n: int, share: float, *aspects: Aspect) -> Opinion:
    return Opinion(n, share, (), (), aspects, SentimentSource.RATINGS)


@pytest.mark.parametrize(
    ("known", "line"),
    [
        (
            opinion(9, 0.5, Aspect("plot", 2, 2), Aspect("cast", 9, 7), Aspect("book", 2, 3)),
            "50 % of 9 reviews positive",
        ),
        (
            opinion(9, 0.5, Aspect("cast", 4, 2), Aspect("book", 1, 2)),
            "50 % of 9 reviews positive; praised: cast; criticised: book",
        ),
        (opinion(1, 1.0), "100 % of 1 review positive"),
        (
            opinion(9, 2 / 3, *(Aspect(f"good {n}", 2, 0) for n in range(5)), Aspect("bad", 0, 1)),
            "67 % of 9 reviews positive; praised: good 0, good 1, good 2; criticised: bad",
        ),
    ],
)
def test_an_opinion_in_one_line(known: Opinion, line: str) -> None:
    assert opinion_line(known) == line
