"""Signals of different units on one scale."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


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
