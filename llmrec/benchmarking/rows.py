"""The rows of a benchmark before they are summed up: ranks and metrics user by user."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from llmrec.benchmarking.cells import Cell
from llmrec.benchmarking.results import CellResults, scores_of
from llmrec.benchmarking.users import UserList, planted
from llmrec.errors import OptionError
from llmrec.evaluation import (
    average_precision,
    hit_at,
    ndcg_at,
    recall_at,
    reciprocal_rank,
    target_ranks,
)

CUTOFFS = (1, 5, 10, 20)
METRIC = "ndcg@10"
"""The metric that rows are compared, split and raced by."""

RANDOM, POPULARITY, RETRIEVER, ORACLE = "random", "popularity", "retriever", "oracle"
GIVEN = "given order"
"""The order of the candidates in labelled requests."""

Kind = Literal["baseline", "cell", "oracle"]
Scores: TypeAlias = Sequence[float | None]
Values: TypeAlias = NDArray[np.float64]
"""One value per user, float64 [n_users], NaN if missing."""


@dataclass(frozen=True, slots=True)
class RankedLists:
    """Every user's candidates as a row ranked them, in the order of the users.

    ``ranks`` are those of the targets, float64 [n_users, most targets]: ``inf`` where a target is
    not among the candidates, NaN beyond a user's targets and where the row has no value. ``orders``
    has the columns best first, empty where the row has no value.
    """

    ranks: NDArray[np.float64]
    orders: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class RowScores:
    """A row before it is summed up.

    ``metrics`` are by name, [n_users]. ``ranked`` is None for the oracle, ``cell`` and ``results``
    for baselines too. ``planted`` is nDCG@10 per user by the target's position.
    """

    name: str
    kind: Kind
    metrics: Mapping[str, Values]
    ranked: RankedLists | None = None
    scores: tuple[Scores | None, ...] = ()
    cell: Cell | None = None
    results: CellResults | None = None
    planted: Mapping[int, Values] = field(default_factory=dict)

    @property
    def values(self) -> Values:
        """nDCG@10 per user."""
        return self.metrics[METRIC]


def ndcg_values(results: CellResults, users: Sequence[UserList], seed: int) -> Values:
    """nDCG@10 per user of one cell's main run."""
    return rank_metrics(rank_lists(users, results.scores, seed=seed).ranks)[METRIC]


def baseline_scores(users: Sequence[UserList], *, labelled: bool) -> dict[str, list[Scores]]:
    """The scores of each baseline that is known, by its name."""
    scores: dict[str, list[Scores]] = {RANDOM: [[0.0] * len(one.candidates) for one in users]}
    if all(one.popularity for one in users):
        scores[POPULARITY] = [one.popularity for one in users]
    if any(score is not None for one in users for score in one.retrieval):
        scores[RETRIEVER] = [one.retrieval for one in users]
    if labelled:
        scores[GIVEN] = [[-float(at) for at in range(len(one.candidates))] for one in users]
    return scores


def baseline_rows(users: Sequence[UserList], seed: int, *, labelled: bool) -> list[RowScores]:
    """Random, popularity and the retriever, where known, and the order of labelled requests.

    Metrics of random are expected values, not those of one draw; its lists are one draw.
    """
    made = []
    for name, own in baseline_scores(users, labelled=labelled).items():
        ranked = rank_lists(users, own, seed=seed)
        metrics = expected_metrics(users) if name == RANDOM else rank_metrics(ranked.ranks)
        made.append(RowScores(name, "baseline", metrics, ranked, tuple(own)))
    return made


def cell_row(cell: Cell, results: CellResults, users: Sequence[UserList], seed: int) -> RowScores:
    """A cell as it ranked; planted targets count for users whose candidates have the target.

    Positions at which every list failed are left out.
    """
    ranked = rank_lists(users, results.scores, seed=seed)
    moved = {}
    for place, own in results.planted.items():
        ranks = rank_lists(users, scores_of(own), seed=seed, place=place).ranks
        values = np.where(reached(users), rank_metrics(ranks)[METRIC], np.nan)
        if not np.isnan(values).all():
            moved[place] = values
    metrics, scores = rank_metrics(ranked.ranks), tuple(results.scores)
    return RowScores(cell.name, "cell", metrics, ranked, scores, cell, results, moved)


def oracle_row(users: Sequence[UserList]) -> RowScores:
    """Ranks the targets first: the best that the candidates allow."""
    ranks = _no_ranks(users)
    for row, one in enumerate(users):
        there = len(one.columns)
        ranks[row, : len(one.targets)] = np.inf
        ranks[row, :there] = np.arange(1, there + 1)
    return RowScores(ORACLE, "oracle", rank_metrics(ranks))


