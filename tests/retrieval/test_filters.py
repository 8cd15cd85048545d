from __future__ import annotations

from collections.abc import Sequence

import pytest

from llmrec.errors import OptionError
from llmrec.records import Item
from llmrec.retrieval import AttributeColumns, Equals, Filter, OneOf, Range, parse_filter

ITEMS = (
    Item(
        "1", attributes={"year": 1989, "genres": ("Comedy", "Drama"), "brand": "A", "stock": True}
    ),
    Item("2", attributes={"year": 1990, "genres": ("Drama",), "brand": "B", "stock": False}),
    Item("3", attributes={"year": 1999.0, "genres": (), "brand": "A|B"}),
    Item("4", attributes={"genres": ("Comedy",), "brand": "1990"}),
)


def kept(*filters: Filter, items: Sequence[Item] = ITEMS) -> str:
    mask = AttributeColumns({item.item_id: item for item in items}).mask(filters)
    return "".join(item.item_id for item, keep in zip(items, mask, strict=True) if keep)


@pytest.mark.parametrize(
    ("text", "parsed", "ids"),
    [
        ("genres=Comedy", Equals("genres", "Comedy"), "14"),
        ("year=1990", Equals("year", "1990"), "2"),
        ("year=1999", Equals("year", "1999"), "3"),
        ("brand=1990", Equals("brand", "1990"), "4"),
        ("stock=true", Equals("stock", "true"), "1"),
        ("stock=No", Equals("stock", "No"), "2"),
        ("brand=A|B", OneOf("brand", ("A", "B")), "12"),
        ("genres = Drama | Horror", OneOf("genres", ("Drama", "Horror")), "12"),
        ("year=1989|1999", OneOf("year", ("1989", "1999")), "13"),
        ("year>=1990", Range("year", low=1990), "23"),
        ("year<=1990", Range("year", high=1990), "12"),
        ("year=1990..1998.5", Range("year", 1990, 1998.5), "2"),
        ("brand=a..b", Equals("brand", "a..b"), ""),
        ("genres=comedy", Equals("genres", "comedy"), ""),
        ("brand=x=y", Equals("brand", "x=y"), ""),
    ],
)
def test_a_written_filter(text: str, parsed: Filter, ids: str) -> None:
    assert parse_filter(text) == parsed
    assert kept(parsed) == ids


def test_typed_values_in_python() -> None:
    assert kept(Equals("year", 1990)) == "2"
    assert kept(Equals("year", 1990.0)) == "2"
    assert kept(Equals("stock", value=True)) == "1"
    assert kept(OneOf("year", (1989, 1990))) == "12"


def test_all_filters_must_hold() -> None:
    assert kept(Equals("genres", "Drama"), Range("year", high=1989)) == "1"
    assert kept() == "1234"


@pytest.mark.parametrize("text", ["", "genres", "=Comedy", "genres=", "year>1990", "year=>1990"])
def test_text_of_no_known_form_is_refused_with_the_forms(text: str) -> None:
    with pytest.raises(OptionError, match="is not understood") as caught:
        parse_filter(text)
    assert "low..high" in caught.value.hint


def test_an_unknown_attribute_is_refused_with_the_nearest() -> None:
    with pytest.raises(OptionError, match="genre'") as caught:
        kept(Equals("genre", "Comedy"))
    assert "'genres'" in caught.value.hint


@pytest.mark.parametrize(
    ("condition", "what"),
    [
        (Equals("year", "recent"), "'recent' is none"),
        (Equals("stock", "plenty"), "true or false"),
        (Range("brand", low=3), "cannot be compared with a number: it holds 'A'"),
        (Range("genres", low=3), "cannot be compared with a number"),
        (Range("stock", low=0), "cannot be compared with a number: it holds True"),
    ],
)
def test_incomparable_values_are_refused(condition: Filter, what: str) -> None:
    with pytest.raises(OptionError, match=what):
        kept(condition)


@pytest.mark.parametrize(
    ("low", "high"), [(None, None), (2.0, 1.0), (float("nan"), None), (1.0, float("nan"))]
)
def test_a_range_needs_an_end_and_the_right_order(low: float | None, high: float | None) -> None:
    with pytest.raises(OptionError, match="year"):
        Range("year", low, high)


def test_empty_one_of_is_refused() -> None:
    with pytest.raises(OptionError, match="brand"):
        OneOf("brand", ())


@pytest.mark.parametrize("text", ["year>=new", "year<=nan"])
def test_a_written_bound_must_be_a_number(text: str) -> None:
    with pytest.raises(OptionError, match="is compared as a number"):
        parse_filter(text)
