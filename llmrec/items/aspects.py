"""What reviewers speak of, and whether they speak well or ill of it."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from llmrec.items.readings import Noun, Reading, ReadSentence, valence
from llmrec.items.verdicts import verdicts
from llmrec.records import Aspect

_COMMON = 0.4
"""A word that so large a share of reviews has names what the data set is of ('film', 'card')."""
_TOGETHER = 0.2
"""Share of a noun's sentences in which the same word stands before it, that makes them one name."""
_PAIRS = 3
_UNSURE = 10
"""As many sentences as count like those of any noun, in how often a noun is judged."""
_MENTIONS = 2
_OPINION = 1.5
"""A word of at least so strong a valence (of 4) says what is thought, not what of ('love')."""
_SUBJECT = re.compile(r"\W*\w+ (?:is|are|was|were|isn't|wasn't|has|had)\b", re.IGNORECASE)
_MOST = 8
# Nouns that name no side of anything, in reviews of whatever: the people of a story, or those whom
# it was bought for, are none either.
_LIGHT = frozenset(
    [
        "all",
        "amount",
        "anybody",
        "anyone",
        "anything",
        "bit",
        "boy",
        "boyfriend",
        "brother",
        "case",
        "child",
        "couple",
        "course",
        "dad",
        "daughter",
        "day",
        "dozen",
        "end",
        "everybody",
        "everyone",
        "everything",
        "example",
        "fact",
        "father",
        "few",
        "friend",
        "girl",
        "girlfriend",
        "granddaughter",
        "grandson",
        "guy",
        "half",
        "hour",
        "hundred",
        "husband",
        "instance",
        "job",
        "kid",
        "kind",
        "lady",
        "least",
        "length",
        "lot",
        "man",
        "matter",
        "min",
        "minute",
        "mom",
        "moment",
        "month",
        "mother",
        "mr",
        "mrs",
        "nephew",
        "niece",
        "night",
        "nobody",
        "none",
        "nothing",
        "number",
        "one",
        "other",
        "others",
        "pair",
        "part",
        "people",
        "person",
        "piece",
        "place",
        "plenty",
        "point",
        "reason",
        "rest",
        "review",
        "reviewer",
        "same",
        "self",
        "sense",
        "side",
        "sister",
        "somebody",
        "someone",
        "something",
        "son",
        "sort",
        "star",
        "stuff",
        "thing",
        "time",
        "today",
        "tomorrow",
        "ton",
        "tonight",
        "top",
        "total",
        "try",
        "type",
        "use",
        "version",
        "way",
        "week",
        "while",
        "whole",
        "wife",
        "woman",
        "word",
        "world",
        "year",
        "yesterday",
    ]
)

Judged = Sequence[tuple[ReadSentence, float]]
"""A review's sentences, each with its score."""


@dataclass(frozen=True, eq=False)
class AspectNames:
    """How the reviews of a data set call what they speak of.

    Args:
        names: Normal form of a noun, or of a noun and the word before it, to its usual spelling.
        common: Nouns that too many reviews have to tell one item from another.
        reviews: How many reviews have each.
        n: Reviews in all.
        judged: How often each is judged where it is named ("awful script"), 1 being as often as
            nouns are. What is told of and not judged ("a virus kills millions") is near 0.
    """

    names: Mapping[str, str]
    common: frozenset[str]
    reviews: Mapping[str, int]
    n: int
    judged: Mapping[str, float]

    @classmethod
    def of(cls, readings: Sequence[Reading]) -> AspectNames:
        """Collect names from reviews: by how often each is used, in how many of them.

        Singular and plural are one (simplemma's dictionary). A noun and the word before it are a
        name of their own where they stand together in a fifth of the noun's sentences.
        """
        spellings: defaultdict[str, Counter[str]] = defaultdict(Counter)
        sentences: Counter[str] = Counter()
        reviews: Counter[str] = Counter()
        verdict: Counter[str] = Counter()
        for reading in readings:
            nouns = {noun for sentence in reading.sentences for noun in _named(sentence)}
            reviews.update({form for noun in nouns for form in _forms(noun)})
            for sentence in reading.sentences:
                said = verdicts(sentence)
                for noun in _named(sentence):
                    for form, spelling in _forms(noun).items():
                        sentences[form] += 1
                        verdict[form] += noun[1].lower() in said
                        spellings[form][spelling] += 1
        enough = {
            form: " " not in form
            or (reviews[form] >= _PAIRS and sentences[form] >= _TOGETHER * sentences[_last(form)])
            for form in spellings
        }
        usual = max(verdict.total(), 1) / max(sentences.total(), 1)
        most = max(_COMMON * len(readings), _PAIRS)
        return cls(
            {
                form: min(counts, key=lambda spelling: (-counts[spelling], spelling))
                for form, counts in spellings.items()
                if enough[form]
            },
            frozenset(form for form, count in reviews.items() if count > most),
            reviews,
            len(readings),
            {
                form: (verdict[form] / usual + _UNSURE) / (sentences[form] + _UNSURE)
                for form in spellings
            },
        )

    def of_sentence(self, sentence: ReadSentence, title: frozenset[str]) -> frozenset[str]:
        """The normal forms of what a sentence speaks of; ``title`` words of the item are none."""
        found = set()
        for noun in _named(sentence):
            forms = [form for form in _forms(noun) if form in self.names]
            form = max(forms, key=len, default="")
            last = _last(form)
            if form and last not in _LIGHT and not (set(form.split()) & title):
                found.add(form if " " in form or last not in self.common else "")
        return frozenset(found - {""})


