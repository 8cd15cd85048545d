"""What a ranking does beside finding the target: whom it shows, and what sways it.

Everything is of each user's first ten, as a mean over the users with a value:

``coverage``
    Share of the items in anybody's candidates that come into anybody's first ten.
``gini``
    How unevenly those items are shown: 0 all alike, towards 1 a few always.
``novelty``
    Mean self-information of an item, log2 of all users by those that met it in training, in bits
    (Zhou et al. 2010, "Solving the apparent diversity-accuracy dilemma").
``intra-list diversity``
    Mean distance of two items of a list: 1 - cosine of their vectors, else 1 - Jaccard of their
    genres (Ziegler et al. 2005; Vargas and Castells 2011).
``popularity lift``
    How much more popular the first ten are than the candidates they were taken from: 0.2 is 20 %
    more (after Abdollahpouri et al. 2020, whose profile is the candidates here).
``length bias``
    Spearman's correlation of title length and place in the whole list, from -1 to 1; above 0: long
    titles come first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from llmrec.benchmarking.ranking import RankedLists
from llmrec.benchmarking.records import UserList

FIRST = 10


@dataclass(frozen=True, slots=True)
class ItemFacts:
    """What is known of the items by id; what is missing leaves its figure out.

    ``vectors`` are float [d], of any length; ``training_users`` counts the data set's users.
    """

    titles: Mapping[str, str] = field(default_factory=dict)
    genres: Mapping[str, Collection[str]] = field(default_factory=dict)
    vectors: Mapping[str, NDArray[np.floating]] = field(default_factory=dict)
    training_users: int = 0


def beyond_accuracy(
    lists: Sequence[UserList], ranked: RankedLists, facts: ItemFacts
) -> dict[str, float]:
    """Measure a row; a figure that cannot be had is left out."""
    offered = {item for entry in lists for item in entry.candidates}
    counts = {
        item: count
        for entry in lists
        for item, count in zip(entry.candidates, entry.popularity, strict=True)
    }
    shown = [
        [entry.candidates[column] for column in order[:FIRST]]
        for entry, order in zip(lists, ranked.orders, strict=True)
        if order
    ]
    if not shown:
        return {}
    exposures = Counter(item for items in shown for item in items)
    figures: dict[str, float | None] = {
        "coverage": len(exposures) / len(offered),
        "gini": gini([exposures[item] for item in offered]),
        "novelty": _novelty(shown, counts, facts.training_users),
        "intra-list diversity": _mean([diversity(items, facts) for items in shown]),
        "popularity lift": _mean(
            [
                _lift(entry, order)
                for entry, order in zip(lists, ranked.orders, strict=True)
                if order
            ]
        ),
        "length bias": _mean(
            [
                length_bias([facts.titles.get(entry.candidates[column]) for column in order])
                for entry, order in zip(lists, ranked.orders, strict=True)
                if order
            ]
        ),
    }
    return {name: value for name, value in figures.items() if value is not None}


def gini(exposures: Sequence[float]) -> float:
    """Gini's index of non-negative numbers, 0 where all are alike or there is nothing."""
    values = np.sort(np.asarray(exposures, dtype=np.float64))
    total, n = float(values.sum()), values.size
    if total == 0:
        return 0.0
    return float(((2 * np.arange(1, n + 1) - n - 1) * values).sum() / (n * total))


def diversity(items: Sequence[str], facts: ItemFacts) -> float | None:
    """Mean distance of two items; None where fewer than two are known, by vectors first."""
    vectors = [facts.vectors[item] for item in items if item in facts.vectors]
    if len(vectors) > 1:
        table = np.asarray(vectors, dtype=np.float64)
        lengths = np.linalg.norm(table, axis=1, keepdims=True)
        unit = np.divide(table, lengths, out=np.zeros_like(table), where=lengths > 0)
        above = np.triu_indices(len(unit), k=1)
        return float(1 - (unit @ unit.T)[above].mean())
    genres = [set(facts.genres[item]) for item in items if facts.genres.get(item)]
    return _mean([1 - len(a & b) / len(a | b) for a, b in combinations(genres, 2)])


def length_bias(titles: Sequence[str | None]) -> float | None:
    """Correlate length with place, titles best first; None where it says nothing."""
    lengths = [len(title) for title in titles if title]
    if len(set(lengths)) < 2:
        return None
    return float(stats.spearmanr(lengths, -np.arange(len(lengths))).statistic)


def _novelty(
    shown: Sequence[Sequence[str]], counts: Mapping[str, float], users: int
) -> float | None:
    """Nobody met an item: one more user would have. Then no item is infinitely new."""
    if users < 1:
        return None
    return _mean(
        [
            float(np.mean([max(0.0, np.log2((users + 1) / (counts[item] + 1))) for item in items]))
            for items in shown
        ]
    )


def _lift(entry: UserList, order: Sequence[int]) -> float | None:
    counts = np.asarray(entry.popularity, dtype=np.float64)
    usual = float(counts.mean())
    return None if usual == 0 else float(counts[list(order[:FIRST])].mean()) / usual - 1


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
