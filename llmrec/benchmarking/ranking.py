"""From scores to ranked lists and the ranks of targets, the same way for every row."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from llmrec.benchmarking.records import UserList
from llmrec.errors import OptionError
from llmrec.evaluation import target_ranks

Scores: TypeAlias = Sequence[float | None]


@dataclass(frozen=True, slots=True)
class RankedLists:
    """Every user's list as a row ranked it, in the order of the users.

    ``ranks`` is float64 [n_users]: of the target, ``inf`` where it is not in the list, NaN where
    the row has no value for the user. ``orders`` holds the columns best first, empty where there is
    no value; the target stands at its rank.
    """

    ranks: NDArray[np.float64]
    orders: tuple[tuple[int, ...], ...]

    @property
    def present(self) -> NDArray[np.bool_]:
        """Bool [n_users]: whom the row has a value for."""
        return ~np.isnan(self.ranks)


def rank_lists(
    lists: Sequence[UserList],
    scores: Sequence[Scores | None],
    *,
    seed: int,
    place: int | None = None,
) -> RankedLists:
    """Rank each user's candidates by score, best first.

    Ties are broken by a seeded draw (``llmrec.evaluation.target_ranks``), which is the same for
    every row: rows stay paired, whoever is missing in one. What was not judged stands behind all
    that was, in the order in which it was asked.

    Args:
        lists: The users' lists.
        scores: For each user a score a candidate, None or NaN where it was not judged; None for a
            user without a value.
        seed: Seed of the draws.
        place: Where in the list the target was asked, from 1; None: where the list has it.

    Raises:
        OptionError: There are not as many scores as candidates.
    """
    if len(lists) != len(scores):
        raise OptionError(f"{len(scores)} users' scores for {len(lists)} lists; allowed: as many.")
    width = max([1, *(len(entry.candidates) for entry in lists)])
    keys = np.full((len(lists), width), -np.inf)
    targets = np.zeros(len(lists), dtype=np.int64)
    for row, (entry, values) in enumerate(zip(lists, scores, strict=True)):
        if entry.reached:
            targets[row] = entry.candidates.index(entry.target)
        if values is not None:
            keys[row, : len(values)] = _keys(entry, values, place)
    ranks = target_ranks(keys, targets, seed=seed)
    noise = np.random.default_rng((seed, 1)).random((len(lists), width))
    ordered = np.lexsort((noise, -keys), axis=-1)
    orders: list[tuple[int, ...]] = []
    for row, (entry, values) in enumerate(zip(lists, scores, strict=True)):
        n = len(entry.candidates)
        order = [int(column) for column in ordered[row] if column < n]
        if values is None:
            ranks[row], order = np.nan, []
        elif entry.reached:
            order.remove(int(targets[row]))
            order.insert(int(ranks[row]) - 1, int(targets[row]))
        else:
            ranks[row] = np.inf
        orders.append(tuple(order))
    return RankedLists(ranks, tuple(orders))


def planted(entry: UserList, place: int) -> tuple[str, ...]:
    """The candidates with the target at a place, counted from 1, and the others in another order.

    Each place has an order of its own, drawn by user and place: how far a user's values lie apart
    then tells what any order does, and the means of many users what the target's place does.
    """
    rest = [item_id for item_id in entry.candidates if item_id != entry.target]
    seed = hashlib.sha256(f"{place}/{entry.user_id}".encode()).digest()
    order = np.random.default_rng(list(seed)).permutation(len(rest))
    moved = [rest[at] for at in order]
    moved.insert(place - 1, entry.target)
    return tuple(moved)


def oracle_ranks(lists: Sequence[UserList]) -> NDArray[np.float64]:
    """The ranks of who knows the target, float64 [n_users]: 1, or inf where it was not reached."""
    return np.array([1.0 if entry.reached else np.inf for entry in lists])


def _keys(entry: UserList, values: Scores, place: int | None) -> NDArray[np.float64]:
    """A number a candidate, [n], that sorts as told: 1 and up what was judged, below 0 the rest."""
    n = len(entry.candidates)
    if len(values) != n:
        raise OptionError(
            f"user {entry.user_id!r} has {len(values)} scores for {n} candidates; "
            "allowed is one each, None where it was not judged."
        )
    table = np.array([np.nan if value is None else value for value in values], dtype=np.float64)
    asked = list(range(n))
    if place is not None and entry.reached:
        asked = [entry.candidates.index(item_id) for item_id in planted(entry, place)]
    keys = np.empty(n)
    keys[asked] = -1.0 - np.arange(n)
    judged = ~np.isnan(table)
    keys[judged] = 1.0 + np.unique(table[judged], return_inverse=True)[1]
    return keys
