"""What a history says about a user's taste."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

import numpy as np

from llmrec.records import Interaction, User

DISLIKED_WEIGHT = 0.5
"""What a disliked item weighs beside a liked one: that it was chosen says something too.

It was chosen on the same interactions as the retriever's defaults.
"""


def history_weights(user: User, half_life: float) -> np.ndarray:
    """Weigh the items of a history: recent ones most, disliked ones half.

    Args:
        user: With a history.
        half_life: After how many later interactions a weight has halved.

    Returns:
        float64 [n_history], the last interaction's weight 1 where it is liked.
    """
    ages = np.arange(len(user.history))[::-1]
    opinions = np.where(liked(user.history), 1.0, DISLIKED_WEIGHT)
    weights: np.ndarray = opinions * 0.5 ** (ages / half_life)
    return weights


def liked(history: Sequence[Interaction]) -> tuple[bool, ...]:
    """Say of each interaction whether it speaks for its item.

    Data sets rate in different units, so users are measured by themselves: a rating counts as
    liked from the user's own median up, or from 60 % of the user's own highest. An interaction
    without a rating counts as liked.
    """
    ratings = [known for row in history if (known := _known(row.rating)) is not None]
    if not ratings:
        return (True,) * len(history)
    enough = min(statistics.median(ratings), 0.6 * max(ratings))
    known_ratings = (_known(row.rating) for row in history)
    return tuple(rating is None or rating >= enough for rating in known_ratings)


def _known(rating: float | None) -> float | None:
    return None if rating is None or math.isnan(rating) else rating


def unit(vectors: np.ndarray) -> np.ndarray:
    """Scale vectors [..., d] to length 1; a zero vector stays zero."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    units: np.ndarray = vectors / np.maximum(lengths, np.finfo(np.float32).tiny)
    return units
