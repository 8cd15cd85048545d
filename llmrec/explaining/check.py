"""The check that a text says nothing which its evidence does not hold."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence

from llmrec.explaining.evidence_index import Held, numbers, quoted_phrases
from llmrec.explaining.titles import (
    OPENING,
    STARTERS,
    Mention,
    Titles,
    Word,
    cover,
    starts_sentence,
    words,
)
from llmrec.explaining.wording import answer_faults, form_faults
from llmrec.records import Evidence

_PAST_CHOICE = frozenset({"bought", "chose", "enjoyed", "liked", "loved", "played", "watched"})
"""Directly before a title, such a word says that it stands in the user's history."""


def check_text(
    text: str, evidence: Sequence[Evidence], titles: Titles, *, prompt: str = ""
) -> tuple[str, ...]:
    """Say what is wrong with an explanation's text.

    Looked for are titles, quoted phrases, names of several words and numbers that the evidence
    does not hold; titles said to have been liked that are not of the history; a text that is empty,
    unfinished, a list, longer than three sentences or says the same twice; markers, refusals and
    talk about the reader instead of to them.

    Args:
        text: The text to check.
        evidence: All that it may use.
        titles: The catalogue's titles.
        prompt: The prompt that a model's text answers. If it is given, the text must not repeat it
            and must take half of its words, titles aside, from the evidence.

    Returns:
        The faults, each a clause about the text ("it names 'Heat', which ..."), fit for a
        rewriting prompt. Empty where the text is usable.
    """
    text = unicodedata.normalize("NFC", text).strip()
    if not text:
        return ("it is empty",)
    held = Held(evidence)
    mentions = titles.find(text)
    covered = cover(text, mentions)
    found = [f"it names {mention.text!r}" for mention in mentions if not held.title(mention.text)]
    found += [
        f"it quotes {phrase!r}"
        for phrase in quoted_phrases(text, covered)
        if not (held.title(phrase) if phrase in titles else held.phrase(phrase))
    ]
    found += [f"it names {name!r}" for name in _names(covered) if not held.every_word(name)]
    found += [f"it says {number}" for number in numbers(covered) if number not in held.numbers]
    found += [
        f"it says that {mention.text!r} was chosen before"
        for mention in mentions
        if held.title(mention.text)
        and _is_past_choice(covered, mention)
        and not held.liked(mention.text)
    ]
    faults = [f"{fault}, which the evidence does not hold" for fault in dict.fromkeys(found)]
    faults += form_faults(text, covered, held)
    if prompt:
        faults += answer_faults(text, covered, held, prompt)
    return tuple(faults)


def _is_past_choice(covered: str, mention: Mention) -> bool:
    before = covered[: mention.start].rstrip(OPENING)
    return before.rpartition(" ")[2].casefold() in _PAST_CHOICE


def _names(covered: str) -> Iterator[str]:
    """Runs of two words or more with a capital: names, in most scripts that have capitals."""
    run: list[Word] = []
    for word in words(covered):
        if run and covered[run[-1].end : word.start] not in {" ", "-"}:
            yield from _name(covered, run)
            run = []
        ordinary = word.text == "I" or (
            word.key in STARTERS and starts_sentence(covered, word.start)
        )
        if word.capital and not ordinary:
            run.append(word)
        else:
            yield from _name(covered, run)
            run = []
    yield from _name(covered, run)


def _name(covered: str, run: list[Word]) -> Iterator[str]:
    # The first word of a sentence has a capital anyway, so it is no part of what must be held.
    if len(run) > 1:
        first = run[1] if starts_sentence(covered, run[0].start) else run[0]
        yield covered[first.start : run[-1].end]
