from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from llmrec.catalog import Catalog, global_time_split, leave_one_out
from llmrec.errors import OptionError
from llmrec.evaluation import discrimination_lists, end_to_end_users, training_catalog
from llmrec.evaluation.protocols import Part
from llmrec.records import Review

ITEMS = [{"item_id": f"i{n}", "title": f"Thing {n}"} for n in range(60)]


def rows_of(user_id: str, numbers: list[int]) -> list[dict[str, str | int]]:
    return [
        {"user_id": user_id, "item_id": f"i{n}", "timestamp": 100 + place}
        for place, n in enumerate(numbers)
    ]


def catalog_of(histories: dict[str, list[int]]) -> Catalog:
    interactions = [
        row for user_id, numbers in histories.items() for row in rows_of(user_id, numbers)
    ]
    reviews = [
        {"item_id": row["item_id"], "rating": 4, "text": "Mine.", "user_id": row["user_id"]}
        for row in interactions
    ]
    reviews += [{"item_id": item["item_id"], "rating": 3, "text": "Not mine."} for item in ITEMS]
    users = [{"user_id": "ann", "age": 33}]
    return Catalog.from_datasets(ITEMS, interactions=interactions, reviews=reviews, users=users)


def random_histories(users: int = 30) -> dict[str, list[int]]:
    rng = np.random.default_rng(0)
    return {f"u{n:02}": rng.permutation(60)[: rng.integers(5, 15)].tolist() for n in range(users)}


def test_a_list_holds_the_target_once_and_items_the_user_never_met() -> None:
    histories = random_histories()
    catalog = catalog_of(histories)
    split = leave_one_out(catalog)
    lists = discrimination_lists(catalog, split, seed=1)
    assert [entry.user.user_id for entry in lists] == sorted(histories)
    for entry in lists:
        met = {f"i{n}" for n in histories[entry.user.user_id]}
        assert len(set(entry.item_ids)) == 20
        assert set(entry.item_ids) & met == {entry.target}
        assert entry.target == split.test[entry.user.user_id].item_id


def test_history_ends_before_the_target() -> None:
    catalog = catalog_of({"ann": [1, 2, 3, 4, 5, 6], "bob": [1, 2]})
    split = leave_one_out(catalog)
    parts: tuple[tuple[Part, str, int], ...] = (("validation", "i5", 4), ("test", "i6", 5))
    for which, target, known in parts:
        (entry,) = discrimination_lists(catalog, split, which=which, seed=0)
        assert entry.target == target
        assert [row.item_id for row in entry.user.history] == [f"i{n}" for n in range(1, known + 1)]
        assert entry.user.profile == {"age": 33}


def test_target_position_is_uniform() -> None:
    catalog = catalog_of({f"u{n}": [1, 2, 3, 4, 5] for n in range(2000)})
    lists = discrimination_lists(catalog, leave_one_out(catalog), negatives=4, seed=0)
    places = Counter(entry.item_ids.index(entry.target) for entry in lists)
    assert sorted(places) == [0, 1, 2, 3, 4]
    assert all(abs(count - 400) < 5 * 20 for count in places.values())
    negatives = Counter(item for entry in lists for item in entry.item_ids if item != entry.target)
    assert len(negatives) == 55
    assert all(abs(count - 8000 / 55) < 5 * 12.1 for count in negatives.values())


def test_lists_depend_only_on_seed_part_and_user() -> None:
    histories = random_histories()
    catalog = catalog_of(histories)
    split = leave_one_out(catalog)
    lists = discrimination_lists(catalog, split, seed=1)
    assert lists == discrimination_lists(catalog, split, seed=1)
    others = discrimination_lists(catalog, split, seed=2)
    assert [entry.target for entry in lists] == [entry.target for entry in others]
    assert all(a.item_ids != b.item_ids for a, b in zip(lists, others, strict=True))
    fewer = catalog_of({name: histories[name] for name in ("u07", "u03")})
    kept = discrimination_lists(fewer, leave_one_out(fewer), seed=1)
    assert [entry.item_ids for entry in kept] == [lists[3].item_ids, lists[7].item_ids]


