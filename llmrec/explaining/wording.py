"""The check of a text's form, and that it answers at all: what small models get wrong."""

from __future__ import annotations

import re
from collections.abc import Iterator

from llmrec.explaining.evidence import ABOUT, TITLE
from llmrec.explaining.evidence_index import Held
from llmrec.explaining.sentences import leaves_quote_open, split_sentences
from llmrec.explaining.titles import content_keys, keys

MAX_SENTENCES = 3

_FINISHED = re.compile(r"[.!?…؟।。！？][\"'”’»)\]」』》）*_]*$")
_LIST = re.compile(r"^\s*(?:\d+[.)]|[-•*])\s", re.MULTILINE)
_MARKERS = (
    *("<|", "|>", "[INST]", "<s>", "</s>", "###", "```", "User:", "Assistant:", "Evidence:"),
    *(TITLE.strip(), ABOUT.strip()),
)
_REFUSALS = ("as an ai", "language model", "i'm sorry", "i am sorry", "i cannot", "i can't", "抱歉")
_ANNOUNCEMENTS = ("here is a", "here is the", "here's a", "here's the", "the evidence", "the facts")
_THIRD_PERSON = ("the user", "this user", "该用户", "这位用户")

_ECHO_WORDS = 5
"""A sentence of fewer words may stand in the prompt by chance."""
_BEGINNING = 6
"""Two sentences with so many words in common at their beginning say the same."""
_SUPPORTED = 1 / 2
"""The share of a text's words beside titles that the evidence must have, at least."""
_FRAME = frozenset({"like", "love", "enjoy", "would", "might", "item", "also", "great", "good"})
"""Words that hold a sentence together and claim nothing."""


def form_faults(text: str, covered: str, held: Held) -> Iterator[str]:
    """Find what makes a text unfit to be shown, whatever it says.

    Args:
        text: The text.
        covered: The same with its titles covered.
        held: The evidence: what it says may be repeated.
    """
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


def answer_faults(text: str, covered: str, held: Held, prompt: str) -> Iterator[str]:
    """Find that a text does not answer its prompt but repeats it, or talks of something else.

    Args:
        text: The text.
        covered: The same with its titles covered: a title alone supports no claim.
        held: The evidence.
        prompt: The prompt.
    """
    for sentence in split_sentences(text):
        long = len(keys(sentence)) >= _ECHO_WORDS
        if long and _said(sentence, prompt) and not held.phrase(sentence):
            yield "it repeats the instruction"
            break
    said_words = content_keys(covered) - _FRAME
    if sum(map(held.word, said_words)) < _SUPPORTED * max(1, len(said_words)):
        yield "it says little of what the evidence holds"


def _said(phrase: str, text: str) -> bool:
    return f" {' '.join(keys(phrase))} " in f" {' '.join(keys(text))} "
