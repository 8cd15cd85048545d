from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np
import pytest

from llmrec.items.reviews import embed_reviews, passages, sentences
from llmrec.items.text_encoder import TextEncoder
from llmrec.records import LONGEST_READ, Review
from tests.items.small_encoders import letter_counts


@pytest.mark.parametrize("text", ["", "   ", "\n\n", "<br />"])
def test_an_empty_text_has_no_sentences_and_no_passages(text: str) -> None:
    assert sentences(text) == []
    assert passages(text) == ()


def test_abbreviations_and_initials_end_no_sentence() -> None:
    text = "Mr. Bond met J. Doe. He won!! was it good? yes"
    assert sentences(text) == ["Mr. Bond met J. Doe.", "He won!!", "was it good?", "yes"]
    assert sentences("It has vitamin C.\nGreat stuff") == ["It has vitamin C.", "Great stuff"]


def test_chinese_sentences_need_no_space() -> None:
    assert sentences("很好看。我喜欢！再见") == ["很好看。", "我喜欢！", "再见"]


def test_a_short_review_is_one_passage_of_one_line() -> None:
    assert passages("Good.\n\nVery   good.") == ("Good. Very good.",)


def test_a_long_review_is_read_at_both_ends() -> None:
    text = " ".join(f"Sentence number {number} of it." for number in range(200))
    opening, ending = passages(text)
    assert opening.startswith("Sentence number 0 of it.")
    assert ending.endswith("Sentence number 199 of it.")
    assert len(opening.encode()) <= 1_000
    assert len(ending.encode()) <= 1_000


def test_slightly_long_review_is_halved_without_loss() -> None:
    text = " ".join(f"Sentence number {number} of it." for number in range(40))
    assert " ".join(passages(text)) == text


@pytest.mark.parametrize("letter", ["a", "ü", "片", "\ud83d"])
def test_a_text_without_any_stop_is_cut_all_the_same(letter: str) -> None:
    parts = passages(letter * 5_000)
    assert len(parts) == 2
    assert all(len(part.encode(errors="replace")) <= 1_100 for part in parts)


REVIEWS = [
    Review("one", "aaa"),
    Review("one", "b"),
    Review("two", "cab"),
    Review("empty", "  "),
    Review("other", "h"),
]


def embedded(reviews: Sequence[Review], ids: Sequence[str]) -> np.ndarray:
    return embed_reviews(reviews, ids, TextEncoder(letter_counts(), "letters")).vectors


def test_items_without_a_readable_review_are_absent_and_no_gap() -> None:
    ids = ["none", "one", "empty", "two"]
    found = embed_reviews(REVIEWS, ids, TextEncoder(letter_counts(), "letters"))
    assert found.name == "reviews"
    assert found.present.tolist() == [False, True, False, True]
    assert not found.vectors[[0, 2]].any()
    assert not found.gaps
    assert found.vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(found.vectors[[1, 3]], axis=1), 1, rtol=1e-6)


def test_every_review_weighs_the_same() -> None:
    (vector,) = embedded(REVIEWS, ["one"])
    np.testing.assert_allclose(vector[:2], [0.5**0.5] * 2, rtol=1e-6)


def test_a_long_review_weighs_as_much_as_a_short_one() -> None:
    long = Review("one", "a. " * 600)
    (vector,) = embedded([long, Review("one", "b")], ["one"])
    np.testing.assert_allclose(vector[:2], [0.5**0.5] * 2, rtol=1e-6)


def test_a_review_that_is_there_twice_counts_once() -> None:
    np.testing.assert_array_equal(
        embedded([*REVIEWS, Review("one", "aaa")], ["one"]), embedded(REVIEWS, ["one"])
    )


def test_at_most_twenty_reviews_are_read_in_any_order() -> None:
    reviews = [Review("one", "abcdefgh"[n % 8] * (1 + n % 3) + "x" * n) for n in range(50)]
    model = letter_counts()
    found = embed_reviews(reviews, ["one"], TextEncoder(model, "letters"))
    assert len(model.asked) == 20
    np.testing.assert_allclose(embedded(reviews[::-1], ["one"]), found.vectors, atol=1e-7)


def test_reviews_of_other_items_are_not_read() -> None:
    model = letter_counts()
    embed_reviews(REVIEWS, ["two"], TextEncoder(model, "letters"))
    assert model.asked == ["cab"]


def test_no_reviews_at_all() -> None:
    found = embed_reviews([], ["one", "two"], TextEncoder(letter_counts(), "letters"))
    assert found.vectors.shape == (2, 8)
    assert not found.present.any()


@pytest.mark.parametrize("piece", ["!", " ", "a\n", '."', "<a", "x", "。", "\n \n", "a. "])
def test_work_does_not_grow_with_a_long_review(piece: str) -> None:
    """Counted in calls of Python functions and in what is left to embed, not in seconds."""

    def work(n: int) -> int:
        steps = 0

        def count(*_: object) -> None:
            nonlocal steps
            steps += 1

        sys.setprofile(count)
        try:
            read = passages(piece * n)
        finally:
            sys.setprofile(None)
        return steps + sum(map(len, read))

    assert work(80_000) <= 1.2 * work(40_000) + 100


def test_runs_of_marks_and_spaces_are_cut_in_time_that_follows_their_length() -> None:
    """A run that is looked at again from each of its places takes minutes here."""
    for piece in ("!", " ", "।", "\t\r"):
        text = piece * (LONGEST_READ // len(piece))
        assert len(sentences(text)) <= 1
        assert len(sentences(f"{text}x{text}")) <= 3