@pytest.mark.parametrize(
    ("which", "ends"), [("validation", ([41, 40], [42, 40])), ("test", ([40, 41], [40, 42]))]
)
def test_list_order_does_not_depend_on_the_target(
    which: Part, ends: tuple[list[int], list[int]]
) -> None:
    catalogs = [catalog_of({"ann": [1, 2, 3, 4, *end], "bob": [7, 8, 9, 10, 11]}) for end in ends]
    splits = [leave_one_out(catalog) for catalog in catalogs]
    planted = list(zip(catalogs, splits, strict=True))
    trained = [training_catalog(catalog, split) for catalog, split in planted]
    assert trained[0] == trained[1]
    assert trained[0].fingerprint == trained[1].fingerprint
    reached = [end_to_end_users(catalog, split, which=which)[0] for catalog, split in planted]
    assert reached[0].user == reached[1].user
    one, two = (
        discrimination_lists(catalog, split, which=which, seed=9)[0] for catalog, split in planted
    )
    assert one.user == two.user
    assert (one.target, two.target) == ("i41", "i42")
    # This seed draws neither for the other's negatives, where it would have to give way.
    assert "i42" not in one.item_ids
    assert "i41" not in two.item_ids
    assert two.item_ids == tuple("i42" if item == "i41" else item for item in one.item_ids)


def test_training_holds_no_held_out_row_and_no_review_of_one() -> None:
    catalog = catalog_of({"ann": [1, 2, 3, 4, 5], "bob": [1, 2, 3, 5, 4]})
    split = leave_one_out(catalog)
    trained = training_catalog(catalog, split)
    assert Counter(row.item_id for row in trained.interactions) == {"i1": 2, "i2": 2, "i3": 2}
    assert len(catalog.interactions) == 10
    by = {(row.user_id, row.item_id) for row in trained.reviews}
    assert not by & {(user, item) for user in ("ann", "bob") for item in ("i4", "i5")}
    assert {("ann", "i3"), ("bob", "i1"), (None, "i4"), (None, "i5")} <= by
    assert trained.items == catalog.items


def test_reviews_after_the_cut_are_dropped() -> None:
    catalog = catalog_of({f"u{n}": list(range(8)) for n in range(3)})
    reviews = tuple(Review("i0", f"at {time}", None, "critic", time) for time in (None, 99, 9_999))
    catalog = replace(catalog, reviews=reviews)
    split = global_time_split(catalog, 104)
    last = max(row.timestamp or 0 for row in split.train)
    trained = training_catalog(catalog, split)
    assert [row.timestamp for row in trained.reviews] == [None, 99]
    assert last < 104


def test_users_with_too_few_unseen_items_do_not_qualify() -> None:
    catalog = catalog_of({"ann": list(range(50)), "bob": list(range(41)), "eve": list(range(42))})
    lists = discrimination_lists(catalog, leave_one_out(catalog), seed=0)
    assert [entry.user.user_id for entry in lists] == ["bob"]
    assert set(lists[0].item_ids) == {f"i{n}" for n in range(40, 60)}


def test_rows_in_no_part_are_neither_known_nor_negatives() -> None:
    catalog = catalog_of({f"u{n:02}": [*range(n, n + 8), 55, 56] for n in range(30)})
    split = global_time_split(catalog, 106)  # what followed the first row after the cut is left out
    entry = discrimination_lists(catalog, split, negatives=49, seed=0)[0]
    assert entry.target == "i6"
    assert not {"i7", "i55", "i56"} & {row.item_id for row in entry.user.history}
    assert not {"i7", "i55", "i56"} & set(entry.item_ids)
    reviewed = {(row.user_id, row.item_id) for row in training_catalog(catalog, split).reviews}
    assert ("u00", "i5") in reviewed
    assert not {("u00", "i6"), ("u00", "i7"), ("u00", "i55")} & reviewed


def test_impossible_samples_are_refused() -> None:
    catalog = catalog_of({"ann": [1, 2, 3, 4, 5]})
    split = leave_one_out(catalog)
    with pytest.raises(OptionError, match="negatives is 0"):
        discrimination_lists(catalog, split, negatives=0, seed=0)
    with pytest.raises(OptionError, match="no user has a test target and 56 unseen items"):
        discrimination_lists(catalog, split, negatives=56, seed=0)
    with pytest.raises(OptionError, match="which is 'train'"):
        end_to_end_users(catalog, split, which=cast("Part", "train"))
    with pytest.raises(OptionError, match="no user has a test target"):
        discrimination_lists(catalog, replace(split, test={}), seed=0)


DATA = Path(__file__).parents[3] / "shared" / "data" / "movielens_mm"


@pytest.mark.skipif(not DATA.exists(), reason="../shared/data is not here")
def test_on_real_films_histories_end_before_their_targets() -> None:
    catalog = Catalog.from_folder(DATA)
    split = leave_one_out(catalog)
    lists = discrimination_lists(catalog, split, seed=0)
    assert len(lists) > 500
    for entry in lists:
        times = [row.timestamp or 0 for row in entry.user.history]
        assert all(a <= b for a, b in pairwise(times))
        assert times[-1] <= (split.test[entry.user.user_id].timestamp or 0)
        assert entry.target not in {row.item_id for row in entry.user.history}
