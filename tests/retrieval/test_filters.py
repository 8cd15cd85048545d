from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import pytest

from llmrec.catalog import Catalog
from llmrec.errors import OptionError
from llmrec.records import AttributeValue, Item
from llmrec.retrieval import AttributeColumns, Equals, Filter, Not, OneOf, Range, parse_filter

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
        ("year>1989", Not(Range("year", high=1989)), "23"),
        ("year<1990", Not(Range("year", low=1990)), "1"),
        ("year!=1990", Not(Equals("year", "1990")), "13"),
        ("year!=1989|1999", Not(OneOf("year", ("1989", "1999"))), "2"),
        ("year!=1990..1999", Not(Range("year", 1990, 1999)), "1"),
        ("year==1990", Equals("year", "1990"), "2"),
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


@pytest.mark.parametrize("text", ["", "genres", "=Comedy", "genres=", "year>", "year=>1990"])
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


BIG = [9007199254740993, 9007199254740992, 5, 102938475610293847, 2**70]


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("n=9007199254740993", "0"),
        ("n=9007199254740992", "1"),
        ("n=9007199254740993.0", "0"),
        ("n=102938475610293847", "3"),
        ("n=5|9007199254740993", "02"),
        ("n>=9007199254740993", "034"),
        ("n<=9007199254740992", "12"),
        ("n=9007199254740993..102938475610293847", "03"),
        (f"n={2**70}", "4"),
        ("n>=1e3", "0134"),
    ],
)
@pytest.mark.parametrize("stored", [int, Decimal])
def test_whole_numbers_compare_exactly(text: str, ids: str, stored: type) -> None:
    rows = [{"item_id": n, "n": stored(value)} for n, value in enumerate(BIG)]
    items = tuple(Catalog.from_datasets(rows).items.values())
    assert kept(parse_filter(text), items=items) == ids


TRUTHS: Sequence[Sequence[str | int | bool]] = [
    ("TRUE", "FALSE", "True"), ("yes", "no", "Yes"), ("T", "F", "t"), ("Y", "N", "y"), (1, 0, 1),
    ("1", "0", "1"), (True, False, True), ("true", False, 1),
]  # fmt: skip


@pytest.mark.parametrize("column", TRUTHS)
@pytest.mark.parametrize(
    ("yes", "no"),
    [("T", "F"), ("y", "n"), ("1", "0"), ("true", "FALSE"), ("Yes", "no"), (True, False)],
)
def test_truth_is_known_in_every_spelling(
    column: Sequence[str | int | bool], yes: str | bool, no: str | bool
) -> None:
    items = [Item(str(n), attributes={"x": value}) for n, value in enumerate(column)]
    for value, ids, others in ((yes, "02", "1"), (no, "1", "02")):
        assert kept(Equals("x", value), items=items) == ids
        assert kept(Not(Equals("x", value)), items=items) == others
    assert kept(OneOf("x", (yes, no)), items=items) == "012"


def test_words_and_numbers_that_only_look_like_truth_stay_what_they_are() -> None:
    values: list[AttributeValue] = ["F", "M", "no", 1, 2]
    items = [Item(str(n), attributes={"x": v}) for n, v in enumerate(values)]
    assert kept(Equals("x", "F"), items=items) == "0"
    assert kept(Equals("x", "no"), items=items) == "2"
    assert kept(Equals("x", "1"), items=items) == "3"


SEVERAL_TYPES: list[AttributeValue] = [1990, "1991", "new", 1992.5]
MIXED = [Item(str(n), attributes={"x": value}) for n, value in enumerate(SEVERAL_TYPES)]


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("x=new", "2"), ("x=1990", "0"), ("x=1991", "1"), ("x=new|1990", "02"), ("x=old", ""),
        ("x!=new", "013"), ("x!=1990", "123"), ("x!=new|1990", "13"),
    ],
)  # fmt: skip
def test_a_column_of_several_types_is_compared_value_by_value(text: str, ids: str) -> None:
    assert kept(parse_filter(text), items=MIXED) == ids


def test_values_that_a_range_cannot_be_compared_with_are_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert kept(Range("x", low=1991), items=MIXED) == "13"
    assert "1 of 4 values of x cannot be compared" in caplog.text


def test_text_is_equal_in_any_unicode_form() -> None:
    items = [
        Item("0", attributes={"x": "Ame\u0301lie"}),
        Item("1", attributes={"x": ("Am\u00e9lie",)}),
    ]
    for written in ("Ame\u0301lie", "Am\u00e9lie"):
        assert kept(Equals("x", written), items=items) == "01"