def title_words(title: str) -> frozenset[str]:
    """The normal forms of a title's words."""
    return frozenset(_normal(word) for word in re.findall(r"\w+", title.lower()))


def find_aspects(
    reviews: Sequence[Judged], names: AspectNames, title: frozenset[str], *, well: float
) -> tuple[Aspect, ...]:
    """Count what an item's reviews speak well and ill of.

    Counted are sentences with a score of at least ``well`` and of at most 1 - ``well``; at most
    eight aspects that two reviews or more speak of with such a score are told. Those are chosen
    that stand out (mentions times the log of how rare the name is in all reviews, times how much
    reviewers judge what it names) and are told most judged first. Where the reviews have no nouns
    that could be told (see :mod:`~llmrec.items.readings`) there are none.
    """
    good: Counter[str] = Counter()
    bad: Counter[str] = Counter()
    speakers: Counter[str] = Counter()
    for judged in reviews:
        spoken: set[str] = set()
        for sentence, score in judged:
            if well > score > 1 - well or math.isnan(score):
                continue
            forms = names.of_sentence(sentence, title)
            (good if score >= well else bad).update(forms)
            spoken |= forms
        speakers.update(spoken)
    told = [form for form, count in speakers.items() if count >= _MENTIONS]
    weight = {
        form: speakers[form] * math.log((1 + names.n) / names.reviews[form]) * names.judged[form]
        for form in told
    }
    chosen = sorted(told, key=lambda form: (-weight[form], form))[:_MOST]
    chosen.sort(key=lambda form: (-(good[form] + bad[form]) * names.judged[form], form))
    return tuple(Aspect(names.names[form], good[form], bad[form]) for form in chosen)


def _named(sentence: ReadSentence) -> list[Noun]:
    """The nouns that can name a side of something.

    The tagger takes a verb at a beginning for a noun ("Works great"): there a noun is believed that
    a form of to be or to have follows.
    """
    first = next(iter(re.findall(r"[^\W\d_]+", sentence.text)), "").lower()
    believed = bool(_SUBJECT.match(sentence.text))
    return [
        (before, noun)
        for before, noun in sentence.nouns
        if abs(valence(noun)) < _OPINION and (before or believed or noun.lower() != first)
    ]


def _forms(noun: Noun) -> dict[str, str]:
    """Normal form to spelling, of the noun and of it with the word before it."""
    before, word = (part.lower() for part in noun)
    forms = {_normal(word): word}
    if before and before not in _LIGHT and not valence(before):
        forms[f"{_normal(before)} {_normal(word)}"] = f"{before} {word}"
    return forms


def _last(form: str) -> str:
    return form.rpartition(" ")[2]


@cache
def _normal(word: str) -> str:
    from simplemma import lemmatize  # noqa: PLC0415

    # Only an ending of the plural is taken: "acting" is not "act".
    return lemmatize(word, lang="en").lower() if word.endswith(("s", "en", "men")) else word