def rank_lists(
    users: Sequence[UserList],
    scores: Sequence[Scores | None],
    *,
    seed: int,
    place: int | None = None,
) -> RankedLists:
    """Rank each user's candidates by score, best first.

    Ties are broken by seeded draws (``llmrec.evaluation.target_ranks``), the same for every row, so
    that rows stay paired, and the same whichever users follow. Candidates without a score follow
    those with one, in the order asked.

    Args:
        users: The users and their candidates.
        scores: For each user a score per candidate, None or NaN where it was not scored; None for a
            user without a value.
        seed: Random seed.
        place: Position of the planted target, from 1; None: where the list has it.

    Raises:
        OptionError: There are not as many scores as candidates.
    """
    if len(users) != len(scores):
        raise OptionError(f"{len(scores)} users' scores for {len(users)} users; allowed: as many.")
    width = max([1, *(len(one.candidates) for one in users)])
    keys = np.full((len(users), width), -np.inf)
    noise = np.zeros_like(keys)
    first = np.zeros(len(users), dtype=np.int64)
    for row, (one, values) in enumerate(zip(users, scores, strict=True)):
        noise[row, : len(one.candidates)] = _noise(seed, row, len(one.candidates))
        first[row] = next(iter(one.columns), 0)
        if values is not None:
            keys[row, : len(values)] = _keys(one, values, place)
    single = target_ranks(keys, first, seed=seed)
    ordered = np.lexsort((noise, -keys), axis=-1)
    ranks, orders = _no_ranks(users), list[tuple[int, ...]]()
    for row, (one, values) in enumerate(zip(users, scores, strict=True)):
        if values is None:
            orders.append(())
            continue
        columns = one.columns
        order = [int(column) for column in ordered[row] if column < len(one.candidates)]
        if len(columns) == 1:
            order.remove(columns[0])
            order.insert(int(single[row]) - 1, columns[0])
        ranks[row, : len(one.targets)] = np.inf
        ranks[row, : len(columns)] = [1 + order.index(column) for column in columns]
        orders.append(tuple(order))
    return RankedLists(ranks, tuple(orders))


def rank_metrics(ranks: NDArray[np.float64]) -> dict[str, Values]:
    """Every metric per user, [n_users], NaN where there is no rank.

    Args:
        ranks: [n_users] or [n_users, most targets], NaN if missing.
    """
    table = ranks[:, None] if ranks.ndim == 1 else ranks
    known = np.asarray(~np.isnan(table).all(axis=1))
    there = np.where(known[:, None], table, 1.0)
    metrics = {
        f"{name}@{k}": metric(there, k)
        for name, metric in (("ndcg", ndcg_at), ("recall", recall_at), ("hit", hit_at))
        for k in CUTOFFS
    }
    for name, averaged in (("mrr", reciprocal_rank), ("map", average_precision)):
        metrics |= {f"{name}@{k}": averaged(there, k) for k in CUTOFFS}
        metrics[name] = averaged(there)
    return {name: np.where(known, values, np.nan) for name, values in metrics.items()}


def expected_metrics(users: Sequence[UserList]) -> dict[str, Values]:
    """Every metric of a random order: its expected value for each user."""
    sizes = [(len(one.candidates), len(one.columns), len(one.targets)) for one in users]
    rows = [_expected(*size) for size in sizes]
    return {name: np.array([row[name] for row in rows]) for name in _expected(1, 1, 1)}


@cache
def _expected(candidates: int, relevant: int, targets: int) -> dict[str, float]:
    """Expected metrics of a random order with so many relevant candidates, of so many targets."""
    at = np.arange(1, candidates + 1)
    share = relevant / candidates
    absent = np.concatenate([[1.0], np.cumprod(np.clip(1 - relevant / at[::-1], 0, 1))])
    first = absent[:-1] - absent[1:]
    gains = 1 / np.log2(1 + np.arange(1, max(candidates, targets) + 1))
    before = (at - 1) * (relevant - 1) / max(candidates - 1, 1)  # relevant ones ahead of one
    precision = share * (1 + before) / at / targets
    found = {}
    for name, k in (("", candidates), *((f"@{k}", k) for k in CUTOFFS)):
        if name:
            ideal = gains[: min(k, targets)].sum()
            found[f"ndcg{name}"] = float(share * gains[: min(k, candidates)].sum() / ideal)
            found[f"recall{name}"] = share * min(k, candidates) / targets
            found[f"hit{name}"] = float(1 - absent[min(k, candidates)])
        found[f"mrr{name}"] = float((first[:k] / at[:k]).sum())
        found[f"map{name}"] = float(precision[:k].sum())
    return found


def reached(users: Sequence[UserList]) -> NDArray[np.bool_]:
    """Whether a user's candidates have a target, [n_users]."""
    return np.array([one.reached for one in users], dtype=bool)


def _no_ranks(users: Sequence[UserList]) -> NDArray[np.float64]:
    return np.full((len(users), max([1, *(len(one.targets) for one in users)])), np.nan)


@lru_cache(maxsize=1 << 16)  # a race ranks the same users at every look
def _noise(seed: int, row: int, width: int) -> NDArray[np.float64]:
    return np.random.default_rng((seed, 1, row)).random(width)


def _keys(one: UserList, values: Scores, place: int | None) -> NDArray[np.float64]:
    """A number per candidate, [n], to sort by: 1 and up with a score, below 0 without one."""
    n = len(one.candidates)
    if len(values) != n:
        raise OptionError(
            f"user {one.user_id!r} has {len(values)} scores for {n} candidates; "
            "allowed is one each, None where it was not scored."
        )
    table = np.array([np.nan if value is None else value for value in values], dtype=np.float64)
    asked = list(range(n))
    if place is not None and one.reached:
        asked = [one.candidates.index(item_id) for item_id in planted(one, place)]
    keys = np.empty(n)
    keys[asked] = -1.0 - np.arange(n)
    scored = ~np.isnan(table)
    keys[scored] = 1.0 + np.unique(table[scored], return_inverse=True)[1]
    return keys
