from __future__ import annotations

import math

import pytest

from llmrec.catalog import liked
from llmrec.records import Interaction


@pytest.mark.parametrize(
    ("ratings", "expected"),
    [
        ([5, 4], "++"),
        ([5, 5, 4, 2], "+++-"),
        ([3, 2, 1], "++-"),
        ([1000, 10, 10, 5], "+++-"),
        ([None, None], "++"),
        ([None, 1, 10, 10], "+-++"),
        ([math.nan, 1, 10, 10], "+-++"),
        ([0, 0, 0, 4, 5], "+++++"),
        ([1, 1, 1], "+++"),
        ([], ""),
    ],
)
def test_users_are_measured_by_themselves(ratings: list[float | None], expected: str) -> None:
    history = [Interaction("u", "i", rating) for rating in ratings]
    assert "".join("+" if one else "-" for one in liked(history)) == expected
