"""The claims of a text: which evidence each sentence rests on, and what it lacks or contradicts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from llmrec.explaining.evidence import LIKED, REVIEWERS, TITLE
from llmrec.explaining.titles import (
    STARTERS,
    Titles,
    content_keys,
    keys,
    split_sentences,
    stem,
    words,
)
from llmrec.records import Claim, Evidence, Fault

_SUPPORTED = 2 / 3  # the least share of a sentence's words, titles excluded, from the evidence
_FRAME = frozenset(
    [
        "like",
        "love",
        "enjoy",
        "would",
        "might",
        "item",
        "items",
        "also",
        "great",
        "good",
        "because",
        "since",
        "suits",
        "suit",
        "fits",
        "recommended",
        "suggested",
        "liked",
        "loved",
        "enjoyed",
        "bought",
        "chose",
        "chosen",
        "watched",
        "played",
        "read",
        "want",
        "need",
        "find",
        "have",
        "with",
        "will",
        "earlier",
        "previous",
        "before",
        "interest",
        "interested",
        "taste",
        "history",
        "similar",
        "same",
        "both",
        "share",
        "shares",
        "choice",
        "choices",
        "looking",
        "something",
        "another",
        "well",
        "made",
        "been",
        "more",
        "most",
        "very",
        "much",
        "even",
        "just",
        "than",
        "many",
        "other",
        "people",
        "reviewers",
        "review",
        "reviews",
        "says",
        "said",
        "described",
    ]
)
"""Words that frame a claim and need no evidence."""
_USER = re.compile(
    r"\b(?<!if )(?:you|you['’](?:re|ve))\s+(?!may|might|could|would|will|can|should|must|['’])"
    r"(?P<said>[^.!?;:,。！？]*)|\byour\s+(?P<own>(?:\w+\W+){0,2}\w+)",
    re.IGNORECASE,
)
_QUOTATION = re.compile(r"\"[^\"]*\"|“[^”]*”")
_LINK = re.compile(
    r"\b(?:because|since|so|and|but|as|which|that|if|is|are|may|might|will|would|for|when)\b", re.I
)
_CLAUSES = re.compile(r"[.!?;:,。！？]|\b(?:but|although|though|while|however|yet)\b", re.I)
_NOT = frozenset(
    [
        "not",
        "no",
        "never",
        "without",
        "nor",
        "none",
        "neither",
        "hardly",
        "lacks",
        "lack",
        "cannot",
        "free",
    ]
)
_NEGATION = re.compile(r"\b\w+n['’]t\b", re.IGNORECASE)
_SCOPE = 4  # words that a negation reaches
_PRAISE = frozenset(
    [
        "good",
        "great",
        "excellent",
        "perfect",
        "amazing",
        "wonderful",
        "best",
        "love",
        "loved",
        "lovely",
        "beautiful",
        "comfortable",
        "easy",
        "reliable",
        "sturdy",
        "solid",
        "fantastic",
        "superb",
        "brilliant",
        "praised",
        "impressive",
        "delightful",
        "enjoyable",
        "well",
        "nice",
        "favorite",
        "favourite",
        "durable",
        "smooth",
    ]
)
_COMPLAINT = frozenset(
    [
        "bad",
        "poor",
        "terrible",
        "awful",
        "worst",
        "hate",
        "hated",
        "boring",
        "disappointing",
        "disappointed",
        "broken",
        "broke",
        "cheap",
        "flimsy",
        "useless",
        "weak",
        "slow",
        "uncomfortable",
        "criticised",
        "criticized",
        "annoying",
        "difficult",
        "leaks",
        "leaked",
        "dull",
        "ugly",
        "noisy",
        "fragile",
        "defective",
        "waste",
        "mediocre",
        "horrible",
    ]
)


def claims_of(text: str, evidence: Sequence[Evidence]) -> tuple[Claim, ...]:
    """Divide a text into sentences, each with the units whose words it uses, most words first."""
    return tuple(Claim(one, _units(one, evidence)) for one in split_sentences(text))


def claim_faults(
    covered: str, evidence: Sequence[Evidence], titles: Titles, *, likes: bool
) -> Iterator[Fault]:
    """Faults of the sentences of a model's text, in which titles are covered.

    A text needs a reason: a liked item that it names (``likes``), or words of a fact other than
    those of titles, or all words of an attribute's value.

    Two thirds of a sentence's words, titles excluded, must be in the evidence; so must any that is
    an attribute value or an aspect anywhere in the catalogue, and each word said of the user must
    be in what is known of them. What the evidence denies may not be affirmed, nor the reverse.
    """
    stems = _stems(evidence)
    for sentence in split_sentences(covered):
        said = content_keys(sentence) - _FRAME
        if sum(stem(key) in stems for key in said) < _SUPPORTED * len(said):
            yield Fault("support", "it says little of what the evidence holds")
            break
    else:
        if not likes and not _gives_reason(covered, evidence):
            yield Fault("support", "it gives no reason of the evidence")
    every = {key for fact in evidence for key in keys(fact.text)}
    for word in dict.fromkeys(word.key for word in words(covered)):
        named = word in titles.values and word not in _FRAME and stem(word) not in stems
        if named and word not in every:
            yield Fault("value", f"it says {word!r}, which the evidence does not hold")
    known = _stems(fact for fact in evidence if fact.kind in {"history", "profile"})
    for word in dict.fromkeys(_of_user(covered)):
        if stem(word) not in known:
            yield Fault("user", f"it says {word!r} of the reader, which is not known")
    yield from (
        Fault("polarity", f"it says the opposite of the evidence on {word!r}")
        for word in _contradicted(covered, evidence)
    )


def _gives_reason(covered: str, evidence: Sequence[Evidence]) -> bool:
    told = content_keys(covered) - _FRAME
    bodies, named = [], set[str]()
    for fact in evidence:
        if fact.text.startswith(TITLE):
            named |= content_keys(fact.text.removeprefix(TITLE))
        elif fact.text.startswith(LIKED):
            title, _, shared = fact.text.partition('" (')
            named |= content_keys(title)
            bodies.append(shared)
        else:
            bodies.append(fact.text.partition(": ")[2] or fact.text)
    new = {stem(key) for key in told - named}
    held = [content_keys(body) for body in bodies]
    return any(new & {stem(key) for key in body} or (body and body <= told) for body in held)


def _units(sentence: str, evidence: Sequence[Evidence]) -> tuple[str, ...]:
    left = {stem(key) for key in content_keys(sentence) - _FRAME}
    facts = [(fact.unit, _stems([fact]) & left) for fact in evidence if fact.unit != "title"]
    found: list[str] = []
    while facts:
        unit, stems = max(facts, key=lambda one: len(one[1] & left))
        if not stems & left:
            break
        found.append(unit)
        left -= stems
    titles = [fact for fact in evidence if fact.unit == "title"]
    return tuple(found) or ("title",) * bool(_stems(titles) & left)


def _stems(evidence: Iterable[Evidence]) -> set[str]:
    return {stem(key) for fact in evidence for key in keys(fact.text)}


def _of_user(covered: str) -> Iterator[str]:
    """The words that a text says of the reader."""
    for match in _USER.finditer(_QUOTATION.sub(" ", covered)):
        said = match["said"] if match["own"] is None else match["own"]
        link = _LINK.search(said, said.find(" ") + 1)  # "you are a baker" is no link
        said = said[: link.start()] if link else said
        yield from (key for key in keys(said) if key in content_keys(said) - _FRAME)


def _contradicted(covered: str, evidence: Sequence[Evidence]) -> Iterator[str]:
    """Words that the text affirms and all evidence denies or the reverse, or praises wrongly."""
    facts = [fact.text for fact in evidence if not fact.text.startswith(TITLE)]
    held: dict[str, set[bool]] = {}
    for fact in facts:
        for word, negated in _affirmed(fact):
            held.setdefault(stem(word), set()).add(negated)
    for word, negated in _affirmed(covered):
        if word not in _FRAME and held.get(stem(word), {negated}) == {not negated}:
            yield word
    opinions: dict[str, set[int]] = {}
    for fact in facts:
        for word, sign in _judged(fact.removeprefix(REVIEWERS)):
            opinions.setdefault(stem(word), set()).add(sign)
    for word, sign in _judged(covered):
        if opinions.get(stem(word), {sign}) == {-sign}:
            yield word


def _affirmed(text: str) -> Iterator[tuple[str, bool]]:
    """Each content word, and whether it is negated."""
    for clause in _CLAUSES.split(_NEGATION.sub("not", text)):
        reach = 0
        for word in keys(clause or ""):
            if word in _NOT:
                reach = _SCOPE
            elif word not in STARTERS and len(word) > 2:
                yield word, reach > 0
            reach -= 1


def _judged(text: str) -> Iterator[tuple[str, int]]:
    """Content words of clauses of praise (1) or complaint (-1)."""
    for clause in re.split(r"[.!?;。！？]|,\s(?:but|and)\b|\bbut\b", _NEGATION.sub("not", text)):
        affirmed = list(_affirmed(clause))
        signs = [
            (-1 if negated else 1) * ((word in _PRAISE) - (word in _COMPLAINT))
            for word, negated in affirmed
        ]
        total = sum(signs)
        if total:
            for word, _ in affirmed:
                if word not in _PRAISE | _COMPLAINT | _FRAME and len(word) > 3:
                    yield word, 1 if total > 0 else -1
