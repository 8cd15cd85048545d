from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmrec.catalog import Catalog, Split, cold_start_split, global_time_split, leave_one_out
from llmrec.errors import DataError, OptionError
from llmrec.records import Interaction


def rows(*each: tuple[str, str, int | None]) -> Catalog:
    return Catalog({}, tuple(Interaction(user, item, None, time) for user, item, time in each))


def items_of(interactions: tuple[Interaction, ...]) -> str:
    return "".join(row.item_id for row in interactions)


def assert_fair(catalog: Catalog, split: Split) -> None:
    """Nothing lost, nothing twice, and no target's item among its user's training rows."""
    targets = [*split.validation.values(), *split.test.values()]
    parts = [*split.train, *targets, *split.left_out]
    assert len(parts) == len(catalog.interactions)
    assert set(parts) == set(catalog.interactions)
    pairs = {(row.user_id, row.item_id) for row in split.train}
    assert not pairs & {(row.user_id, row.item_id) for row in targets}
    assert all(
        user == row.user_id for user, row in (*split.test.items(), *split.validation.items())
    )


def test_the_last_row_is_the_test_and_the_one_before_it_validation() -> None:
    catalog = rows(("u", "e", 5), ("u", "a", 1), ("u", "b", 2), ("u", "c", 3), ("u", "d", 4))
    split = leave_one_out(catalog)
    assert split.test["u"].item_id == "e"
    assert split.validation["u"].item_id == "d"
    assert items_of(split.train) == "abc"
    assert split.left_out == ()


def test_ties_go_by_file_order_and_so_do_rows_without_a_time() -> None:
    for time in (7, None):
        split = leave_one_out(rows(*(("u", item, time) for item in "ebdca")))
        assert (split.test["u"].item_id, split.validation["u"].item_id) == ("a", "c")


def test_a_user_with_few_rows_stays_whole_in_train() -> None:
    catalog = rows(*(("u", item, 1) for item in "abcd"), *(("v", item, 2) for item in "abcde"))
    split = leave_one_out(catalog, min_train=3)
    assert list(split.test) == ["v"]
    assert items_of(split.train) == "abcdabc"
    assert list(leave_one_out(catalog, min_train=2).test) == ["u", "v"]
    with pytest.raises(OptionError, match="min_train is 0; allowed is 1 or more"):
        leave_one_out(catalog, min_train=0)


def test_an_item_met_again_is_no_target() -> None:
    catalog = rows(*(("u", item, time) for time, item in enumerate("abcdea")))
    split = leave_one_out(catalog)
    assert split.test["u"].item_id == "e"
    assert items_of(split.left_out) == "a"


def test_a_time_cut_foretells_the_first_new_item_after_it() -> None:
    catalog = rows(
        ("u", "a", 1),
        ("u", "b", 5),
        ("u", "a", 10),
        ("u", "c", 11),
        ("u", "d", 12),
        ("v", "a", 10),
        ("w", "b", 9),
    )
    split = global_time_split(catalog, 10)
    assert items_of(split.train) == "abb"
    assert {user: row.item_id for user, row in split.test.items()} == {"u": "c"}
    assert split.validation == {}
    assert_fair(catalog, split)
    split = global_time_split(catalog, 10, validation_cut=5)
    assert items_of(split.train) == "a"
    assert split.validation["u"].item_id == "b"
    assert split.test["u"].item_id == "c"


def test_a_time_cut_may_be_a_share_of_the_rows() -> None:
    catalog = rows(*(("u", str(time), time) for time in range(100)))
    split = global_time_split(catalog, 0.9, validation_cut=0.8)
    assert (len(split.train), split.validation["u"].timestamp) == (79, 79)
    assert split.test["u"].timestamp == 89


def test_a_time_cut_needs_times_and_something_on_both_sides() -> None:
    with pytest.raises(DataError, match=r"1 of 2 have none\..*leave_one_out"):
        global_time_split(rows(("u", "a", 1), ("u", "b", None)), 1)
    catalog = rows(("u", "a", 1), ("u", "b", 5))
    for cut in (1, 6, -3, 1.0):
        with pytest.raises(OptionError, match="between 2 and 5"):
            global_time_split(catalog, cut)
    with pytest.raises(OptionError, match="validation_cut before cut"):
        global_time_split(catalog, 2, validation_cut=3)


def test_cold_items_have_no_training_row() -> None:
    catalog = rows(*((user, item, 1) for user in "uvw" for item in "abcdefghij"))
    split = cold_start_split(catalog, 0.4, seed=1)
    assert len(split.held_out_items) == 4
    assert not split.held_out_items & {row.item_id for row in split.train}
    validation = {row.item_id for row in split.validation.values()}
    test = {row.item_id for row in split.test.values()}
    assert validation | test <= split.held_out_items
    assert not validation & test
    assert set(split.test) == set("uvw")
    assert_fair(catalog, split)
    assert cold_start_split(catalog, 0.4, seed=1) == split
    assert cold_start_split(catalog, 0.4, seed=2) != split


@pytest.mark.parametrize("share", [0.0, 1.0, -0.5, 0.01, 0.99])
def test_share_without_rows_is_refused(share: float) -> None:
    catalog = rows(*(("u", item, 1) for item in "abcdefghij"))
    with pytest.raises(OptionError, match="share between 0 and 1"):
        cold_start_split(catalog, share, seed=0)


any_row = st.tuples(st.sampled_from("uvw"), st.sampled_from("abcdefg"), st.integers(0, 9))


@settings(database=None, deadline=None)
@given(st.lists(any_row, unique=True, min_size=1, max_size=40))
def test_every_split_is_fair(drawn: list[tuple[str, str, int]]) -> None:
    catalog = rows(*drawn)
    splits: list[Callable[[], Split]] = [
        lambda: leave_one_out(catalog, min_train=1),
        lambda: global_time_split(catalog, 6, validation_cut=3),
        lambda: cold_start_split(catalog, 0.5, seed=0),
    ]
    for make in splits:
        try:
            split = make()
        except OptionError:
            continue
        assert_fair(catalog, split)
