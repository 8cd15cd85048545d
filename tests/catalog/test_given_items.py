from __future__ import annotations

import gzip
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llmrec.catalog.given_items import GivenItem, read_item, read_items, read_items_file
from llmrec.errors import DataError
from llmrec.records import Candidate, Interaction, Item, Review

DUNE = {"item_id": 7, "title": "Dune", "year": 2021, "genres": ["SF", "Drama"], "score": 0.5}
DUNE_READ = GivenItem(
    Item("7", "Dune", attributes={"year": 2021, "genres": ("SF", "Drama")}), score=0.5
)


def read(value: object) -> GivenItem:
    return read_item(value, where="candidates[3]")


@pytest.mark.parametrize(
    ("value", "item", "bare"),
    [
        (" Alien ", Item("Alien", "Alien"), True), (np.str_("Alien"), Item("Alien", "Alien"), True),
        (7, Item("7"), True), (7.0, Item("7"), True), (np.int64(7), Item("7"), True),
        (Decimal("7.0"), Item("7"), True), ({"id": "007"}, Item("007"), True),
        ({"title": "Alien"}, Item("Alien", "Alien"), False),
        ({"item_id": "a", "id": 3, "title": 1917}, Item("a", "1917"), False),
        (pd.Series({"id": 7, "title": "Dune"}), Item("7", "Dune"), False),
        (Item("a", "A", attributes={"x": 1}), Item("a", "A", attributes={"x": 1}), False),
    ],
    ids=repr,
)  # fmt: skip
def test_an_item_is_text_a_number_a_mapping_or_a_record(
    value: object, item: Item, bare: bool
) -> None:
    assert read(value) == GivenItem(item, bare=bare)
    assert read(read(value)) == GivenItem(item, bare=bare)


def test_records_keep_score_or_rating_and_time() -> None:
    candidate = read(Candidate("a", 0.25, {"content": 1.0}))
    assert candidate == GivenItem(Item("a"), score=0.25, signals={"content": 1.0}, bare=True)
    row = read(Interaction("u", "a", 4.0, 9))
    assert row == GivenItem(Item("a"), rating=4.0, timestamp=9, bare=True)


def test_every_key_of_a_mapping_is_read() -> None:
    given = read(
        {
            "id": 7,
            "title": "Dune",
            "description": ["Sand.", "Worms."],
            "image": {"path": "dune.png", "bytes": b""},
            "video": "dune.mp4",
            "audio": "dune.wav",
            "caption": "A desert",
            "reviews": [
                "Great.",
                " ",
                {"text": "Long", "rating": 2, "user_id": 5, "timestamp": 8, "votes": 1},
                Review("other", "Fine", 3.0),
            ],
            "score": np.float32(0.5),
            "rating": "4.5",
            "timestamp": "2020-01-01",
            "attributes": {"year": Decimal(2021), "cast": np.array(["A", "B"])},
            "runtime": np.int32(155),
            "released": np.datetime64("2021-09-03T00:00:00", "ns"),
        }
    )
    assert given == GivenItem(
        Item(
            "7",
            "Dune",
            "Sand.\nWorms.",
            {
                "runtime": 155,
                "released": "2021-09-03T00:00:00",
                "year": 2021,
                "cast": ("A", "B"),
            },
            "dune.png",
            "dune.mp4",
            "dune.wav",
        ),
        (Review("7", "Great."), Review("7", "Long", 2.0, "5", 8), Review("7", "Fine", 3.0)),
        "A desert",
        0.5,
        4.5,
        1_577_836_800,
    )
    assert type(given.item.attributes["runtime"]) is type(given.item.attributes["year"]) is int


@pytest.mark.parametrize(
    "missing", [None, float("nan"), np.nan, pd.NaT, pd.NA, np.datetime64("NaT"), Decimal("NaN"),
                " ", [], {}, np.array([])], ids=repr,
)  # fmt: skip
def test_a_missing_value_is_left_out(missing: object) -> None:
    names = (
        "id", "description", "image", "caption", "reviews", "score", "rating", "timestamp",
        "attributes", "year",
    )  # fmt: skip
    given = read({"title": "Dune"} | dict.fromkeys(names, missing))
    assert given == GivenItem(Item("Dune", "Dune"))


