from __future__ import annotations

import pytest

from llmrec.explaining.titles import leaves_quote_open, sentence_ends, split_sentences


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("", []),
        ("No end", ["No end"]),
        ("One. Two! Three?", ["One.", "Two!", "Three?"]),
        ("Mr. Holland met Dr. No. They sang.", ["Mr. Holland met Dr. No.", "They sang."]),
        ("It costs 3.50 a piece. Good.", ["It costs 3.50 a piece.", "Good."]),
        ("Well... it works. Done.", ["Well... it works.", "Done."]),
        (
            'You liked "Help! I Am Lost." a lot. Yes.',
            ['You liked "Help! I Am Lost." a lot.', "Yes."],
        ),
        ('She said "Go." Then she went.', ['She said "Go."', "Then she went."]),
        ("Sie mag „Halt. Wer da?“ sehr. Gut.", ["Sie mag „Halt. Wer da?“ sehr.", "Gut."]),
        ("它很短。你会喜欢的！", ["它很短。", "你会喜欢的！"]),
        ("你喜欢《你好。再见》。好。", ["你喜欢《你好。再见》。", "好。"]),
        ("It is good (really.) Buy it.", ["It is good (really.)", "Buy it."]),
        ("We went to plan B.", ["We went to plan B."]),
    ],
)
def test_split_sentences(text: str, sentences: list[str]) -> None:
    assert split_sentences(text) == sentences


def test_a_half_sentence_has_no_end() -> None:
    assert sentence_ends("One. Two and") == [4]


@pytest.mark.parametrize("text", ['a "b', "a “b", "《活着", "「a", "a «b"])
def test_open_quotes(text: str) -> None:
    assert leaves_quote_open(text)


@pytest.mark.parametrize("text", ["", 'a "b"', "“a”", "„a“", "《活着》", "it's"])
def test_closed_quotes(text: str) -> None:
    assert not leaves_quote_open(text)
