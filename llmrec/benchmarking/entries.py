"""The rows of a benchmark before they are summed up: what each ranked, user by user."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from llmrec.benchmarking.answers import (
    Answers,
    CellSettings,
    by_cell,
    results_of,
    scores_of,
)
from llmrec.benchmarking.ranking import RankedLists, Scores, oracle_ranks, rank_lists
from llmrec.benchmarking.records import Result, UserList
from llmrec.benchmarking.sensitivity import Settings, Values
from llmrec.benchmarking.summary import Kind
from llmrec.evaluation import ndcg_at, recall_at, reciprocal_rank

CUTOFFS = (1, 5, 10, 20)
METRIC = "ndcg@10"
"""What rows are compared, split and raced in."""

RANDOM, POPULARITY, RETRIEVER, ORACLE = "random", "popularity", "retriever", "oracle"
BASELINES = (RANDOM, POPULARITY, RETRIEVER)


@dataclass(frozen=True, slots=True)
class Entry:
    """A row in the making.

    ``metrics`` are by name, [n_users], NaN where there is no value. ``ranked`` is None for the
    oracle, of which nothing else is known. ``planted`` is nDCG@10 a user by the target's place.
    """

    name: str
    kind: Kind
    metrics: Mapping[str, Values]
    ranked: RankedLists | None = None
    scores: tuple[Scores | None, ...] = ()
    settings: Settings = field(default_factory=dict)
    answers: Answers | None = None
    planted: Mapping[int, Values] = field(default_factory=dict)

    @property
    def values(self) -> Values:
        """nDCG@10 a user, NaN where there is no value."""
        return self.metrics[METRIC]


def cell_values(
    cells: Sequence[CellSettings],
    lists: Sequence[UserList],
    results: Sequence[Result],
    seed: int,
) -> dict[str, Values]:
    """nDCG@10 a user by the cells' keys; results of other cells and users do not count."""
    answers = by_cell(cells, lists, results_of(cells, lists, results))
    return {key: answer_values(some, lists, seed) for key, some in answers.items()}


def answer_values(answers: Answers, lists: Sequence[UserList], seed: int) -> Values:
    """nDCG@10 a user of one cell's run proper."""
    return ndcg_10(rank_lists(lists, scores_of(answers.proper), seed=seed).ranks)


def baseline_entries(lists: Sequence[UserList], seed: int) -> list[Entry]:
    """Random, popularity, and the retriever where it scored anything.

    Metrics of random are what is to be expected of an order by chance, not those of one draw; its
    lists, for what is beyond accuracy, are one.
    """
    scores: dict[str, tuple[Scores, ...]] = {
        RANDOM: tuple([0.0] * len(entry.candidates) for entry in lists),
        POPULARITY: tuple(entry.popularity for entry in lists),
        RETRIEVER: tuple(entry.retrieval for entry in lists),
    }
    if all(score is None for entry in lists for score in entry.retrieval):
        del scores[RETRIEVER]
    made = []
    for name, own in scores.items():
        ranked = rank_lists(lists, own, seed=seed)
        metrics = expected_metrics(lists) if name == RANDOM else rank_metrics(ranked.ranks)
        made.append(Entry(name, "baseline", metrics, ranked, own))
    return made


def cell_entry(
    name: str, settings: Settings, answers: Answers, lists: Sequence[UserList], seed: int
) -> Entry:
    """A cell as it ranked; where the target was planted, of users alone whose list has it."""
    scores = tuple(scores_of(answers.proper))
    ranked = rank_lists(lists, scores, seed=seed)
    reached = np.array([entry.reached for entry in lists], dtype=bool)
    planted = {}
    for place, results in answers.planted.items():
        ranks = rank_lists(lists, scores_of(results), seed=seed, place=place).ranks
        planted[place] = np.where(reached, ndcg_10(ranks), np.nan)
    metrics = rank_metrics(ranked.ranks)
    return Entry(name, "cell", metrics, ranked, scores, settings, answers, planted)


def oracle_entry(lists: Sequence[UserList]) -> Entry:
    """Who knows the target: what the candidates allow."""
    return Entry(ORACLE, "oracle", rank_metrics(oracle_ranks(lists)))


def ndcg_10(ranks: Values) -> Values:
    """The metric of ``METRIC``, NaN where there is no rank."""
    return rank_metrics(ranks)[METRIC]


def expected_metrics(lists: Sequence[UserList]) -> dict[str, Values]:
    """Every metric of an order by chance: its mean over all places where the target may stand."""
    longest = max((len(entry.candidates) for entry in lists), default=0)
    by_rank = rank_metrics(np.arange(1.0, longest + 1))
    return {
        name: np.array([values[: len(e.candidates)].mean() if e.reached else 0.0 for e in lists])
        for name, values in by_rank.items()
    }


def rank_metrics(ranks: Values) -> dict[str, Values]:
    """Every metric a user, [n_users], NaN where there is no rank.

    With one target a list, its recall is also the hit rate and its reciprocal rank the average
    precision: both names are given.
    """
    known = ~np.isnan(ranks)
    there = np.where(known, ranks, 1.0)
    metrics = {f"ndcg@{k}": ndcg_at(there, k) for k in CUTOFFS}
    metrics |= {f"{name}@{k}": recall_at(there, k) for name in ("recall", "hit") for k in CUTOFFS}
    for name in ("mrr", "map"):
        metrics |= {f"{name}@{k}": reciprocal_rank(there, k) for k in CUTOFFS}
        metrics[name] = reciprocal_rank(there)
    return {name: np.where(known, values, np.nan) for name, values in metrics.items()}
