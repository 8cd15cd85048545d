"""Aspects of reviews and their sentiment, in any language with spaces.

No word list and no tagger: a noun is found by the words around it. It often follows an article
("the plot"), which is one of the most common words and seldom precedes another one, and precedes a
common word or the end ("the plot is"); adjectives and verbs do not do both.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from llmrec.records import Aspect

_COMMON = 0.4
"""A word that so large a share of reviews has names what the data set is of ('film', 'card')."""
_MOST_COMMON, _ARTICLES, _CANDIDATES = 30, 2, 10
_FREQUENT = 0.08
"""Share of reviews that have a word, from which it may follow a noun ('the plot *is*')."""
_NOUN = 0.12
"""Share of a noun's places after an article, times that before a frequent word."""
_UNSURE = 5
"""A word is given so many more places like those of any word."""
_TOGETHER, _PAIRS = 0.2, 3
"""Two words are one name in so large a share of the second's places, and half of it the first's."""
_LEANS = 0.2
"""A word whose sentences are so much better or worse than others is an opinion, not an aspect."""
_MENTIONS = 2
_MOST = 8
_TOKEN = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*|\d+|[^\w\s]")

Judged = Sequence[tuple[str, float]]
"""A review's sentences, each with its score."""


@dataclass(frozen=True, eq=False)
class AspectTerms:
    """The nouns of a data set's reviews, and the pairs of words that are one name.

    ``weights`` holds by term how much it counts: the log of how rare it is in reviews, times how
    much more opinionated the sentences are that have it.
    """

    weights: Mapping[str, float]

    @classmethod
    def of(cls, reviews: Sequence[Judged]) -> AspectTerms:
        """Find the terms of reviews."""
        counts: Counter[str] = Counter()
        pairs: Counter[tuple[str, str]] = Counter()
        spread: Counter[str] = Counter()
        scored: Counter[str] = Counter()
        total: defaultdict[str, float] = defaultdict(float)
        clear: defaultdict[str, float] = defaultdict(float)
        for review in reviews:
            seen: set[str] = set()
            for sentence, score in review:
                words = _words(sentence)
                counts.update(words)
                pairs.update(pairwise(["", *words, ""]))
                terms = {*words, *map(" ".join, pairwise(words))}
                seen |= terms
                if not math.isnan(score):
                    for term in (*terms, ""):
                        scored[term] += 1
                        total[term] += score
                        clear[term] += abs(2 * score - 1)
            spread.update(seen)
        n = len(reviews)
        frequent = {word for word in counts if spread[word] >= _FREQUENT * n}
        nouns = _nouns(counts, pairs, frequent)
        # Once more without the frequent nouns: an adjective often precedes one ("a good film").
        nouns = _nouns(counts, pairs, frequent - nouns)
        usual, clarity = total[""] / max(scored[""], 1), clear[""] / max(scored[""], 1)
        names = {word for word in nouns if spread[word] <= max(_COMMON * n, _PAIRS)}
        names |= {
            f"{before} {word}"
            for (before, word), count in pairs.items()
            if word in nouns
            and before.isalpha()
            and before not in frequent
            and spread[f"{before} {word}"] >= _PAIRS
            and count >= max(_TOGETHER * counts[word], _TOGETHER / 2 * counts[before])
        }
        weights = {}
        for name in names:
            more = scored[name] + _UNSURE
            leaning = (total[name] + _UNSURE * usual) / more - usual
            if abs(leaning) < _LEANS:
                opinionated = (clear[name] + _UNSURE * clarity) / more / max(clarity, 1e-9)
                weights[name] = math.log((1 + n) / spread[name]) * opinionated**2
        return cls(weights)

    def of_sentence(self, sentence: str, title: frozenset[str]) -> frozenset[str]:
        """The terms in a sentence, the longer before the shorter, without words of the title."""
        words = _words(sentence)
        found = {term for term in map(" ".join, pairwise(words)) if term in self.weights}
        within = {word for term in found for word in term.split()}
        found |= {word for word in words if word in self.weights and word not in within}
        return frozenset(term for term in found if not set(term.split()) & title)


def title_words(title: str) -> frozenset[str]:
    """The words of a title, in lower case."""
    return frozenset(_words(title))


def find_aspects(
    reviews: Sequence[Judged], terms: AspectTerms, title: frozenset[str], *, well: float
) -> tuple[Aspect, ...]:
    """Count the positive and negative mentions of each aspect in an item's reviews.

    Counted are sentences with a score of at least ``well`` and of at most 1 - ``well``. Returned
    are at most eight aspects that two reviews or more speak of with such a score: those with the
    highest mentions times weight, in that order.
    """
    good: Counter[str] = Counter()
    bad: Counter[str] = Counter()
    speakers: Counter[str] = Counter()
    for judged in reviews:
        spoken: set[str] = set()
        for sentence, score in judged:
            if well > score > 1 - well or math.isnan(score):
                continue
            names = terms.of_sentence(sentence, title)
            (good if score >= well else bad).update(names)
            spoken |= names
        speakers.update(spoken)
    enough = [name for name, count in speakers.items() if count >= _MENTIONS]
    enough.sort(key=lambda name: (-speakers[name] * terms.weights[name], name))
    return tuple(Aspect(name, good[name], bad[name]) for name in enough[:_MOST])


def _nouns(
    counts: Mapping[str, int], pairs: Mapping[tuple[str, str], int], frequent: set[str]
) -> set[str]:
    order = sorted((word for word in counts if word.isalpha()), key=lambda w: (-counts[w], w))
    common = order[:_MOST_COMMON]
    followed = {
        word: sum(pairs.get((word, other), 0) for other in common) / counts[word]
        for word in order[:_CANDIDATES]
    }
    articles = set(sorted(followed, key=lambda word: followed[word])[:_ARTICLES])
    after: Counter[str] = Counter()
    before: Counter[str] = Counter()
    for (one, other), count in pairs.items():
        if one in articles:
            after[other] += count
        if not other.isalpha() or other in frequent:
            before[one] += count
    places = max(sum(counts.values()), 1)
    usual_after, usual_before = (sum(each.values()) / places for each in (after, before))
    found = set()
    for word in order:
        more = counts[word] + _UNSURE
        share = (after[word] + _UNSURE * usual_after) / more
        share *= (before[word] + _UNSURE * usual_before) / more
        if share >= _NOUN and len(word) > 2 and word not in articles:
            found.add(word)
    return found


def _words(text: str) -> list[str]:
    return [word.lower() for word in _TOKEN.findall(text)]
