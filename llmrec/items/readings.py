"""What can be read of a review without a model: its sentences, their tone, what they speak of.

Tone and nouns are told of English alone, by word lists that ship with their libraries; of any other
language a reading holds the sentences. Readings are cached by the text.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from tqdm import tqdm

from llmrec.content_cache import ContentCache, content_key
from llmrec.items.reviews import sentences

_VERSION = "review reading 1"
_ENGLISH_FROM = 0.5
_LETTERS_FOR_LANGUAGE = 500
_READINGS_A_WRITE = 500
_SHORT = 5
"""A text of fewer words is too short to tell its language by."""
_WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*|\d+|[^\w\s]")

Noun = tuple[str, str]
"""The word before it, where that is an adjective or noun (else empty), and the noun, as written."""


@dataclass(frozen=True, slots=True)
class ReadSentence:
    """A sentence, its tone from -1 to 1 (VADER's compound) and its nouns."""

    text: str
    tone: float = 0.0
    nouns: tuple[Noun, ...] = ()


@dataclass(frozen=True, slots=True)
class Reading:
    """A review's sentences; tones and nouns are told only where it is ``english``."""

    english: bool
    sentences: tuple[ReadSentence, ...]


def read_texts(
    texts: Sequence[str], cache: ContentCache, *, progress: bool = False
) -> dict[str, Reading]:
    """Read texts, each distinct one once.

    Tones are VADER's (Hutto and Gilbert 2014, "VADER: A Parsimonious Rule-based Model for Sentiment
    Analysis of Social Media Text"). Nouns are told by TextBlob's tagger. A text is English where at
    least half of its words, in small letters, are in simplemma's English dictionary; a text without
    any letter (stars, smileys) is read like English, and so is a short one in plain Latin letters
    ("Awsome") where at least half of the longer ``texts`` are English.

    Raises:
        StorageError: The cache cannot be read or written.
    """
    readings = _read_each(texts, _VERSION, _read, cache, progress=progress)
    longer = [reading.english for text, reading in readings.items() if not is_short(text)]
    if longer and sum(longer) >= len(longer) / 2:
        short = [text for text, reading in readings.items() if not reading.english]
        short = [text for text in short if is_short(text)]
        version = f"{_VERSION}, as English"
        readings |= _read_each(short, version, _read_english, cache, progress=progress)
    return readings


def is_short(text: str) -> bool:
    """Whether a text, in plain Latin letters, has too few words to tell its language by."""
    return bool(text.strip()) and text.isascii() and len(text.split()) < _SHORT


def valence(word: str) -> float:
    """How good or bad VADER's list says an English word is, -4 to 4; 0 for one it does not hold."""
    return _lexicon().get(word.lower(), 0.0)


def _read_each(
    texts: Sequence[str],
    version: str,
    read: Callable[[str], Reading],
    cache: ContentCache,
    *,
    progress: bool,
) -> dict[str, Reading]:
    keys = {content_key(version, text): text for text in texts}
    known = {key: _unpack(blob) for key, blob in cache.get_many(list(keys)).items()}
    missing = [key for key in keys if key not in known]
    with tqdm(
        total=len(missing), desc="Reading", unit="review", disable=None if progress else True
    ) as bar:
        for start in range(0, len(missing), _READINGS_A_WRITE):
            some = missing[start : start + _READINGS_A_WRITE]
            new = {key: read(keys[key]) for key in some}
            cache.put_many({key: _pack(reading) for key, reading in new.items()})
            known.update(new)
            bar.update(len(some))
    return {text: known[key] for key, text in keys.items()}


def _read(text: str) -> Reading:
    if not _is_english(text):
        return Reading(False, tuple(ReadSentence(each) for each in sentences(text)))
    return _read_english(text)


def _read_english(text: str) -> Reading:
    read = (ReadSentence(each, _tone(each), _nouns(each)) for each in sentences(text))
    return Reading(True, tuple(read))


def _tone(sentence: str) -> float:
    return float(_analyzer().polarity_scores(sentence)["compound"])


def _is_english(text: str) -> bool:
    from simplemma import in_target_language  # noqa: PLC0415

    beginning = text[:_LETTERS_FOR_LANGUAGE].lower()
    if not any(letter.isalpha() for letter in beginning):
        return True
    return bool(in_target_language(beginning, lang="en") >= _ENGLISH_FROM)


def _nouns(sentence: str) -> tuple[Noun, ...]:
    """Find each last noun of a run of adjectives and nouns; names of people and places are left.

    The tagger takes any word with a capital for a name, so the first one is made small, and a
    sentence in capitals throughout too. A form in -ing behind an article is a noun ("the acting").
    """
    words = _WORD.findall(sentence.lower() if sentence.isupper() else sentence)
    if words:
        words[0] = words[0].lower() if words[0] != "I" else words[0]
    tags = _tagger()(" ".join(words))
    found: list[Noun] = []
    for place, (word, tag) in enumerate(tags):
        before, kind = tags[place - 1] if place else ("", "")
        after = tags[place + 1][1] if place + 1 < len(tags) else ""
        made = tag == "VBG" and kind in {"DT", "PRP$", "JJ"} and not after.startswith("NN")
        ends = tag in {"NN", "NNS"} and not after.startswith("NN")
        if (made or ends) and word.isalpha() and len(word) > 2 and after != "POS":
            joins = kind in {"NN", "JJ"} and before.isalpha()
            found.append((before if joins else "", word))
    return tuple(found)


@cache
def _analyzer() -> Any:  # noqa: ANN401 - vaderSentiment has no types
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer  # noqa: PLC0415

    return SentimentIntensityAnalyzer()


@cache
def _lexicon() -> Mapping[str, float]:
    return dict(_analyzer().lexicon)


@cache
def _tagger() -> Callable[[str], list[tuple[str, str]]]:
    with warnings.catch_warnings():
        # TextBlob leaves its word list's file to the garbage collector to close.
        warnings.simplefilter("ignore", ResourceWarning)
        from textblob.en import tag  # noqa: PLC0415

        tag("the first call reads the word list")
    return lambda words: list(tag(words, tokenize=False))


def _pack(reading: Reading) -> bytes:
    rows = [(each.text, each.tone, each.nouns) for each in reading.sentences]
    return json.dumps([reading.english, rows]).encode()


def _unpack(blob: bytes) -> Reading:
    english, rows = json.loads(blob)
    read = (
        ReadSentence(text, tone, tuple((before, noun) for before, noun in nouns))
        for text, tone, nouns in rows
    )
    return Reading(english, tuple(read))
