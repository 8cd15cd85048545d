"""Which ratings say that a user liked an item."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from llmrec.records import Interaction


def guess_neutral(ratings: Iterable[float | None]) -> float | None:
    """Guess the rating that is neither good nor bad: the middle of the scale of some ratings.

    With a negative rating it is 0 (thumbs -1 and 1, -10 to 10). Ratings up to 1 are on a scale of
    0 to 1, those up to 5 or 10 on one that begins at 1 or at the lowest rating if that is less, and
    ends at 5 or 10. A highest rating over 50 and up to 100 makes it 0 to 100. All other numbers are
    counts, such as plays: every one above 0 is good. None without a rating.
    """
    known = [rating for rating in ratings if rating is not None and math.isfinite(rating)]
    if not known:
        return None
    low, high = min(known), max(known)
    if low < 0 or 10 < high <= 50 or high > 100:
        return 0.0
    top = next(top for top in (1, 5, 10, 100) if high <= top)
    bottom = 0.0 if top in {1, 100} else min(low, 1.0)
    return (bottom + top) / 2


def liked(history: Sequence[Interaction], neutral: float | None = None) -> tuple[bool, ...]:
    """Return for each of a user's interactions whether the user liked the item.

    A rating counts as liked above ``neutral``; one that equals it, where it is not below the mean
    of the history. An interaction without a rating counts as liked.

    Args:
        history: The interactions.
        neutral: The neutral rating of the data set, as ``User.neutral_rating``; None guesses it
            from the history by :func:`guess_neutral`.
    """
    known = [row.rating for row in history if row.rating is not None and not math.isnan(row.rating)]
    middle = guess_neutral(known) if neutral is None else neutral
    if not known or middle is None:
        return (True,) * len(history)
    mean = sum(known) / len(known)
    return tuple(
        row.rating is None
        or math.isnan(row.rating)
        or row.rating > middle
        or row.rating == middle >= mean
        for row in history
    )
