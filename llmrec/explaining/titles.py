"""Words, sentences and the catalogue's titles in a text.

A title is matched word by word, so punctuation and the kind of quotes do not matter, the longest
first. Chinese, Japanese and Thai, which have no spaces, are matched character by character.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

from llmrec.catalog.values import named_values
from llmrec.records import Item

_UNSPACED = "\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"  # Thai, kana, Han
_WORD = re.compile(f"[{_UNSPACED}]|[^\\W_{_UNSPACED}]+")
_LEADING_ARTICLE = re.compile(
    r"^(?:The|A|An|Le|La|Les|Il|El|Los|Las|Der|Das)\s+"
)  # "Die Hard" is none
_INVERTED_ARTICLE = re.compile(r"^(.+), (The|A|An|Le|La|Les|Il|El|Los|Las|Der|Die|Das)$")
_UNCASED_LETTERS = 4
"""The fewest letters of a title without capitals (Chinese, digits) that is known without quotes."""

_PARTS = re.compile(r"[,(:;–—]| - |\s(?:with|for|in|of|and|&)\s", re.IGNORECASE)
_SHORTEST_HEAD = 3
_VALUE_WORDS = 3
_STEM = 5

_MOST_WORDS = 64
"""Words of a title; a longer one is found in no text."""

_STARTERS = (
    "a an the i it its he his him she her they their we our us you your this that these those "
    "there here if as in on at by for from with up down out off over after before when while who "
    "what why how both each all one no not and but or so because since go do be"
)
STARTERS = frozenset(_STARTERS.split())
"""Words that often begin a sentence and never, by themselves, a name."""

OPENING = " \t\"'“‘„«「『《([*_"
"""What may stand between a word and the one before it: space, and marks that open something."""

_BEFORE_SENTENCE = "\n.!?:;…•—–。！？：；"

COVER = "\ue000"
"""Stands for each letter of a title that is accounted for; it is no word, number or mark."""


# Each run of marks is looked at once, from its beginning: linear in any text.
_END = re.compile(r"(?<![.!?…؟।])[.!?…؟।]++[\"'”’»)\]*_]*+(?=\s|$)|[。！？]++[”’」』》）]*+")
_VISIBLE = re.compile(r"\S")
_ABBREVIATION = re.compile(r"\b(?:[^\W\d_]|Mr|Mrs|Ms|Dr|St|Jr|Sr|Prof|vs|Vol|e\.g|i\.e|a\.k\.a)\.$")
_QUOTES = ('"', "“”„", "«»", "「」", "『』", "《》")


class Mention(NamedTuple):
    """A place where a text names a title."""

    text: str
    start: int
    end: int


class Word(NamedTuple):
    """A word of a text: ``key`` is its caseless form."""

    text: str
    key: str
    start: int
    end: int

    @property
    def capital(self) -> bool:
        """Whether it begins with a capital letter."""
        return self.text[0].isupper()


def words(text: str) -> list[Word]:
    """The words of a text, without punctuation."""
    return [
        Word(match[0], unicodedata.normalize("NFKC", match[0]).casefold(), *match.span())
        for match in _WORD.finditer(text)
    ]


def keys(text: str) -> tuple[str, ...]:
    """The caseless words of a text."""
    return tuple(word.key for word in words(text))


def content_keys(text: str) -> set[str]:
    """The caseless words that carry content: no short ones and no :data:`STARTERS`."""
    found = set(keys(text)) - STARTERS
    return {key for key in found if len(key) > 3 or not key.isascii()}


def stem(key: str) -> str:
    """The beginning of a word; words with the same one count as one: "carved" is "carves"."""
    return key[:_STEM]


def title_forms(title: str) -> tuple[str, ...]:
    """The forms in which a text may write a title.

    >>> title_forms("Usual Suspects, The (1995)")
    ('Usual Suspects, The (1995)', 'Usual Suspects, The', 'The Usual Suspects', 'Usual Suspects')
    >>> title_forms("Seven (a.k.a. Se7en)")
    ('Seven (a.k.a. Se7en)', 'Seven', 'Se7en')
    >>> title_forms("Die Hard: With a Vengeance")[1:]
    ('Die Hard',)
    """
    title = unicodedata.normalize("NFC", title)
    main, *asides = [part.strip(" )") for part in title.split("(")]
    also = [part.removeprefix("a.k.a. ") for part in asides if part.startswith("a.k.a. ")]
    straight = _INVERTED_ARTICLE.sub(r"\2 \1", main)
    bare = _LEADING_ARTICLE.sub("", straight)
    before_colon = straight.split(":")[0]
    shortened = [form for form in (bare, before_colon) if len(keys(form)) > 1]
    return tuple(dict.fromkeys(form for form in (title, main, straight, *shortened, *also) if form))


def title_heads(title: str) -> set[str]:
    """The nouns of a title: the last word of each of its parts, without numbers and units."""
    heads = set()
    for part in _PARTS.split(title):
        named = [
            word.key
            for word in words(part)
            if len(word.text) >= _SHORTEST_HEAD and word.text.lower() != word.text.upper()
        ]
        heads.update(named[-1:])
    return heads


class Titles:
    """The titles, attribute values and aspects of a catalogue, indexed once for many texts.

    Args:
        items: The catalogue.
        aspects: Of the items' reviews.
    """

    def __init__(self, items: Mapping[str, Item], aspects: Iterable[str] = ()) -> None:
        self._items = items
        self._aspects = frozenset(key for aspect in aspects for key in content_keys(aspect))
        self._capitals: dict[tuple[str, ...], tuple[bool, ...]] = {}
        self._longest: dict[str, int] = {}
        for item in items.values():
            for form in title_forms(item.title):
                self._add(words(form))
        often = max(1, len(items) // 100)
        counts = Counter(self._uncapitalised(items.values()))
        self._ordinary = STARTERS | {word for word, count in counts.items() if count >= often}

    @cached_property
    def values(self) -> frozenset[str]:
        """The words of attribute values of up to three words, and of aspects."""
        texts = {text for item in self._items.values() for _, text in named_values(item)}
        short = {key for text in texts if len(keys(text)) <= _VALUE_WORDS for key in keys(text)}
        return self._aspects | {key for key in short - STARTERS if len(key) > 2}

    @cached_property
    def heads(self) -> frozenset[str]:
        """The nouns of the titles that name more items than one: "tent", "card"."""
        counts = Counter(head for item in self._items.values() for head in title_heads(item.title))
        return frozenset(head for head, count in counts.items() if count > 1)

    def __contains__(self, phrase: str) -> bool:
        return self._writes_title(words(phrase))

    def is_ordinary(self, word: str) -> bool:
        """Whether a title of one word is used as an ordinary word."""
        return word in self._ordinary

    def find(self, text: str, *, any_case: bool = False) -> tuple[Mention, ...]:
        """Find the titles that a text names, from left to right, without overlaps.

        Each word with a capital in the title must have one in the text. The first word of a
        sentence has a capital anyway: alone it names a title unless the catalogue's descriptions
        use it as an ordinary word (in one of a hundred items or more). A title without capitals
        counts from four letters in several words or characters; shorter ones only in quotes.
        With ``any_case``, titles of two content words or more count without their capitals too.
        """
        found = []
        text_words = words(text)
        at = 0
        while at < len(text_words):
            match = self._longest_match(text, text_words, at, any_case)
            if match:
                start, end = match[0].start, match[-1].end
                found.append(Mention(text[start:end], start, end))
            at += len(match) or 1
        return tuple(found)

    def _add(self, form: list[Word]) -> None:
        if not 0 < len(form) <= _MOST_WORDS:
            return
        form_keys = tuple(word.key for word in form)
        capitals = [word.capital for word in form]
        known = self._capitals.get(form_keys, capitals)
        self._capitals[form_keys] = tuple(map(min, capitals, known))
        self._longest[form_keys[0]] = max(self._longest.get(form_keys[0], 0), len(form))

    def _uncapitalised(self, items: Iterable[Item]) -> Iterator[str]:
        alone = {form[0] for form in self._capitals if len(form) == 1}
        for item in items:
            for match in _WORD.finditer(item.description):
                if match[0].islower() and match[0] in alone:
                    yield match[0]

    def _longest_match(
        self, text: str, text_words: list[Word], at: int, any_case: bool
    ) -> list[Word]:
        for length in range(self._longest.get(text_words[at].key, 0), 0, -1):
            part = text_words[at : at + length]
            if self._writes_title(part) and self._is_name(text, part):
                return part
            form = tuple(word.key for word in part)
            if any_case and form in self._capitals and len(content_keys(" ".join(form))) > 1:
                return part
        return []

    def _writes_title(self, part: list[Word]) -> bool:
        capitals = self._capitals.get(tuple(word.key for word in part))
        return capitals is not None and all(
            word.capital or not needed for word, needed in zip(part, capitals, strict=True)
        )

    def _is_name(self, text: str, part: list[Word]) -> bool:
        if not any(word.text.lower() != word.text.upper() for word in part):
            return len(part) > 1 and sum(len(word.text) for word in part) >= _UNCASED_LETTERS
        if not starts_sentence(text, part[0].start):
            return any(word.capital and word.text != "I" for word in part)
        return any(word.capital for word in part[1:]) or (
            part[0].capital and not all(word.key in self._ordinary for word in part)
        )


def cover(text: str, mentions: Sequence[Mention]) -> str:
    """Replace titles so that their marks, numbers and quotes do not count; offsets stay."""
    parts, at = [], 0
    for _, start, end in mentions:
        parts += [text[at:start], COVER * (end - start)]
        at = end
    return "".join([*parts, text[at:]])


def starts_sentence(text: str, offset: int) -> bool:
    """Whether the word at an offset is the first of its sentence or line."""
    while offset and text[offset - 1] in OPENING:
        offset -= 1
    return not offset or text[offset - 1] in _BEFORE_SENTENCE


def sentence_ends(text: str) -> list[int]:
    """The offset after each complete sentence.

    A full stop inside double quotes, after an abbreviation or before a small letter ends none.
    """
    # A quotation that is open at a full stop and closed later holds it.
    closed = {kind for kind in _QUOTES if not _marks(text, kind) % 2}
    ends, opened, at = [], set[str](), 0
    for match in _END.finditer(text):
        opened ^= {kind for kind in closed if _marks(text[at : match.end()], kind) % 2}
        at = match.end()
        following = _VISIBLE.search(text, at)
        if following is None or not (
            opened or following[0].islower() or _ABBREVIATION.search(text[max(0, at - 8) : at])
        ):
            ends.append(at)
    return ends


def split_sentences(text: str) -> list[str]:
    """Split a text into sentences; an unfinished one comes last.

    >>> split_sentences('Dr. No wrote "M. Then N." to us. 它很短。And the r')
    ['Dr. No wrote "M. Then N." to us.', '它很短。', 'And the r']
    """
    cuts = [0, *sentence_ends(text), len(text)]
    pieces = (text[start:end].strip() for start, end in pairwise(cuts))
    return [piece for piece in pieces if piece]


def leaves_quote_open(text: str) -> bool:
    """Whether a quotation in double quotes of any kind is not closed."""
    return any(_marks(text, kind) % 2 for kind in _QUOTES)


def _marks(text: str, kind: str) -> int:
    return sum(map(text.count, kind))
