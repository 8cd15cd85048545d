"""The check that a text claims only what its evidence supports, and is fit to be shown."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence

from llmrec.explaining.claims import claim_faults
from llmrec.explaining.evidence import ABOUT, TITLE
from llmrec.explaining.instructions import is_command
from llmrec.explaining.subject import subject_faults
from llmrec.explaining.titles import (
    COVER,
    OPENING,
    STARTERS,
    Titles,
    Word,
    cover,
    keys,
    leaves_quote_open,
    split_sentences,
    starts_sentence,
    title_forms,
    words,
)
from llmrec.records import Evidence, Fault

MAX_SENTENCES = 3
MAX_CHARACTERS = 4_000
"""A longer text is not checked further: no three sentences have as many."""

_FINISHED = re.compile(r"[.!?…؟।。！？][\"'”’»)\]」』》）*_]*$")
_LIST = re.compile(r"^[^\S\n]*+(?:\d+[.)]|[-•*])\s", re.MULTILINE)
_MARKERS = (
    *("<|", "|>", "[INST]", "<s>", "</s>", "###", "```", "User:", "Assistant:", "Evidence:"),
    *(TITLE.strip(), ABOUT.strip()),
)
_REFUSALS = ("as an ai", "language model", "i'm sorry", "i am sorry", "i cannot", "i can't", "抱歉")
_ANNOUNCEMENTS = ("here is a", "here is the", "here's a", "here's the", "the evidence", "the facts")
_THIRD_PERSON = ("the user", "this user", "该用户", "这位用户")

_ECHO_WORDS = 5  # a shorter sentence may occur in the prompt by chance
_BEGINNING = 6  # two sentences repeat each other if they begin with as many equal words
_PAST_CHOICE = frozenset({"bought", "chose", "enjoyed", "liked", "loved", "played", "watched"})
"""Directly before a title, such a word claims that the title is in the history."""
_LIKES = re.compile(r"(?<!if )\byou (?:like|love|enjoy|own|prefer)$", re.IGNORECASE)
"""So do these words, but not "you may like"."""
_QUOTED = re.compile(
    r"\"([^\"]+)\"|“([^”]+)”|„([^“”]+)[“”]|«([^»]+)»|「([^」]+)」|『([^』]+)』|《([^》]+)》"
    r"|\*+([^*\n]+)\*+|(?<!\w)_([^_\n]+)_(?!\w)|(?<!\w)['‘]([^\n]+?)['’](?!\w)"
)
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")


def check_text(
    text: str, evidence: Sequence[Evidence], titles: Titles, *, prompt: str = ""
) -> tuple[Fault, ...]:
    """List the faults of an explanation's text.

    Faults are titles, quoted phrases, names of several words and numbers that the evidence lacks;
    titles and phrases said to have been liked that are not in the history; another item offered in
    place of the one that the evidence is about; a text that is empty, unfinished, a list, longer
    than three sentences or repeats itself; markers, refusals and talk about the reader instead of
    to them.

    Args:
        text: The text to check.
        evidence: All that it may use.
        titles: The catalogue's titles, attribute values and aspects.
        prompt: The prompt of a model's text. If given, the text must not repeat it, must name or
            mean the item, and each sentence must rest on evidence (:func:`claim_faults`).

    Returns:
        The faults, each a clause about the text ("it names 'Heat', which ...") for a rewriting
        prompt. Empty for a usable text.
    """
    text = unicodedata.normalize("NFC", text).strip()
    if not text:
        return (Fault("form", "it is empty"),)
    if len(text) > MAX_CHARACTERS:
        said = f"it has {len(text):,} characters, which is more than {MAX_CHARACTERS:,}"
        return (Fault("form", said),)
    held = _EvidenceIndex(evidence)
    mentions = titles.find(text)
    covered = cover(text, mentions)
    names = [m.text for m in mentions if not held.title(m.text)]
    found = [Fault("name", f"it names {name!r}") for name in names]
    found += [
        Fault("name", f"it quotes {phrase!r}")
        for phrase in _quoted_phrases(text, covered)
        if not (held.title(phrase) if phrase in titles else held.phrase(phrase))
    ]
    names = [name for name in _names(covered) if not held.every_word(name)]
    found += [Fault("name", f"it names {name!r}") for name in names]
    numbers = [number for number in _numbers(covered) if number not in held.numbers]
    found += [Fault("number", f"it says {number}") for number in numbers]
    named = {(m.start, m.text) for m in mentions if held.title(m.text)}
    named |= {(at, phrase) for at, phrase in _quoted(text, covered) if held.phrase(phrase)}
    for at, name in sorted(named):
        before = covered[:at].rstrip(OPENING)
        chosen = before.rpartition(" ")[2].casefold() in _PAST_CHOICE or _LIKES.search(before)
        if chosen and not held.liked(name):
            found.append(Fault("user", f"it says that {name!r} was chosen before"))
    faults = [
        Fault(one.kind, f"{one.text}, which the evidence does not hold")
        for one in dict.fromkeys(found)
    ]
    faults += [Fault("form", fault) for fault in _form_faults(text, covered, held)]
    if prompt:
        faults += _answer_faults(text, held, prompt)
        likes = any(held.liked(name) for _, name in named)
        faults += claim_faults(covered, evidence, titles, likes=likes)
    subject = subject_faults(text, evidence, titles, must_name=bool(prompt) and not faults)
    faults += [Fault("subject", fault) for fault in subject]
    return tuple(faults)


def _names(covered: str) -> Iterator[str]:
    """Runs of two words or more with a capital: names, in most scripts that have capitals."""
    runs: list[list[Word]] = [[]]
    for word in words(covered):
        run = runs[-1]
        ordinary = word.text == "I" or (
            word.key in STARTERS and starts_sentence(covered, word.start)
        )
        if run and covered[run[-1].end : word.start] not in {" ", "-"}:
            runs.append([])
        if word.capital and not ordinary:
            runs[-1].append(word)
        else:
            runs.append([])
    for run in runs:
        if len(run) > 1:  # the first word of a sentence has a capital anyway
            first = run[1] if starts_sentence(covered, run[0].start) else run[0]
            yield covered[first.start : run[-1].end]


def _form_faults(text: str, covered: str, held: _EvidenceIndex) -> Iterator[str]:
    """Faults of form; ``covered`` is the text with its titles covered."""
    sentences = split_sentences(covered)
    if len(sentences) > MAX_SENTENCES:
        yield f"it has {len(sentences)} sentences, which is more than {MAX_SENTENCES}"
    if not _FINISHED.search(covered):
        yield "it stops in the middle of a sentence"
    if leaves_quote_open(covered):
        yield "it leaves a quotation open"
    if _LIST.search(text):
        yield "it is a list"
    beginnings = [keys(sentence)[:_BEGINNING] for sentence in split_sentences(text)]
    if len(set(beginnings)) < len(beginnings):
        yield "it says the same twice"
    yield from (f"it holds the marker {mark!r}" for mark in _MARKERS if mark in text)
    for talk in (*_REFUSALS, *_ANNOUNCEMENTS, *_THIRD_PERSON):
        if _said(talk, text) and not held.phrase(talk):
            yield f"it says {talk!r} instead of speaking to the reader about the item"


def _answer_faults(text: str, held: _EvidenceIndex, prompt: str) -> Iterator[Fault]:
    """Whether a model's text repeats its prompt, or an instruction that stands in the evidence."""
    for sentence in split_sentences(text):
        long = len(keys(sentence)) >= _ECHO_WORDS
        if long and _said(sentence, prompt) and not held.phrase(sentence):
            yield Fault("form", "it repeats the instruction")
            break
    if is_command(text):
        yield Fault("instruction", "it reads like an instruction to a language model")


