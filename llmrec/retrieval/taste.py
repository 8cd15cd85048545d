"""What a history says about a user's taste."""

from __future__ import annotations

import numpy as np

from llmrec.catalog import liked
from llmrec.records import User
from llmrec.retrieval.index import Index

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


def history_rows(index: Index, user: User) -> list[int]:
    """Return the rows of a history's items in an index, oldest first.

    Raises:
        UnknownItemError: The index does not hold one of them.
    """
    return [index.row(interaction.item_id) for interaction in user.history]
