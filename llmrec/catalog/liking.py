"""What a user's ratings say of the items they met."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from llmrec.records import Interaction


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
