from __future__ import annotations

from collections.abc import Mapping

import pytest

from llmrec.items.fusion.user_features import (
    opinions_and_times,
    profile_values,
    profile_vectors,
)
from llmrec.records import AttributeValue, Interaction


@pytest.mark.parametrize(
    ("timestamp", "read"), [(None, -1), (-86_400, -1), (0, 0), (1_700_000_000, 1_700_000_000)]
)
def test_a_time_that_is_missing_or_before_1970_is_unknown(timestamp: int | None, read: int) -> None:
    likes, times = opinions_and_times([Interaction("u", "a", None, timestamp)], None)
    assert (likes.tolist(), times.tolist()) == ([True], [read])


def test_no_history_has_no_features() -> None:
    likes, times = opinions_and_times([], None)
    assert len(likes) == len(times) == 0


def test_profile_values_that_few_share_do_not_count() -> None:
    profiles: list[Mapping[str, AttributeValue]] = [
        {"age": 30 + n // 5, "tags": ("a", "b"), "name": f"n{n}"} for n in range(9)
    ]
    values = profile_values(profiles)
    assert values == ("age=30", "tags=a", "tags=b")
    places = {value: place for place, value in enumerate(values)}
    marked = profile_vectors([profiles[0], {"age": "x", "tags": "b"}, {}], places)
    assert marked.tolist() == [[1, 1, 1], [0, 0, 1], [0, 0, 0]]
