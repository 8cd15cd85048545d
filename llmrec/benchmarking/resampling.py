"""Intervals and tests of many rows at once, over shared resamples.

What ``llmrec.evaluation.compare`` and ``estimate`` do for one row, as one matrix product for all
that have a value for the same users. A run of thirty cells has some five hundred comparisons; one
by one they take minutes, and corrected for their number none could be shown with 10,000 draws each:
a p-value is never below 2 / (1 + draws).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from llmrec.benchmarking.sensitivity import Values
from llmrec.evaluation import Comparison, Estimate, compare, smallest_difference

_BATCH_VALUES = 2_000_000
_DRAWS_EACH = 200
"""Draws for each comparison of the family: the smallest corrected p-value is then 0.01."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Resampler:
    """Draws by a seed: the same rows give the same figures, whoever else is there.

    Args:
        seed: Seed of all draws.
        resamples: Bootstrap draws, and the fewest sign flips.
    """

    seed: int
    resamples: int = 10_000

    def estimates(self, rows: Sequence[Values]) -> list[Estimate]:
        """Estimate each row's mean over the users with a value, [n_users], NaN: none, in [0, 1].

        Of one user alone the interval is all there can be, 0 to 1; of none everything is NaN.
        """
        return _by_users(rows, self._estimates)

    def comparisons(self, differences: Sequence[Values]) -> list[Comparison]:
        """Test each row of paired differences, [n_users], NaN: none, two values or more."""
        draws = max(self.resamples, _DRAWS_EACH * len(differences))
        return _by_users(differences, lambda table: self._comparisons(table, draws))

    def _estimates(self, table: NDArray[np.float64]) -> list[Estimate]:
        if len(table) == 0:
            return [Estimate(np.nan, np.nan, np.nan)] * table.shape[1]
        if len(table) == 1:
            return [Estimate(float(mean), 0.0, 1.0) for mean in table[0]]
        return [
            Estimate(float(mean), float(low), float(high))
            for mean, low, high in zip(table.mean(axis=0), *self._intervals(table), strict=True)
        ]

    def _comparisons(self, table: NDArray[np.float64], draws: int) -> list[Comparison]:
        users = len(table)
        if 2**users <= draws:  # all patterns of signs: exact
            same = np.zeros(users)
            return [compare(row, same, seed=self.seed, resamples=draws) for row in table.T]
        totals = table.sum(axis=0)
        near = 1e-12 * np.abs(table).sum(axis=0)
        above, below = np.zeros(len(totals)), np.zeros(len(totals))
        rng = np.random.default_rng((self.seed, 0))
        for n in _batches(draws, users):
            flipped = (2.0 * rng.integers(0, 2, size=(n, users), dtype=np.int8) - 1) @ table
            above += (flipped >= totals - near).sum(axis=0)
            below += (flipped <= totals + near).sum(axis=0)
        p_values = np.minimum(1.0, 2 * (1 + np.minimum(above, below)) / (1 + draws))
        return [
            Comparison(
                difference=float(row.mean()),
                low=float(low),
                high=float(high),
                p_value=float(p),
                users=users,
                detectable=smallest_difference(float(row.std(ddof=1)), users),
            )
            for row, p, low, high in zip(table.T, p_values, *self._intervals(table), strict=True)
        ]

    def _intervals(self, table: NDArray[np.float64]) -> NDArray[np.float64]:
        """95 % percentile intervals of the means of [n_users, rows], as [2, rows]."""
        users = len(table)
        rng = np.random.default_rng((self.seed, 1))
        means = [
            rng.multinomial(users, np.full(users, 1 / users), size=n) @ table / users
            for n in _batches(self.resamples, users)
        ]
        return np.asarray(np.quantile(np.concatenate(means), [0.025, 0.975], axis=0))


def _by_users(rows: Sequence[Values], work: Callable[[NDArray[np.float64]], list[T]]) -> list[T]:
    """Do the work on [n_users, rows] for all rows with the same users, results in order."""
    groups: dict[bytes, list[int]] = {}
    for place, row in enumerate(rows):
        groups.setdefault(np.isnan(row).tobytes(), []).append(place)
    done: dict[int, T] = {}
    for places in groups.values():
        known = ~np.isnan(rows[places[0]])
        table = np.stack([rows[place][known] for place in places], axis=1)
        done |= dict(zip(places, work(table), strict=True))
    return [done[place] for place in range(len(rows))]


def _batches(draws: int, users: int) -> Iterator[int]:
    """Sizes of batches that bound memory, not results."""
    size = max(1, _BATCH_VALUES // users)
    for start in range(0, draws, size):
        yield min(size, draws - start)
