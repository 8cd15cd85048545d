from __future__ import annotations

import math
from datetime import UTC, date, datetime, time
from decimal import Decimal
from uuid import UUID

import numpy as np
import pandas as pd
import pytest

from llmrec.catalog.values import (
    clean,
    parse_attribute,
    parse_id,
    parse_path,
    parse_rating,
    parse_text,
    parse_timestamp,
    readable_attributes,
    split_list,
    typed,
    value_text,
    whole,
)
from llmrec.records import AttributeValue


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("007", "007"), (" 7 ", "7"), (7, "7"), (7.0, "7"), (2**70, str(2**70)), ("", None),
        ("  ", None), (None, None), (math.nan, None), ("书", "书"), (Decimal(7), "7"),
        (Decimal("7.00"), "7"), (Decimal("7E+2"), "700"), (np.int64(7), "7"), (np.float32(7), "7"),
        (Decimal("123456789012345678901234567890"), "123456789012345678901234567890"),
        (np.str_("a"), "a"), (UUID(int=7), "00000000-0000-0000-0000-000000000007"),
        (Decimal("NaN"), None), ("Ame\u0301lie", "Am\u00e9lie"), ("1.0", "1.0"),
    ],
)  # fmt: skip
def test_an_id_is_always_text(value: object, expected: str | None) -> None:
    assert parse_id(value) == expected


@pytest.mark.parametrize(
    "value", [True, np.True_, 7.5, Decimal("7.5"), math.inf, ["7"], {"id": 7}, b"7"]
)
def test_an_id_of_another_kind_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="text or a whole number"):
        parse_id(value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [("4.5", 4.5), (4, 4.0), (Decimal("3.5"), 3.5), ("", None), (None, None), ("0", 0.0)],
)
def test_a_rating_is_a_number_or_missing(value: object, expected: float | None) -> None:
    assert parse_rating(value) == expected


@pytest.mark.parametrize(
    "value",
    [math.nan, "nan", "NaN", math.inf, "-inf", "good", True, [5], "1e400", "4,5", "1_0", 10**400],
)
def test_a_rating_that_is_no_finite_number_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="finite number"):
        parse_rating(value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (964980499, 964980499), ("964980499", 964980499), (964980499.7, 964980499.7),
        ("964980499.0", 964980499), (0, 0), (-1, -1), ("2000-07-30", 964915200),
        ("2000-07-30T18:08:19Z", 964980499), ("2000-07-30 20:08:19+02:00", 964980499),
        (datetime(2000, 7, 30, 18, 8, 19), 964980499),
        (datetime(2000, 7, 30, 18, 8, 19, tzinfo=UTC), 964980499), (date(2000, 7, 30), 964915200),
        ("", None), (None, None), ("1700000000.25", 1700000000.25), ("-1.5", -1.5),
        ("2024-03-01T08:00:00-05:00", 1709298000), ("2024-03-01 08:00:01-0500", 1709298001),
        ("2024-03-01 18:30:00 +05:30", 1709298000), ("2024-03-01T18:30:00+0530", 1709298000),
        ("2024-03-01T08:00:00\u221205:00", 1709298000), ("2024-03-01t13:00:00z", 1709298000),
        ("20240301T130000Z", 1709298000), ("20240301", 1709251200), (20240301, 1709251200),
        (20240301.0, 1709251200), ("20240301.0", 1709251200), (Decimal(20240301), 1709251200),
        ("2024-03-01T13:00:00.5Z", 1709298000.5),
        ("2024-03-01T13:00:00.123456789Z", 1709298000.123456),
        ("2024-03-01 13:00:00 UTC", 1709298000), ("2024-03-01 13:00:00.25 utc", 1709298000.25),
        ("2024-03-01 13:00:00GMT", 1709298000), ("2024-03-01 08:00:00.5 -0500", 1709298000.5),
        ("2024-03-01 15:00:00.250000 +02:00", 1709298000.25), ("2024-03-01 15:00 +02", 1709298000),
        ("1960-01-01", -315619200), (Decimal("1700000000.5"), 1700000000.5),
        *((np.array(["2024-03-01T13"], dtype=f"datetime64[{unit}]")[0], 1709298000)
          for unit in ("h", "m", "s", "ms", "us", "ns")),
        (np.datetime64("2024-03", "M"), 1709251200), (np.datetime64("NaT"), None), (pd.NaT, None),
        (pd.Timestamp("2024-03-01T18:30", tz="Asia/Kolkata"), 1709298000),
        (pd.Timestamp("2024-03-01T13:00:00.25"), 1709298000.25),
    ],
)  # fmt: skip
def test_a_timestamp_is_seconds_in_utc(value: object, expected: float | None) -> None:
    parsed = parse_timestamp(value)
    assert parsed == expected
    assert type(parsed) is type(expected)


@pytest.mark.parametrize(
    "value",
    ["yesterday", "2000-13-01", math.nan, "nan", "inf", True, [1], "1_000", "2024/03/01", "13:00"],
)
def test_a_bad_timestamp_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="seconds since 1970, or an ISO date"):
        parse_timestamp(value)


