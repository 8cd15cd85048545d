"""Sentences of reviews that tell best what is liked and what is not."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from llmrec.items.aspects import AspectNames, Judged
from llmrec.items.verdicts import verdicts
from llmrec.records import Aspect

_QUOTES = 2
_SHORTEST, _LONGEST = 30, 180
_CLEAR = 0.75
"""A sentence that speaks against the review it stands in must be clearer than one that does not."""
_CLEAR_TONE = 0.3
_ADDRESS = re.compile(r"https?:|www\.|\.com\b|@\w", re.IGNORECASE)
_LEANS = re.compile(
    r"(?:and|but|or|nor|so|yet|then|also|however|although|though|because|which|who|whose|he|she|"
    r"they|them|his|her|their|those|these|that|in addition|moreover|instead|otherwise|p\.?s|"
    r"just|still|even|maybe|perhaps|again|anyway|well|especially|not only|unlike|only|since|if|"
    r"when|until|once|after|before)\b",
    re.IGNORECASE,
)
"""Beginnings that lean on the sentence before, or tell a condition and not an opinion."""
_NO_VERDICT = re.compile(r"\b(?:hop(?:e|ing)|wish|guess|update)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _Quote:
    score: float
    text: str
    review: int


def choose_quotes(
    reviews: Sequence[Judged],
    scores: Sequence[float],
    names: AspectNames,
    title: frozenset[str],
    aspects: Sequence[Aspect],
    *,
    good: bool,
    well: float,
) -> tuple[str, ...]:
    """Choose the two most telling sentences of a kind, each of another review, about something.

    Taken are sentences that a reader understands by themselves. What a review says against its own
    verdict counts too, where it is said clearly and, in English, judges something by name ("the
    script is awful"): there are few bad reviews of what people like, and good ones say what is
    wrong. Preferred are sentences that the rest of their review bears out, that name an aspect of
    the item, that judge one, and whose tone is clear.

    Args:
        reviews: The sentences of an item's reviews, each with its score.
        scores: The reviews' own scores.
        names: What the data set's reviews speak of.
        title: The normal forms of the words of the item's title.
        aspects: What the item's reviews speak of most.
        good: Whether praise is chosen, or complaints.
        well: A sentence is praise from here on, a complaint from one less this down.
    """
    spoken = Counter(
        form
        for judged in reviews
        for form in {f for sentence, _ in judged for f in names.of_sentence(sentence, title)}
    )
    known = {each.name for each in aspects}
    telling = {
        form: 0.1 * (n > 1) + 0.2 * (names.names[form] in known) for form, n in spoken.items()
    }
    found: list[_Quote] = []
    for number, (judged, review) in enumerate(zip(reviews, scores, strict=True)):
        agrees = (review > 0.5) == good
        english = any(sentence.tone or sentence.nouns for sentence, _ in judged)
        for sentence, score in judged:
            sure = score if good else 1 - score
            tone = sentence.tone if good else -sentence.tone
            forms = names.of_sentence(sentence, title)
            enough = sure >= well if agrees else sure >= _CLEAR
            # Praise has its words in VADER's list; a complaint ("the plot drags") may have none.
            toned = tone >= (_CLEAR_TONE if good or not agrees else -0.1)
            if not enough or (english and not (forms and toned)) or not _quotable(sentence.text):
                continue
            judges = any((said > 0) == good for said in verdicts(sentence).values())
            # A story's crimes and deaths have the words of a complaint, and complain of nothing.
            if english and not agrees and not judges:
                continue
            weight = max((telling[form] for form in forms), default=0.0)
            weight += 0.2 * agrees + 0.2 * (tone >= _CLEAR_TONE) + 0.2 * judges
            found.append(_Quote(sure + weight, sentence.text, number))
    return _best(found)


def _best(found: Sequence[_Quote]) -> tuple[str, ...]:
    quotes: list[_Quote] = []
    for quote in sorted(found, key=lambda each: (-each.score, each.text)):
        taken = {_plain(each.text) for each in quotes}
        if _plain(quote.text) in taken or quote.review in {each.review for each in quotes}:
            continue
        quotes.append(quote)
        if len(quotes) == _QUOTES:
            break
    return tuple(quote.text for quote in quotes)


def _quotable(text: str) -> bool:
    if not _SHORTEST <= len(text) <= _LONGEST or _ADDRESS.search(text):
        return False
    begins = text[0].isalnum() or text[0] in "\"'“‘«「『"
    whole = text[-1] in ".!?…。！？\"'”’»」』" and not text.endswith(("?", "..."))
    balanced = text.count('"') % 2 == 0 and text.count("(") == text.count(")")
    leans = text[0].islower() or _LEANS.match(text) or _NO_VERDICT.search(text)
    shouting = text.isupper() or text.count("!") > 2
    return begins and whole and balanced and not leans and not shouting


def _plain(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.lower()))
