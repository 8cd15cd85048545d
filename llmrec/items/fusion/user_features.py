"""What a fusion reads of a user beside the items: opinions, times and profile values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from llmrec.catalog import liked
from llmrec.records import AttributeValue, Interaction

_SHARED_BY = 5
"""Users that must share a profile value: of a rarer one nothing can be learned."""

Profile = Mapping[str, AttributeValue]


def opinions_and_times(
    history: Sequence[Interaction], neutral: float | None
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Whether each item was liked, and when: seconds, -1 where unknown or before 1970.

    Args:
        history: Oldest first.
        neutral: The data set's neutral rating; None guesses it.
    """
    times = [-1 if row.timestamp is None else max(-1, int(row.timestamp)) for row in history]
    return np.array(liked(history, neutral), dtype=bool), np.array(times, dtype=np.int64)


def profile_values(profiles: Iterable[Profile]) -> tuple[str, ...]:
    """List the values, ``column=value``, that several users share."""
    counts = Counter(value for profile in profiles for value in _values_of(profile))
    return tuple(sorted(value for value, count in counts.items() if count >= _SHARED_BY))


def profile_vectors(profiles: Sequence[Profile], places: Mapping[str, int]) -> NDArray[np.float32]:
    """Mark the known values of profiles: float32 [n, len(places)]; others do not count."""
    marked = np.zeros((len(profiles), len(places)), dtype=np.float32)
    for row, profile in zip(marked, profiles, strict=True):
        row[[places[value] for value in _values_of(profile) if value in places]] = 1
    return marked


def _values_of(profile: Profile) -> set[str]:
    return {
        f"{column}={part}"
        for column, value in profile.items()
        for part in (value if isinstance(value, tuple) else (value,))
    }
