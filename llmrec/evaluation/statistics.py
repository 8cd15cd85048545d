"""Confidence intervals and paired significance tests over users.

The draws are those of ``scipy.stats.bootstrap`` and ``permutation_test``; all rows with values for
the same users share them, as one matrix product. A benchmark of thirty rows has some five hundred
comparisons, which one by one would take minutes. Holm's correction, which scipy lacks, is here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from llmrec.errors import OptionError

T = TypeVar("T")
FEWEST_USERS = 10
"""With fewer users there are no intervals: those of the bootstrap are then much too narrow."""
_BATCH_VALUES = 2_000_000  # resampled values held at once: bounds memory, not results


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over users with its 95 % bootstrap interval, in the metric's own unit.

    ``low`` and ``high`` are NaN with fewer than `FEWEST_USERS` users.
    """

    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """Row a minus row b over the same users, in the metric's own unit.

    ``low`` and ``high`` are the 95 % paired bootstrap percentile interval, NaN with fewer than
    `FEWEST_USERS` users; ``p_value`` is that of the two-sided sign-flip randomization test, not
    corrected for other comparisons; ``detectable`` is the smallest true difference that so many
    users show (``smallest_difference``).
    """

    difference: float
    low: float
    high: float
    p_value: float
    users: int
    detectable: float

    def __str__(self) -> str:
        """The difference and its interval: ``+0.0041 [+0.0010, +0.0074]``."""
        return f"{self.difference:+.4f} [{self.low:+.4f}, {self.high:+.4f}]"

    def too_few_users(self, comparisons: int = 1, alpha: float = 0.05) -> bool:
        """Whether no difference could be significant among so many corrected comparisons."""
        return self.users < FEWEST_USERS or comparisons * 2.0 ** (1 - self.users) > alpha


def estimate(values: ArrayLike, *, seed: int, resamples: int = 10_000) -> Estimate:
    """Estimate the mean of one value per user, [n_users], with its 95 % bootstrap interval.

    Raises:
        OptionError: Fewer than two users, a value that is not finite, or no resamples.
    """
    return estimates([_per_user(values, resamples)], seed=seed, resamples=resamples)[0]


def compare(a: ArrayLike, b: ArrayLike, *, seed: int, resamples: int = 10_000) -> Comparison:
    """Compare two rows user by user.

    Args:
        a: [n_users], one metric's value for each user.
        b: [n_users], the same users in the same order.
        seed: Seed of the bootstrap and of the sign flips.
        resamples: Draws of each; the smallest p-value is 2 / (1 + resamples). With so few users
            that there are no more sign patterns than that, all are tried and the p-value is exact.

    Raises:
        OptionError: The lengths differ, fewer than two users, a value that is not finite, or no
            resamples.
    """
    first, second = _per_user(a, resamples), _per_user(b, resamples)
    if first.size != second.size:
        raise OptionError(
            f"{first.size} values against {second.size}; "
            "allowed are the same users in the same order."
        )
    return comparisons([first - second], seed=seed, resamples=resamples)[0]


def estimates(
    rows: Sequence[NDArray[np.float64]], *, seed: int, resamples: int = 10_000
) -> list[Estimate]:
    """Estimate each row's mean over the users with a value, [n_users], NaN: none.

    Without users everything is NaN.
    """

    def work(table: NDArray[np.float64]) -> list[Estimate]:
        if len(table) == 0:
            return [Estimate(np.nan, np.nan, np.nan)] * table.shape[1]
        ends = _intervals(table, seed, resamples)
        return [
            Estimate(float(row.mean()), low, high)
            for row, (low, high) in zip(np.ascontiguousarray(table.T), ends, strict=True)
        ]

    return _by_users(rows, work)


def comparisons(
    differences: Sequence[NDArray[np.float64]],
    *,
    seed: int,
    resamples: int = 10_000,
    flips: int | None = None,
) -> list[Comparison]:
    """Test each row of paired differences, [n_users], NaN: none, two values or more.

    Args:
        differences: The rows.
        seed: Seed of the bootstrap and of the sign flips.
        resamples: Draws of each interval.
        flips: Draws of each test; None: as many as of an interval.
    """

    def work(table: NDArray[np.float64]) -> list[Comparison]:
        ends = _intervals(table, seed, resamples)
        p_values = _p_values(table, seed, flips or resamples)
        return [
            Comparison(
                difference=float(row.mean()),
                low=low,
                high=high,
                p_value=float(p),
                users=row.size,
                detectable=smallest_difference(float(row.std(ddof=1)), row.size),
            )
            for row, p, (low, high) in zip(
                np.ascontiguousarray(table.T), p_values, ends, strict=True
            )
        ]

    return _by_users(differences, work)


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """Correct p-values for their number by Holm's step-down method (family-wise error).

    Args:
        p_values: [n], each in [0, 1]; the whole family of comparisons that is looked at together.

    Returns:
        float64 [n] in the order given, each in [0, 1] and never below what was given.

    Raises:
        OptionError: A value outside [0, 1].
    """
    values = np.asarray(p_values, dtype=np.float64)
    if values.ndim != 1 or not np.all((values >= 0) & (values <= 1)):
        raise OptionError(f"p-values are {values.tolist()}; allowed is one list within 0 and 1.")
    order = np.argsort(values, kind="stable")
    steps = values[order] * np.arange(values.size, 0, -1)
    corrected = np.empty_like(values)
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(steps))
    return corrected


