from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import cast

import pytest

from llmrec.catalog import Catalog, ColumnMap, liked
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
    with pytest.raises(UnknownUserError, match="no user '7'") as nobody:
        catalog.user(cast("str", 7))
    assert "needs a history" in nobody.value.hint


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
        ([5, 4], "++"), ([5, 5, 4, 2], "+++-"), ([2], "-"), ([2, 1, 2], "---"), ([10, 6, 5], "++-"),
        ([None, None], "++"), ([None, 1, 10, 10], "+-++"), ([math.nan, 1, 10, 10], "+-++"),
        ([0, 0, 1], "--+"), ([0], "-"), ([-1, 1, -1], "-+-"), ([-8.5, 0.2, 9], "-++"),
        ([0.5, 2.5, 3], "--+"), ([0, 0, 0, 4, 5], "---++"), ([20, 90, 55], "-++"),
        ([1, 1, 1], "+++"),
        ([3, 3], "++"), ([3, 5], "-+"), ([3, 1], "+-"), ([0, 1000, 10, 5], "-+++"), ([], ""),
    ],
)  # fmt: skip
def test_liked_is_above_the_middle_of_the_scale(ratings: list[float | None], expected: str) -> None:
    history = [Interaction("u", "i", rating) for rating in ratings]
    assert "".join("+" if one else "-" for one in liked(history)) == expected


@pytest.mark.parametrize(
    ("others", "own", "expected"),
    [
        ((1, 5), (1,), "-"),  # one star of five
        ((2, 4), (2, 2), "--"),
        ((5, 4), (5, 5), "++"),
        ((0, 1), (1, 1), "++"),  # thumbs up alone
        ((0, 1), (0, 0), "--"),
        ((1, 1), (1,), "+"),  # the same rating everywhere says nothing
        ((-1, 1), (-1, 0, 1, 1), "--++"),
        ((0.5, 5), (2.5, 3), "-+"),
        ((1, 9), (4, 6), "-+"),
        ((3, 250), (1, 40), "++"),  # listens
    ],
)
def test_the_scale_is_that_of_the_whole_data_set(
    others: tuple[float, ...], own: tuple[float, ...], expected: str
) -> None:
    rows = [Interaction("o", str(n), rating) for n, rating in enumerate(others)]
    rows += [Interaction("u", str(n), rating) for n, rating in enumerate(own)]
    user = Catalog({}, tuple(rows)).user("u")
    told = liked(user.history, user.neutral_rating)
    assert "".join("+" if one else "-" for one in told) == expected


def test_a_given_neutral_rating_replaces_the_guess() -> None:
    items = [{"item_id": "a"}]
    rows = [{"user_id": "u", "item_id": "a", "rating": 3}]
    columns = ColumnMap.model_validate({"interactions": {"neutral_rating": 0}})
    guessed = Catalog.from_datasets(items, interactions=rows)
    given = Catalog.from_datasets(items, interactions=rows, columns=columns)
    assert (guessed.user("u").neutral_rating, given.user("u").neutral_rating) == (3.0, 0.0)
    assert guessed.fingerprint != given.fingerprint
