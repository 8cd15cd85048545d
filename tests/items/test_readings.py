from __future__ import annotations

import warnings
from pathlib import Path

import pytest

from llmrec.content_cache import ContentCache
from llmrec.items import readings
from llmrec.items.readings import is_short, read_texts, valence

ENGLISH = "The plot was great and I loved the old house in it."
GERMAN = "Die Handlung war langweilig und ich habe mich sehr geärgert."


@pytest.fixture
def cache(tmp_path: Path) -> ContentCache:
    return ContentCache(tmp_path / "insights.sqlite3")


def test_tones_are_told_without_a_warning(cache: ContentCache) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = read_texts(["I love it.", "It was a terrible waste."], cache)
    (good,), (bad,) = (reading.sentences for reading in found.values())
    assert good.tone > 0.5
    assert bad.tone < -0.5


def test_nouns_of_english_are_told(cache: ContentCache) -> None:
    (sentence,) = read_texts([ENGLISH], cache)[ENGLISH].sentences
    assert "plot" in {noun for _, noun in sentence.nouns}
    assert ("old", "house") in sentence.nouns


def test_another_language_is_cut_into_sentences_and_not_judged(cache: ContentCache) -> None:
    reading = read_texts([ENGLISH, GERMAN], cache)[GERMAN]
    assert not reading.english
    assert [(each.text, each.tone, each.nouns) for each in reading.sentences] == [(GERMAN, 0.0, ())]


def test_a_short_text_is_english_where_most_are(cache: ContentCache) -> None:
    assert read_texts([ENGLISH, "Awsome goodgift"], cache)["Awsome goodgift"].english
    assert not read_texts([GERMAN, "Awsome goodgift"], cache)["Awsome goodgift"].english
    assert not read_texts([ENGLISH, "Sehr schön"], cache)["Sehr schön"].english


@pytest.mark.parametrize(
    ("text", "short"),
    [("Met expectations", True), (":)", True), ("", False), (" ", False), ("für mich", False)],
)
def test_short_texts(text: str, short: bool) -> None:
    assert is_short(text) == short


def test_a_text_without_anything_has_no_sentences(cache: ContentCache) -> None:
    assert read_texts([""], cache)[""].sentences == ()


def test_texts_are_read_once(cache: ContentCache, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [ENGLISH, GERMAN, "Awsome goodgift", ""]
    first = read_texts(texts, cache)

    def refuse(text: str) -> None:
        raise AssertionError(text)

    monkeypatch.setattr(readings, "_read", refuse)
    monkeypatch.setattr(readings, "_read_english", refuse)
    assert read_texts(texts, cache) == first


def test_words_have_a_valence() -> None:
    assert valence("Love") > 2
    assert valence("terrible") < -1
    assert valence("plot") == 0
