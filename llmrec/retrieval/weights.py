"""One score from several signals: standardised within the list, weighted, summed.

Weights are fitted on validation users by a conditional logit: the target should be the choice among
its list's candidates (McFadden, "Conditional logit analysis of qualitative choice behavior", 1974).
The problem is convex, so the fit has one answer and needs no seed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from llmrec.errors import OptionError, check_kind, is_number

RIDGE = 1e-3
"""Squared-weight penalty a list: keeps weights finite where one signal separates all targets."""
_ALPHA = 0.05


@dataclass(frozen=True, slots=True)
class SignalList:
    """A validation user's candidates: each signal's values by candidate, and the target's place.

    Arrays are float ``[candidates]``, higher is better, NaN where a signal has no value.
    """

    signals: Mapping[str, NDArray[np.float64]]
    target: int


@dataclass(frozen=True, slots=True)
class FittedWeights:
    """Non-negative weights by signal, and how sure the validation users are of them.

    ``p_values`` are of the likelihood-ratio test of leaving the signal out; a signal in
    ``optional`` whose p-value was above 0.05 has weight 0. ``lists`` were fitted on.
    """

    weights: Mapping[str, float]
    p_values: Mapping[str, float]
    lists: int


def standardise(values: ArrayLike) -> np.ndarray:
    """Turn a list of values into z-scores: mean 0, standard deviation 1.

    NaN means "no value": it stays NaN and does not count. A list without spread (one value, all
    equal, none) says nothing about an order and becomes zeros.

    Args:
        values: [n] numbers, NaN allowed.

    Returns:
        float64 [n], a new array.

    >>> standardise([1.0, 3.0, float("nan")])
    array([-1.,  1., nan])
    """
    scores = np.array(values, dtype=np.float64)
    known = ~np.isnan(scores)
    if not known.any():
        return scores
    # By a power of two, which is exact: squares of huge values would overflow.
    _, exponent = np.frexp(np.abs(scores[known]).max())
    scaled = np.ldexp(scores[known], -exponent)
    centred = scaled - scaled.mean()
    spread = centred.std()
    # Rounding leaves a tiny spread in a constant list: it must not be blown up to 1.
    constant = spread <= 1e-12 * np.abs(scaled).max()
    scores[known] = 0.0 if constant else centred / spread
    return scores


def fuse(
    signals: Mapping[str, NDArray[np.float64]], weights: Mapping[str, float]
) -> NDArray[np.float64]:
    """Weighted sum of the standardised signals of one list, float64 ``[candidates]``.

    A candidate without a value for a signal (NaN) counts as an average one in it.

    Raises:
        OptionError: There is no signal, one has no weight, or a weight is negative or not finite.
    """
    if not signals:
        raise OptionError("There is no signal to fuse.", hint="Give one or more.")
    check_weights(signals, weights)
    total = np.zeros(len(next(iter(signals.values()))))
    for name, values in signals.items():
        if weights[name]:
            total += weights[name] * np.nan_to_num(standardise(values))
    return total


def check_weights(names: Collection[str], weights: Mapping[str, float]) -> None:
    """Check that each of these signals has a weight that can be used.

    Raises:
        OptionError: A signal has no weight, or a weight is negative or not finite.
    """
    hint = 'Give {"SIGNAL": 1.0}.'
    check_kind("weights", weights, Mapping, "a mapping of signal to weight", hint)
    missing = sorted(set(names) - weights.keys())
    if missing:
        raise OptionError(
            f"There is no weight for {', '.join(missing)}; there are weights for "
            f"{', '.join(map(str, weights)) or 'nothing'}.",
            hint="Name a weight for every signal; 0 switches one off.",
        )
    usable = {name for name in names if is_number(weights[name]) and 0 <= weights[name] < np.inf}
    bad = {name: weights[name] for name in names if name not in usable}
    if bad:
        raise OptionError(
            f"The weights {bad!r:.60} are not allowed; allowed are finite numbers from 0 on.",
            hint="0 switches a signal off.",
        )


def fit_weights(lists: Sequence[SignalList], *, optional: Sequence[str] = ()) -> FittedWeights:
    """Fit one weight a signal on validation lists.

    Args:
        lists: One a validation user; all with the same signals.
        optional: Signals whose weight becomes zero unless the likelihood-ratio test keeps them
            (p up to 0.05).

    Raises:
        OptionError: There are no lists, or they do not have the same signals.
    """
    check_kind("lists", lists, (list, tuple), "a list of SignalList", "Give [SignalList(...)].")
    if not lists:
        raise OptionError(
            "There are no validation lists to fit weights on.",
            hint="Without validation users the default weights are used.",
        )
    for place, entry in enumerate(lists):
        check_kind(f"lists[{place}]", entry, SignalList, "a SignalList", "See hold_out.")
    names = tuple(lists[0].signals)
    if any(tuple(entry.signals) != names for entry in lists):
        raise OptionError(f"Every list needs the same signals, in the same order: {names}.")
    from scipy.stats import chi2  # noqa: PLC0415 (half a second, and only fitting needs it)

    designs = _designs(lists, names)
    weights, loss = _fit(designs, list(range(len(names))))
    p_values = {}
    for i, name in enumerate(names):
        _, without = _fit(designs, [j for j in range(len(names)) if j != i])
        p_values[name] = float(chi2.sf(2 * max(0.0, without - loss), df=1))
    kept = [i for i, name in enumerate(names) if name not in optional or p_values[name] <= _ALPHA]
    if len(kept) < len(names):
        weights, _ = _fit(designs, kept)
    return FittedWeights(dict(zip(names, map(float, weights), strict=True)), p_values, len(lists))


def _designs(lists: Sequence[SignalList], names: Sequence[str]) -> NDArray[np.float64]:
    """Standardised signals relative to the target's, ``[lists, longest list, signals]``.

    Places behind a shorter list's end hold NaN.
    """
    longest = max(len(next(iter(entry.signals.values()))) for entry in lists)
    designs = np.full((len(lists), longest, len(names)), np.nan)
    for design, entry in zip(designs, lists, strict=True):
        table = np.stack([standardise(entry.signals[name]) for name in names], axis=1)
        table = np.nan_to_num(table)  # as in fuse: no value counts as an average one
        design[: len(table)] = table - table[entry.target]
    return designs


def _fit(designs: NDArray[np.float64], free: Sequence[int]) -> tuple[NDArray[np.float64], float]:
    """Weights over all signals, zero where not free, and the summed negative log-likelihood."""
    there = ~np.isnan(designs[:, :, 0])
    full = np.zeros(designs.shape[2])
    if not free:
        return full, float(np.log(there.sum(axis=1)).sum())
    from scipy.optimize import minimize  # noqa: PLC0415
    from scipy.special import logsumexp  # noqa: PLC0415

    some = np.nan_to_num(designs[:, :, free])

    def loss(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        scores = np.where(there, some @ weights, -np.inf)  # the target's own score is 0
        total = logsumexp(scores, axis=1, keepdims=True)
        expected = np.einsum("li,lis->s", np.exp(scores - total), some)
        ridge = RIDGE * len(some)
        value = float(total.sum() + ridge * weights @ weights)
        return value, expected + 2 * ridge * weights

    found = minimize(
        loss, np.full(len(free), 0.1), jac=True, method="L-BFGS-B", bounds=[(0, None)] * len(free)
    )
    full[list(free)] = found.x
    return full, float(found.fun)
