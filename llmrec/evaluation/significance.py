"""How sure a figure or a difference of two rows is: always over users, always paired.

The bootstrap and the randomization test are scipy's; Holm's correction, which scipy lacks, is here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from llmrec.errors import OptionError

_BATCH_VALUES = 2_000_000  # resampled values held at once: bounds memory, not results


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over users with its 95 % bootstrap interval, in the metric's own unit."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """Row a minus row b over the same users, in the metric's own unit.

    ``low`` and ``high`` are the 95 % paired bootstrap percentile interval; ``p_value`` is that of
    the two-sided sign-flip randomization test, not corrected for other comparisons; ``detectable``
    is the smallest true difference that so many users show (``smallest_difference``).
    """

    difference: float
    low: float
    high: float
    p_value: float
    users: int
    detectable: float


def estimate(values: ArrayLike, *, seed: int, resamples: int = 10_000) -> Estimate:
    """Estimate the mean of one value a user, [n_users], with its 95 % bootstrap interval.

    Raises:
        OptionError: Fewer than two users, a value that is not finite, or no resamples.
    """
    checked = _per_user(values, resamples)
    interval = stats.bootstrap(
        (checked,),
        np.mean,
        n_resamples=resamples,
        batch=max(1, _BATCH_VALUES // checked.size),
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Estimate(float(checked.mean()), float(interval.low), float(interval.high))


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
    differences = first - second
    interval = estimate(differences, seed=seed, resamples=resamples)
    test = stats.permutation_test(
        (differences,),  # one sample of pairs: the permutations are flips of its signs
        np.mean,
        permutation_type="samples",
        vectorized=True,
        n_resamples=resamples,
        batch=max(1, _BATCH_VALUES // differences.size),
        rng=np.random.default_rng(seed),
    )
    return Comparison(
        difference=interval.mean,
        low=interval.low,
        high=interval.high,
        p_value=float(test.pvalue),
        users=differences.size,
        detectable=smallest_difference(float(differences.std(ddof=1)), differences.size),
    )


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
    """Say how large a true mean difference must be for so many users to show it.

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