@pytest.mark.parametrize("reviews", ["Great.", {"text": "Great."}, ("Great.",)], ids=repr)
def test_one_review_needs_no_list(reviews: object) -> None:
    assert read({"id": 7, "reviews": reviews}).reviews == (Review("7", "Great."),)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (None, "is None (NoneType)"),
        (float("nan"), "is nan (float)"),
        ("  ", "is blank text (str)"),
        (True, "is True (bool)"),
        (7.5, "is 7.5 (float)"),
        (b"Alien", "is b'Alien' (bytes)"),
        (("Alien", 5), "is ('Alien', 5) (tuple)"),
        ([], "is [] (list)"),
        (object(), "(object); allowed is a title (text), an id (a whole number), a mapping"),
        ({}, "has neither item_id (or id) nor title; its keys are none"),
        ({"titel": "Dune", "year": 3}, "its keys are 'titel', 'year'. Did you mean 'title'?"),
        ({"id": " ", "title": None}, "has neither item_id (or id) nor title"),
        ({"id": True}, ": id True is not allowed: an id is text or a whole number"),
        ({"id": 7.5}, ": id 7.5 is not allowed"),
        ({"id": ["7"]}, ": id ['7'] is not allowed"),
        ({"title": {"en": "Dune"}}, ": title {'en': 'Dune'} is not allowed: text, a number"),
        ({"id": 7, "image": 0j}, ": image 0j is not allowed"),
        ({"id": 7, "score": "high"}, ": score 'high' is not allowed: a score is a finite number"),
        ({"id": 7, "score": float("inf")}, ": score inf is not allowed"),
        ({"id": 7, "score": 10**400}, ": score 1000"),
        ({"id": 7, "score": True}, ": score True is not allowed"),
        ({"id": 7, "rating": "PG-13"}, '. If it describes the item: {"attributes": {"rating"'),
        ({"id": 7, "timestamp": "soon"}, ": timestamp 'soon' is not allowed: a timestamp is"),
        ({"id": 7, "reviews": 3}, ": reviews 3 is not allowed: reviews are a list of texts"),
        ({"id": 7, "reviews": [{"txt": "x"}]}, ": reviews[0] has no text; its keys are 'txt'"),
        ({"id": 7, "reviews": ["x", object()]}, ": reviews[1]: text <object"),
        ({"id": 7, "reviews": [{"text": "x", "rating": "bad"}]}, ": reviews[0]: rating 'bad'"),
        ({"id": 7, "attributes": ["SF"]}, ": attributes ['SF'] is not allowed: attributes are"),
        ({"id": 7, "attributes": {"a": 1}, "a": 2}, "has 'a' twice"),
        ({"id": 7, "year": {2021}}, ": year {2021} is not allowed: an attribute is text"),
        (Item(""), ": the item_id of an Item is blank text"),
        (Interaction("u", ""), "has neither"),
        (Candidate("a", float("-inf")), ": score -inf is not allowed"),
    ],
    ids=lambda given: type(given).__name__,  # the repr of an object() differs between workers
)  # fmt: skip
def test_a_value_that_is_no_item_is_named(value: object, says: str) -> None:
    with pytest.raises(DataError) as caught:
        read(value)
    assert str(caught.value).startswith("candidates[3]")
    assert says in str(caught.value)
    assert len(str(caught.value)) < 320


TABLES: dict[str, Callable[[], object]] = {
    "list": lambda: [DUNE, {"title": "Heat", "year": None}],
    "generator": lambda: (row for row in (DUNE, {"title": "Heat"})),
    "object array": lambda: np.array([DUNE, {"title": "Heat"}], dtype=object),
    "DataFrame": lambda: pd.DataFrame([DUNE, {"title": "Heat"}]),
    "DataFrame by id": lambda: pd.DataFrame([DUNE, {"title": "Heat"}]).set_index("item_id"),
    "arrow table": lambda: pa.Table.from_pylist([DUNE, {"title": "Heat"}]),
    "dataset": lambda: datasets.Dataset.from_list([DUNE, {"title": "Heat"}]),
    "rows of a dataset": lambda: list(datasets.Dataset.from_list([DUNE, {"title": "Heat"}])),
}


@pytest.mark.parametrize("name", TABLES)
def test_a_table_is_read_row_by_row(name: str) -> None:
    found = read_items(TABLES[name](), where="candidates")
    assert found == (DUNE_READ, GivenItem(Item("Heat", "Heat")))


@pytest.mark.parametrize(
    "values",
    [
        ["Alien", "Heat"], ("Alien", "Heat"), {"Alien": 1, "Heat": 2}.keys(),
        np.array(["Alien", "Heat"]), pd.Series(["Alien", "Heat"]), pd.Index(["Alien", "Heat"]),
        pa.array(["Alien", "Heat"]), pa.table({"title": ["Alien", "Heat"]})["title"],
        datasets.Dataset.from_dict({"title": ["Alien", "Heat"]})["title"],
    ],
    ids=lambda values: type(values).__name__,
)  # fmt: skip
def test_a_column_of_titles_is_a_list(values: object) -> None:
    titles = [given.item.title for given in read_items(values, where="history")]
    assert titles == ["Alien", "Heat"]


@pytest.mark.parametrize(
    "empty", [[], (), pd.DataFrame(), pd.Series([], dtype=str), np.array([]), pa.table({})],
    ids=lambda values: type(values).__name__,
)  # fmt: skip
def test_an_empty_list_has_no_items(empty: object) -> None:
    assert read_items(empty, where="history") == ()