def _said(phrase: str, text: str) -> bool:
    return f" {' '.join(keys(phrase))} " in f" {' '.join(keys(text))} "


class _EvidenceIndex:
    """The titles, phrases, words and numbers of the evidence, in comparable forms."""

    def __init__(self, evidence: Sequence[Evidence]) -> None:
        texts = [unicodedata.normalize("NFC", fact.text) for fact in evidence]
        self.text = "\n".join(texts)
        self.numbers = {number for text in texts for number in _numbers(text)}
        self._words = {key for text in texts for key in keys(text)}
        self._keys = "|".join(f" {' '.join(keys(text))} " for text in texts)
        self._written = "|".join(f" {' '.join(_written(text))} " for text in texts)
        self._forms = _quoted_forms(texts)
        self._liked = _quoted_forms(fact.text for fact in evidence if fact.kind == "history")

    def title(self, name: str) -> bool:
        """Whether the evidence names this title; "heat" does not name "Heat"."""
        return f" {' '.join(_written(name))} " in self._written or keys(name) in self._forms

    def liked(self, name: str) -> bool:
        """Whether this title is in the history."""
        return keys(name) in self._liked

    def phrase(self, phrase: str) -> bool:
        """Whether the evidence has these words in sequence."""
        phrase_keys = keys(phrase)
        if not phrase_keys:
            return phrase in self.text
        return f" {' '.join(phrase_keys)} " in self._keys or phrase_keys in self._forms

    def every_word(self, name: str) -> bool:
        """Whether the evidence has each of these words."""
        return self._words.issuperset(keys(name))


def _quoted(text: str, covered: str) -> Iterator[tuple[int, str]]:
    """The quoted and italic phrases, without covered titles, and where each begins."""
    for match in _QUOTED.finditer(covered):
        start, end = match.span(match.lastindex or 0)
        if covered[start:end].strip(COVER + " .,!?"):
            yield start, text[start:end].strip()


def _quoted_phrases(text: str, covered: str) -> Iterator[str]:
    return (phrase for _, phrase in _quoted(text, covered))


def _quoted_forms(texts: Iterable[str]) -> set[tuple[str, ...]]:
    """All forms of the quoted phrases, which include the titles."""
    quoted = (phrase for text in texts for phrase in _quoted_phrases(text, text))
    return {keys(form) for phrase in quoted for form in title_forms(phrase)}


def _numbers(text: str) -> list[str]:
    """The numbers of a text in one spelling: 1,000 is 1000, and 81.0 is 81."""
    parts = (match[0].replace(",", "").partition(".") for match in _NUMBER.finditer(text))
    return [f"{whole}.{part.rstrip('0')}".rstrip(".") for whole, _, part in parts]


def _written(text: str) -> list[str]:
    """The words of a text, caseless except for their first letters."""
    return [word.text[0] + word.text[1:].casefold() for word in words(text)]
