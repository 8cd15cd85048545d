from __future__ import annotations

from collections.abc import Sequence

import pytest

from llmrec.errors import OptionError
from llmrec.training.augmentation import back_translate, replace_synonyms

WORDS = {"film": ["movie"], "old": ["aged", "ancient"]}


class Shouting:
    def translate(self, texts: Sequence[str], *, source: str, target: str) -> Sequence[str]:
        return [f"{text}>{target}" for text in texts]


class Losing:
    def translate(self, texts: Sequence[str], *, source: str, target: str) -> Sequence[str]:
        return texts[1:]


def test_synonyms_stand_in_for_words_and_nothing_else_changes() -> None:
    text = "An old Film, a filmy film."
    made = replace_synonyms(text, WORDS, share=1, seed=0)
    assert made in {f"An {word} Movie, a filmy movie." for word in WORDS["old"]}
    assert made == replace_synonyms(text, lambda w: WORDS.get(w, []), share=1, seed=0)
    assert replace_synonyms(text, WORDS, share=0, seed=0) == text
    assert replace_synonyms("电影 old", {"电影": ["影片"]}, share=1, seed=0) == "影片 old"


def test_a_share_is_a_share() -> None:
    with pytest.raises(OptionError, match="share is 2"):
        replace_synonyms("old", WORDS, share=2, seed=0)


def test_back_translation_goes_there_and_back() -> None:
    assert back_translate(["a"], Shouting(), language="en", through="de") == ["a>de>en"]
    with pytest.raises(OptionError, match="returned 0 texts for 1"):
        back_translate(["a"], Losing(), language="en", through="de")