def test_times_of_a_table_in_nanoseconds_become_seconds() -> None:
    when = pd.Timestamp("2020-01-01T00:00:00.000000001")
    frame = pd.DataFrame({"id": [1, 2], "timestamp": [when, pd.NaT]})
    for table in (frame, pa.Table.from_pandas(frame)):
        times = [given.timestamp for given in read_items(table, where="history")]
        assert times == [int(datetime(2020, 1, 1, tzinfo=UTC).timestamp()), None]


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ("Alien", "is 'Alien' (str); allowed is a list"),
        (" ", "is blank text (str)"),
        (DUNE, "Put it into a list: [...]."),
        (None, "is None (NoneType)"),
        (7, "is 7 (int)"),
        (b"ab", "(bytes)"),
        ({"Alien", "Heat"}, "(set); allowed is a list, another iterable in a fixed order"),
        (Item("a"), "(Item)"),
        (np.array(7), "(ndarray)"),
        (np.array([["a"], ["b"]]), "(ndarray)"),
        (datasets.DatasetDict(train=datasets.Dataset.from_dict({"id": [1]})), "data['train']"),
        (pd.DataFrame([[1, 2]], columns=["id", "id"]), "has the column 'id' twice"),
        (pa.Table.from_arrays([pa.array([1])] * 2, names=["id", "id"]), "has the column 'id'"),
        (pa.table({"at": pa.array([2**38], pa.timestamp("s"))}), "in the column 'at'"),
    ],
    ids=lambda values: type(values).__name__,
)  # fmt: skip
def test_non_list_of_items_is_refused(values: object, says: str) -> None:
    with pytest.raises(DataError) as caught:
        read_items(values, where="candidates")
    assert str(caught.value).startswith("candidates ")
    assert says in str(caught.value)


@pytest.mark.parametrize(
    "values", [["Alien", ""], ("Alien", None), pd.Series(["Alien", None]),
               pd.DataFrame({"title": ["Alien", None]}), [{"title": "Alien"}, {"name": "x"}]],
    ids=lambda values: type(values).__name__,
)  # fmt: skip
def test_a_broken_entry_is_named_by_its_place(values: object) -> None:
    with pytest.raises(DataError, match=r"^candidates\[1\] "):
        read_items(values, where="candidates")


def test_other_packages_are_not_imported() -> None:
    code = (
        "import sys\n"
        "from llmrec.catalog.given_items import read_items\n"
        "assert read_items(['Alien', {'id': 7}], where='candidates')\n"
        "sys.exit(bool({'pandas', 'datasets', 'torch'} & {*sys.modules}))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_table_of_items_is_read_from_a_file(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"item_id": "007", "title": "Dune", "year": 2021, "caption": "Sand", "score": 0.5},
        {"item_id": "8", "title": "Heat", "caption": "A city"},
    ]
    dune = GivenItem(Item("007", "Dune", attributes={"year": 2021}), (), "Sand", 0.5)
    heat = GivenItem(Item("8", "Heat"), (), "A city")
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "items.parquet")
    pd.DataFrame(rows).to_csv(tmp_path / "items.csv", index=False)
    pd.DataFrame(rows).to_json(tmp_path / "items.jsonl", orient="records", lines=True)
    (tmp_path / "ITEMS.CSV.gz").write_bytes(gzip.compress((tmp_path / "items.csv").read_bytes()))
    for path in tmp_path.iterdir():
        assert read_items_file(path) == (dune, heat)


@pytest.mark.parametrize("column", ["id", "item_id"])
def test_ids_of_a_csv_that_all_have_a_decimal_point_lose_it(tmp_path: Path, column: str) -> None:
    (tmp_path / "items.csv").write_text(f"{column},title\n1.0,Heat\n2.0,Dune\n")
    items = [given.item for given in read_items_file(tmp_path / "items.csv")]
    assert items == [Item("1", "Heat"), Item("2", "Dune")]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("items.txt", "x", "must end in .jsonl, .parquet, .csv"),
        ("absent.csv", None, "There is no items table"),
        ("items.csv", "", "'items.csv' is empty"),
        ("items.csv", "id,title\n1\n", "1 problem in"),
        ("items.csv", "id,title\n1,A\n,\n", "items.csv' row 2 has neither"),
        ("items.csv", "id,title\n1,A\n1,B\n", "items.csv' row 2: the id '1' is that of row 1"),
        ("items.jsonl", '{"id": 1}\n{"id"', "row 2: the line"),
        ("items.jsonl", '{"id": 1, "score": "x"}\n', "items.jsonl' row 1: score 'x'"),
        ("items.parquet", "x", "cannot be read as parquet"),
    ],
)
def test_a_broken_table_of_items_is_named(
    tmp_path: Path, name: str, content: str | None, says: str
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_text(content)
    with pytest.raises(DataError) as caught:
        read_items_file(path)
    assert says in str(caught.value)
    assert name in str(caught.value)


@pytest.mark.parametrize("name", ["", "Unnamed: 0", "__index_level_0__"])
def test_the_index_of_a_frame_is_no_attribute(name: str) -> None:
    frame = pd.DataFrame({name: [0], "title": ["Heat"]})
    for given in (frame, pa.Table.from_pandas(frame), frame.to_dict("records")):
        (item,) = read_items(given, where="candidates")
        assert item.item == Item("Heat", "Heat")
