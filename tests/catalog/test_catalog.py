from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import cast

import pytest

from llmrec.catalog import Catalog, liked
from llmrec.errors import UnknownUserError
from llmrec.records import Interaction, Item, User


@pytest.fixture
def catalog() -> Catalog:
    items = {item_id: Item(item_id, item_id.upper()) for item_id in "abc"}
    rows = (
        Interaction("ann", "a", 5.0, 30),
        Interaction("ann", "b", 4.0, 10),
        Interaction("ann", "c", 3.0, 10),
        Interaction("bob", "a"),
    )
    return Catalog(items, rows, profiles={"cyd": {"age": 3}}, friends={"ann": ("bob", "dee")})


def test_a_history_is_oldest_first_and_ties_keep_file_order(catalog: Catalog) -> None:
    assert [row.item_id for row in catalog.user("ann").history] == ["b", "c", "a"]
    assert catalog.user("ann").friends == ("bob", "dee")


def test_rows_without_a_time_come_first() -> None:
    rows = (Interaction("u", "a", None, 5), Interaction("u", "b"), Interaction("u", "c"))
    history = Catalog({}, rows).user("u").history
    assert [row.item_id for row in history] == ["b", "c", "a"]


def test_users_are_all_that_any_table_names(catalog: Catalog) -> None:
    assert catalog.user_ids == ("ann", "bob", "cyd", "dee")
    assert catalog.user("cyd") == User("cyd", profile={"age": 3})
    assert catalog.user("dee").history == ()


def test_an_unknown_user_is_named_with_the_nearest(catalog: Catalog) -> None:
    with pytest.raises(UnknownUserError, match="no user 'anne' among 4 users") as caught:
        catalog.user("anne")
    assert caught.value.hint == "Did you mean 'ann'?"
    with pytest.raises(UnknownUserError, match="no user 7") as nobody:
        catalog.user(cast("str", 7))
    assert "give a User of your own" in nobody.value.hint


def test_the_fingerprint_follows_the_content_alone(catalog: Catalog) -> None:
    same = dataclasses.replace(catalog, folder=Path("elsewhere"))
    assert same.fingerprint == catalog.fingerprint
    assert len(catalog.fingerprint) == 64
    others = [
        dataclasses.replace(catalog, interactions=catalog.interactions[:-1]),
        dataclasses.replace(catalog, profiles={"cyd": {"age": 4}}),
        dataclasses.replace(catalog, friends={"ann": ("bob",)}),
        dataclasses.replace(catalog, items={**catalog.items, "a": Item("a", "B")}),
        dataclasses.replace(
            catalog, items={**catalog.items, "a": Item("a", "A", attributes={"x": 1})}
        ),
    ]
    assert len({catalog.fingerprint, *(other.fingerprint for other in others)}) == 6


def test_a_replaced_catalogue_forgets_the_old_histories(catalog: Catalog) -> None:
    assert len(catalog.user("ann").history) == 3
    assert len(dataclasses.replace(catalog, interactions=()).user("ann").history) == 0


def test_its_repr_counts_instead_of_printing_everything(catalog: Catalog) -> None:
    assert repr(catalog) == "Catalog(3 items, 4 users, 4 interactions, 0 reviews)"


@pytest.mark.parametrize(
    ("ratings", "expected"),
    [
        ([5, 4], "++"), ([5, 5, 4, 2], "+++-"), ([3, 2, 1], "++-"), ([1000, 10, 10, 5], "+++-"),
        ([None, None], "++"), ([None, 1, 10, 10], "+-++"), ([math.nan, 1, 10, 10], "+-++"),
        ([0, 0, 0, 4, 5], "+++++"), ([1, 1, 1], "+++"), ([], ""),
    ],
)  # fmt: skip
def test_users_are_measured_by_themselves(ratings: list[float | None], expected: str) -> None:
    history = [Interaction("u", "i", rating) for rating in ratings]
    assert "".join("+" if one else "-" for one in liked(history)) == expected