def smallest_difference(
    deviation: float, users: int, *, power: float = 0.8, alpha: float = 0.05
) -> float:
    """The smallest true mean difference that this many users can detect.

    Normal approximation of a two-sided paired test: (z(1 - alpha / 2) + z(power)) * sd / sqrt(n).

    Args:
        deviation: Standard deviation of the per-user differences.
        users: How many users are compared.
        power: The chance of showing it, in (0, 1).
        alpha: The level of the test, in (0, 1); divide it by the number of comparisons where they
            are corrected.

    Returns:
        The difference, in the metric's own unit.

    Raises:
        OptionError: A value outside what is allowed.
    """
    if not (deviation >= 0 and users >= 1 and 0 < power < 1 and 0 < alpha < 1):
        raise OptionError(
            f"deviation {deviation}, users {users}, power {power}, alpha {alpha}; allowed are a "
            "deviation of 0 or more, 1 user or more, and power and alpha between 0 and 1."
        )
    normal = NormalDist()
    return (normal.inv_cdf(1 - alpha / 2) + normal.inv_cdf(power)) * deviation / math.sqrt(users)


def _per_user(values: ArrayLike, resamples: int) -> NDArray[np.float64]:
    """Return the values as float64 [n_users], refusing what cannot be resampled."""
    checked = np.asarray(values, dtype=np.float64)
    if checked.ndim != 1 or checked.size < 2 or not np.isfinite(checked).all():
        raise OptionError(
            f"values have the shape {checked.shape} and {int((~np.isfinite(checked)).sum())} that "
            "are not finite; allowed is one finite value a user, for two users or more."
        )
    if resamples < 1:
        raise OptionError(f"resamples is {resamples}; allowed is 1 or more.")
    return checked


def _intervals(table: NDArray[np.float64], seed: int, resamples: int) -> list[tuple[float, float]]:
    """95 % percentile interval of the mean of each row of [n_users, rows]; NaN for few users."""
    (users, rows), rng = table.shape, np.random.default_rng(seed)
    if users < FEWEST_USERS:
        return [(math.nan, math.nan)] * rows
    means = np.empty((resamples, rows))
    for batch in _batches(resamples, table):
        n = len(batch)
        drawn = rng.integers(0, users, (n, users)) + users * np.arange(n)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=n * users).reshape(n, users)
        means[batch.start : batch.stop] = counts @ table / users
    ends = np.quantile(means, [0.025, 0.975], axis=0, overwrite_input=True)
    return [(float(low), float(high)) for low, high in ends.T]


def _p_values(table: NDArray[np.float64], seed: int, flips: int) -> NDArray[np.float64]:
    """Two-sided p-values of the sums of [n_users, rows] under flips of the users' signs."""
    users, totals = len(table), table.sum(axis=0)
    near = 1e-12 * np.abs(table).sum(axis=0)
    above, below = np.zeros(len(totals)), np.zeros(len(totals))
    exact = 2**users <= flips
    for signs in _sign_patterns(table) if exact else _drawn_signs(table, seed, flips):
        flipped = signs @ table
        above += (flipped >= totals - near).sum(axis=0)
        below += (flipped <= totals + near).sum(axis=0)
    extra, draws = (0, 2**users) if exact else (1, flips)
    return np.minimum(1.0, 2 * (extra + np.minimum(above, below)) / (extra + draws))


def _sign_patterns(table: NDArray[np.float64]) -> Iterator[NDArray[np.float64]]:
    users = len(table)
    for batch in _batches(2**users, table):
        bits = np.array(batch)[:, None] >> np.arange(users) & 1
        yield 1.0 - 2.0 * bits.astype(np.float64)


def _drawn_signs(
    table: NDArray[np.float64], seed: int, flips: int
) -> Iterator[NDArray[np.float64]]:
    rng, first = np.random.default_rng(seed), next(_batches(flips, table))
    pairs = np.tile(np.arange(2, dtype=np.int8), (len(first), len(table), 1))
    for batch in _batches(flips, table):
        yield 1.0 - 2.0 * rng.permuted(pairs, axis=-1)[: len(batch), :, 0]


def _by_users(
    rows: Sequence[NDArray[np.float64]], work: Callable[[NDArray[np.float64]], list[T]]
) -> list[T]:
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


def _batches(draws: int, table: NDArray[np.float64]) -> Iterator[range]:
    """The draws in batches that fit, by users or by rows, whichever are more."""
    size = max(1, _BATCH_VALUES // max(table.shape))
    for start in range(0, draws, size):
        yield range(start, min(start + size, draws))
