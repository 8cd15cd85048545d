"""What evidence holds: titles, phrases, words and numbers, ready to be compared with a text's."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence

from llmrec.explaining.titles import COVER, keys, title_forms, words
from llmrec.records import Evidence

_QUOTED = re.compile(
    r"\"([^\"]+)\"|“([^”]+)”|„([^“”]+)[“”]|«([^»]+)»|「([^」]+)」|『([^』]+)』|《([^》]+)》"
    r"|\*+([^*\n]+)\*+|(?<!\w)_([^_\n]+)_(?!\w)|(?<!\w)['‘]([^\n]+?)['’](?!\w)"
)
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_STEM = 5
"""Letters by which two forms of a word are taken for the same."""


class Held:
    """What the evidence holds, in the forms that the check compares."""

    def __init__(self, evidence: Sequence[Evidence]) -> None:
        texts = [unicodedata.normalize("NFC", fact.text) for fact in evidence]
        self.text = "\n".join(texts)
        self.numbers = {number for text in texts for number in numbers(text)}
        self._words = {key for text in texts for key in keys(text)}
        self._stems = {key[:_STEM] for key in self._words}
        self._keys = "|".join(f" {' '.join(keys(text))} " for text in texts)
        self._written = "|".join(f" {' '.join(_written(text))} " for text in texts)
        self._forms = _quoted_forms(texts)
        self._liked = _quoted_forms(fact.text for fact in evidence if fact.kind == "history")

    def title(self, name: str) -> bool:
        """Whether it names this title; "heat" does not name "Heat"."""
        return f" {' '.join(_written(name))} " in self._written or keys(name) in self._forms

    def liked(self, name: str) -> bool:
        """Whether this title is one of the history's."""
        return keys(name) in self._liked

    def phrase(self, phrase: str) -> bool:
        """Whether it holds these words one after the other."""
        phrase_keys = keys(phrase)
        if not phrase_keys:
            return phrase in self.text
        return f" {' '.join(phrase_keys)} " in self._keys or phrase_keys in self._forms

    def word(self, key: str) -> bool:
        """Whether it holds a word that begins like this one: "carved" is in "carves"."""
        return key[:_STEM] in self._stems

    def every_word(self, name: str) -> bool:
        """Whether it holds each of these words somewhere."""
        return self._words.issuperset(keys(name))


def quoted_phrases(text: str, covered: str) -> Iterator[str]:
    """The quoted and italic phrases, without those that are a title accounted for."""
    for match in _QUOTED.finditer(covered):
        start, end = match.span(match.lastindex or 0)
        if covered[start:end].strip(COVER + " .,!?"):
            yield text[start:end].strip()


def _quoted_forms(texts: Iterable[str]) -> set[tuple[str, ...]]:
    """All ways to write what stands in quotes: the titles, as far as the evidence quotes them."""
    quoted = (phrase for text in texts for phrase in quoted_phrases(text, text))
    return {keys(form) for phrase in quoted for form in title_forms(phrase)}


def numbers(text: str) -> list[str]:
    """The numbers of a text in one spelling: 1,000 is 1000, and 81.0 is 81."""
    return [_spelling(match[0].replace(",", "")) for match in _NUMBER.finditer(text)]


def _spelling(number: str) -> str:
    whole, _, part = number.partition(".")
    part = part.rstrip("0")
    return f"{whole}.{part}" if part else whole


def _written(text: str) -> list[str]:
    """The words of a text, of which only the first letter keeps its case."""
    return [word.text[0] + word.text[1:].casefold() for word in words(text)]
