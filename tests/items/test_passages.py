from __future__ import annotations

import pytest

from llmrec.items.reviews import passages, sentences


@pytest.mark.parametrize("text", ["", "   ", "\n\n", "<br />"])
def test_an_empty_text_has_no_sentences_and_no_passages(text: str) -> None:
    assert sentences(text) == []
    assert passages(text) == ()


def test_abbreviations_and_initials_end_no_sentence() -> None:
    text = "Mr. Bond met J. Doe. He won!! was it good? yes"
    assert sentences(text) == ["Mr. Bond met J. Doe.", "He won!!", "was it good?", "yes"]


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


def test_a_review_a_little_too_long_is_cut_in_halves_without_losing_any() -> None:
    text = " ".join(f"Sentence number {number} of it." for number in range(40))
    assert " ".join(passages(text)) == text


@pytest.mark.parametrize("letter", ["a", "ü", "片", "\ud83d"])
def test_a_text_without_any_stop_is_cut_all_the_same(letter: str) -> None:
    parts = passages(letter * 5_000)
    assert len(parts) == 2
    assert all(len(part.encode(errors="replace")) <= 1_100 for part in parts)
