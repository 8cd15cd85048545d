"""What a history says about a user's taste."""

from __future__ import annotations

import numpy as np

from llmrec.records import User

DISLIKED_WEIGHT = 0.5
"""What a disliked item weighs beside a liked one: that it was chosen says something too.

It was chosen on the same interactions as the retriever's defaults.
"""


def history_weights(user: User, half_life: float) -> np.ndarray:
    """Weigh the items of a history: recent ones most, disliked ones half.

    Disliked is what the user rated below his or her own mean; an item without a rating is liked.

    Args:
        user: With a history.
        half_life: After how many later interactions a weight has halved.

    Returns:
        float64 [n_history], the last interaction's weight 1 where it is liked.
    """
    ages = np.arange(len(user.history))[::-1]
    ratings = np.array([np.nan if entry.rating is None else entry.rating for entry in user.history])
    rated = ~np.isnan(ratings)
    # A comparison with NaN is false: what is not rated is not disliked.
    disliked = ratings < (ratings[rated].mean() if rated.any() else np.nan)
    weights: np.ndarray = np.where(disliked, DISLIKED_WEIGHT, 1.0) * 0.5 ** (ages / half_life)
    return weights


def unit(vectors: np.ndarray) -> np.ndarray:
    """Scale vectors [..., d] to length 1; a zero vector stays zero."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    units: np.ndarray = vectors / np.maximum(lengths, np.finfo(np.float32).tiny)
    return units
