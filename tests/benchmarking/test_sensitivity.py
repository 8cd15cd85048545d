from __future__ import annotations

import numpy as np
import pytest

from llmrec.benchmarking.records import UserList
from llmrec.benchmarking.sensitivity import split_users, spread, wordings

NAN = np.nan


def test_a_spread_of_means_can_hide_what_happens_to_users() -> None:
    found = spread([np.array([1.0, 0, 1, NAN]), np.array([0.0, 1, 1, 1])])
    assert found.of_means == 0
    assert found.within_user == pytest.approx(2 / 3)
    assert found.users == 3
    assert spread([np.array([NAN, 1.0]), np.array([1.0, NAN])]).users == 0


def test_wordings_are_rows_that_differ_in_nothing_else() -> None:
    settings: dict[str, dict[str, str | int | bool]] = {
        "a": {"template": "p/a", "template_sha256": "1", "model": "m"},
        "a2": {"template": "p/a2", "template_sha256": "2", "model": "m", "variant_of": "p/a"},
        "b": {"template": "p/b", "model": "m"},
        "a big": {"template": "p/a", "model": "n"},
    }
    assert wordings(settings) == {"p/a": ("a", "a2")}
    settings["a2 big"] = {"template": "p/a2", "model": "n", "variant_of": "p/a"}
    assert wordings(settings) == {"a": ("a", "a2"), "a big": ("a big", "a2 big")}


def lists_of(activity: list[int], popularity: list[int]) -> list[UserList]:
    return [
        UserList(f"u{n}", "i", ("i",), (None,), (0.0,), a, p, True)
        for n, (a, p) in enumerate(zip(activity, popularity, strict=True))
    ]


def test_users_are_split_into_thirds_and_equal_values_stay_together() -> None:
    splits = split_users(lists_of([9, 1, 2, 8, 3, 5, 6, 4, 7], [0, 0, 0, 0, 0, 0, 0, 4, 9]))
    assert {group: mask.sum() for group, mask in splits["activity"].items()} == {
        "low (1 to 3)": 3,
        "middle (4 to 6)": 3,
        "high (7 to 9)": 3,
    }
    assert {group: mask.sum() for group, mask in splits["target popularity"].items()} == {
        "low (0)": 7,
        "high (4 to 9)": 2,
    }
    for groups in splits.values():
        assert np.stack(list(groups.values())).sum(axis=0).tolist() == [1] * 9


def test_few_users_are_split_too() -> None:
    assert list(split_users(lists_of([5], [5]))["activity"]) == ["low (5)"]