@pytest.mark.parametrize(
    ("value", "way_out"),
    [
        (964980499000, "milliseconds: divide by 1,000$"),
        ("964980499000000", "microseconds: divide by 1,000,000$"),
        (964980499000000000, "nanoseconds: divide by 1,000,000,000$"),
        (9.64e17, "nanoseconds: divide by 1,000,000,000$"),
    ],
)
def test_units_other_than_seconds_are_named(value: object, way_out: str) -> None:
    with pytest.raises(ValueError, match=way_out):
        parse_timestamp(value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a", "a"), (" ", None), (True, True), (3, 3), (3.5, 3.5), (Decimal("3.5"), 3.5),
        (math.nan, None), (["a", None, "b", 3], ("a", "b", "3")), ([["a"], ["b"]], ("a", "b")),
        ([None, " "], None), ([], None),
        ({"size": "L", "tags": ["x", "y"], "none": None}, ("size: L", "tags: x, y")), ({}, None),
        ([{"id": 18, "name": "Drama"}, {"id": 35, "name": "Comedy"}], ("Drama", "Comedy")),
        ({"Audio": "Dolby", "page_count": 320, "imdbId": 7}, ("Audio: Dolby", "page_count: 320")),
        ([{"name": "Tom", "role": "actor"}, {"id": 1}], ("Tom, role: actor", "id: 1")),
        ({"size": {"w": 3.0, "h": None}}, ("size: w: 3",)), ([{"name": " "}], None),
        ([1.0, 2.5], ("1", "2.5")), ([np.array([1.0, np.nan])], ("1",)),
        ([np.float32("nan")], None),
        (date(2020, 1, 2), "2020-01-02"), (time(3), "03:00:00"), (2**70, 2**70),
        (Decimal(9007199254740993), 9007199254740993), ({"half \ud83d": 1}, ("half \ufffd: 1",)),
    ],
)  # fmt: skip
def test_attributes(value: object, expected: object) -> None:
    parsed = parse_attribute(value)
    assert parsed == expected
    assert type(parsed) is type(expected)


@pytest.mark.parametrize(
    "value",
    [
        b"\x00", math.inf, -math.inf, Decimal("Infinity"), {1}, object(), [1.5, math.inf],
        (np.float32("-inf"),), {"height": math.inf}, [["a"], [Decimal("Infinity")]],
    ],
)  # fmt: skip
def test_what_is_no_attribute_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="list of texts"):
        parse_attribute(value)


def test_text_of_a_list_is_joined_and_a_decoded_picture_gives_its_path() -> None:
    assert parse_text(["First.", None, "Second."]) == "First.\nSecond."
    assert parse_path({"bytes": b"", "path": "images/1.png"}) == "images/1.png"
    assert parse_path({"bytes": b"x", "path": None}) is None


def test_half_a_surrogate_pair_is_repaired_so_that_text_can_be_encoded() -> None:
    assert clean("fine 😀") == "fine 😀"
    assert clean("half \ud83d") == "half \ufffd"
    assert clean("\ud83d\ude00") == "😀"


def test_split_list_leaves_no_empty_parts() -> None:
    assert split_list("Comedy| Drama||", "|") == ("Comedy", "Drama")
    assert split_list("|", "|") is None
    assert split_list(("a",), "|") == ("a",)


def test_csv_columns_get_a_type_only_where_all_of_it_has_it() -> None:
    assert list(typed(["1995", None, "-3"])) == [1995, None, -3]
    assert list(typed(["1.5", "2"])) == [1.5, 2.0]
    assert list(typed(["true", "False", "TRUE"])) == [True, False, True]
    assert list(typed(["9007199254740993.0", "1"])) == [9007199254740993, 1]
    assert list(typed(["1.5", "9007199254740993"])) == [1.5, 9007199254740993]
    assert list(typed(["9" * 30])) == [int("9" * 30)]
    assert list(typed(["1.5", "1.0e400"])) == ["1.5", "1.0e400"]
    assert list(typed(["19,99"])) == ["19,99"]
    assert list(typed(["0114709", "12"])) == ["0114709", "12"]
    assert list(typed(["1995", "unknown"])) == ["1995", "unknown"]
    assert list(typed([("a",), "1"])) == [("a",), "1"]


def test_floats_that_are_all_whole_become_whole() -> None:
    years = list(whole([1995.0, None]))
    assert years == [1995, None]
    assert isinstance(years[0], int)
    assert list(whole([1995.0, 1.5])) == [1995.0, 1.5]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (("Comedy", "Drama"), "Comedy, Drama"), (81.0, "81"), (8.1, "8.1"), (1995, "1995"),
        (True, "yes"), (False, "no"), ("steel", "steel"), (25_000_000, "25000000"),
    ],
)  # fmt: skip
def test_attributes_read_as_people_write_them(value: AttributeValue, text: str) -> None:
    assert value_text(value) == text
    assert ", ".join(readable_attributes({"a": value})["a"]) == text


@pytest.mark.parametrize(
    "name",
    ["imdb_id", "ids", "image_url", "URL", "n_ratings", "num_reviews", "view_count", "also_buy",
     "image_source", "isbn", "asin", "path", "isbn13", "ISBN_10", "ean", "gtin14", "upc", "barcode",
     "EAN-13", "isbn 13", "Barcode number", "imdbId", "unixReleaseTime",
     "sku"],
)  # fmt: skip
def test_columns_for_machines_and_counts_are_left_out(name: str) -> None:
    assert readable_attributes({name: "something"}) == {}


@pytest.mark.parametrize(
    "name", ["genres", "national", "discount", "country", "sound", "ocean", "Also known as"]
)
def test_names_that_only_look_like_them_stay(name: str) -> None:
    assert readable_attributes({name: "something"}) == {name: ("something",)}


def test_codes_and_addresses_are_no_values() -> None:
    related = ("B00AZWJ123", "https://a.example/b", "25000000", "a lamp")
    assert readable_attributes({"related": related, "x": " "}) == {"related": ("a lamp",)}
