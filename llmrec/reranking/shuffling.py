"""Permutation self-consistency: average over shuffled orders of the candidates."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from llmrec.errors import OptionError
from llmrec.models import LanguageModel
from llmrec.reranking.driver import together
from llmrec.reranking.strategy import Conversation, Judgement, Question, Strategy

MOST_SHUFFLES = 1000
_ROUND = 2
"""Orders per round with early stopping."""
LEAST_TO_STOP = 3 * _ROUND + 1
"""Fewest orders for early stopping: with fewer, all run before two rounds can agree."""


@dataclass(frozen=True)
class Shuffled:
    """Averages a strategy's scores over ``times`` different orders of the candidates.

    The orders depend on ``seed``, user and the set of candidates, not on their given order; so does
    the result. They are rotations of random orders: each candidate takes distant positions, which
    averages out position bias (Tang et al. 2024 draw the orders independently). All orders run in
    one batch. With early stopping, two run at a time until the best ``stable_top`` keep their order
    twice.

    Args:
        strategy: The strategy to average.
        times: Number of orders; all orders if fewer exist.
        seed: Random seed for the orders.
        stable_top: Stop when the order of this many of the best is stable; 0 runs all orders.

    Raises:
        OptionError: ``times`` is not from 1 to `MOST_SHUFFLES`, or ``stable_top`` is negative.
    """

    strategy: Strategy
    times: int
    seed: int = 0
    stable_top: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.times <= MOST_SHUFFLES or self.stable_top < 0:
            raise OptionError(
                f"Shuffles times={self.times}, stable_top={self.stable_top}: allowed are 1 to "
                f"{MOST_SHUFFLES:,}, and 0 or more."
            )

    @property
    def name(self) -> str:
        """Name of the strategy."""
        return self.strategy.name

    @property
    def key(self) -> str:
        """Key of the strategy, and the settings."""
        return f"shuffled-{self.times}-{self.seed}-{self.stable_top}/{self.strategy.key}"

    def ask(self, question: Question, model: LanguageModel) -> Conversation[Judgement]:
        """Score all orders, and average."""
        ids = np.array([item.item_id for item in question.candidates])
        by_id = np.argsort(ids)
        identity = "\0".join([str(self.seed), question.user.user_id, *ids[by_id]])
        generator = np.random.default_rng(list(hashlib.sha256(identity.encode()).digest()))
        orders = [by_id[order] for order in different_orders(len(ids), self.times, generator)]
        size = _ROUND if self.stable_top else len(orders)
        tables: list[NDArray[np.float64]] = []
        parts: defaultdict[str, list[NDArray[np.float64]]] = defaultdict(list)
        fallbacks: Counter[str] = Counter()
        tops: list[list[int]] = []
        for start in range(0, len(orders), size):
            batch = orders[start : start + size]
            judged = yield from together(
                [self.strategy.ask(_reordered(question, order), model) for order in batch]
            )
            for order, judgement in zip(batch, judged, strict=True):
                back = np.argsort(order)
                tables.append(judgement.scores[back])
                for name, values in judgement.parts.items():
                    parts[name].append(values[back])
                fallbacks.update(judgement.fallbacks)
            if self.stable_top:
                best = np.argsort(-_mean(tables), kind="stable")[: self.stable_top]
                tops.append([int(place) for place in best])
                if len(tops) > 2 and tops[-1] == tops[-2] == tops[-3]:
                    break
        means = {name: _mean(each) for name, each in parts.items()}
        return Judgement(_mean(tables), fallbacks=dict(+fallbacks), parts=means)


def different_orders(n: int, times: int, generator: np.random.Generator) -> list[NDArray[np.int64]]:
    """At most ``times`` different orders of n places, by rotations of random orders."""
    found: dict[tuple[int, ...], NDArray[np.int64]] = {}
    most = min(times, _factorial_up_to(n, times))
    while len(found) < most:
        base = generator.permutation(n)
        turns = min(n, times - len(found))
        for turn in range(turns):
            order = np.roll(base, round(turn * n / turns))
            found.setdefault(tuple(int(place) for place in order), order)
            if len(found) == most:
                break
    return list(found.values())


def _factorial_up_to(n: int, most: int) -> int:
    product = 1
    for factor in range(2, n + 1):
        product *= factor
        if product >= most:
            return most
    return product


def _reordered(question: Question, order: NDArray[np.int64]) -> Question:
    return replace(question, candidates=tuple(question.candidates[place] for place in order))


def _mean(tables: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Mean of the finite scores; NaN if there is none."""
    table = np.array(tables)
    there = ~np.isnan(table)
    mean = np.full(table.shape[1], np.nan)
    total = np.where(there, table, 0.0).sum(axis=0)
    np.divide(total, there.sum(axis=0), out=mean, where=there.any(axis=0))
    return mean
