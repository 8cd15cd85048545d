"""Statements: what the item's own attributes, description, facts and reviews say, quoted."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from llmrec.catalog.values import named_values
from llmrec.explaining.evidence import ABOUT, ASKED, CHOSEN, FITS, REVIEW, TITLE
from llmrec.explaining.plain import clause, sentence
from llmrec.explaining.titles import content_keys, stem
from llmrec.items.opinions import quotable
from llmrec.prompting import Context
from llmrec.records import Claim, Evidence, Item, Span, User

MOST = 3
"""Statements of a text."""


def ranked(
    evidence: Sequence[Evidence], wanted: frozenset[str], noise: float = 0.0
) -> list[Evidence]:
    """The facts that a text may rest on, the best first.

    Where weights were measured, only facts whose weight is above the noise are left, by weight.
    Else facts that fit the user come first, of the user, of reviews and of the item in turn.

    Args:
        evidence: All facts.
        wanted: The beginnings of the words that the user is known for (:func:`words_of`).
        noise: How far the score moves with the wording alone.
    """
    facts = [fact for fact in evidence if not fact.text.startswith(TITLE)]
    if any(fact.weight is not None for fact in facts):
        weighed = [fact for fact in facts if (fact.weight or 0.0) > noise]
        return sorted(weighed, key=lambda fact: -(fact.weight or 0.0))
    facts = [
        fact
        for fact in facts
        if not fact.text.startswith(REVIEW) or quotable(fact.text.removeprefix(REVIEW).strip('"'))
    ]
    if any(_links(fact) > 1 for fact in facts):  # then a title alone is no reason
        facts = [fact for fact in facts if fact.kind != "history" or _links(fact) > 1]
    groups: dict[str, list[Evidence]] = {"user": [], "review": [], "item": []}
    # Of facts that fit alike, one that says what the user has to do with the item, or a sentence.
    facts.sort(
        key=lambda fact: (
            -_links(fact),
            _is_number(fact),
            -_fit(fact, wanted),
            not fact.text.startswith(ABOUT),
        )
    )
    for fact in facts:
        groups[{"history": "user", "profile": "user"}.get(fact.kind, fact.kind)].append(fact)
    said: set[str] = set()
    chosen: list[Evidence] = []
    while any(groups.values()):
        for group in groups.values():
            new = next((fact for fact in group if content_keys(fact.text) - said), None)
            if new is not None:
                chosen.append(new)
                group.remove(new)
                said |= content_keys(new.text)
            else:
                group.clear()
    return chosen


def words_of(user: User, context: Context, liked: Iterable[str]) -> frozenset[str]:
    """The beginnings of the words of a user's request, profile and liked items."""
    texts = [user.query, *(str(value) for value in user.profile.values())]
    for item_id in liked:
        item = context.items[item_id]
        texts += [item.title, *(text for _, text in named_values(item))]
    return frozenset(stem(key) for text in texts for key in content_keys(text))


def statements(name: str, facts: Iterable[Evidence], most: int = MOST) -> Iterator[Claim]:
    """One claim for each fact; the first one names the item.

    Args:
        name: The item's name in quotation marks.
        facts: From the best on.
        most: Maximum number of claims.
    """
    for place, fact in enumerate(islice(facts, most)):
        text = sentence(clause(fact))
        yield Claim(text if place else f"{name}: {text}", (fact.unit,))


def spans_of(item: Item, text: str, evidence: Sequence[Evidence]) -> tuple[Span, ...]:
    """Where an item's text holds the facts, with their weights as shares of the largest."""
    largest = max((fact.weight or 0.0 for fact in evidence), default=0.0)
    found = []
    for fact in evidence:
        weight = 1.0 if fact.weight is None else fact.weight / largest if largest > 0 else 0.0
        for start, end in _places(item, text, fact) if weight > 0 else ():
            found.append(Span(start, end, weight, fact.unit))
    return tuple(sorted(found, key=lambda span: (span.start, span.end)))


def _places(item: Item, text: str, fact: Evidence) -> Iterator[tuple[int, int]]:
    """The description's sentence or the attribute's line that a fact repeats."""
    if fact.item_id != item.item_id:
        return
    if fact.text.startswith(ABOUT):
        words = fact.text.removeprefix(ABOUT).removesuffix("…").split()
        start = len(text) - len(item.description)
        first = text.find(words[0], start) if words else -1
        while first >= 0:
            end = _match(text, first, words)
            if end:
                yield first, end
                return
            first = text.find(words[0], first + 1)
    elif fact.unit == "title" and item.title and text.startswith(item.title):
        yield 0, len(item.title)
    elif fact.unit.startswith("attribute:"):
        name = fact.unit.removeprefix("attribute:")
        start = text.find(f"\n{name}: ") + 1 or (0 if text.startswith(f"{name}: ") else -1)
        if start >= 0:
            end = text.find("\n", start)
            yield start, len(text) if end < 0 else end


def _match(text: str, start: int, words: Sequence[str]) -> int:
    """The end of these words at a place, with any white space between them; 0 if they differ."""
    at = start
    for word in words:
        while at < len(text) and text[at].isspace():
            at += 1
        if not text.startswith(word, at):
            return 0
        at += len(word)
    return at


def _links(fact: Evidence) -> int:
    """How far a fact says what the user has to do with the item: 2 where it names what."""
    if fact.kind not in {"history", "profile"}:
        return 0
    named = fact.text.endswith(")") or fact.item_id is None
    linked = fact.kind == "history" or fact.text.startswith((CHOSEN, FITS, ASKED))
    return linked + (linked and named)


def _is_number(fact: Evidence) -> bool:
    """Whether a fact is an attribute without a word, such as a weight: true, and no reason."""
    value = fact.text.partition(": ")[2]
    return fact.unit.startswith("attribute:") and not any(map(str.isalpha, value))


def _fit(fact: Evidence, wanted: frozenset[str]) -> float:
    """Words that a fact shares with the user's, for the root of its length."""
    stems = {stem(key) for key in content_keys(fact.text)}
    return len(stems & wanted) / math.sqrt(1 + len(stems))
