"""Files as other programs write them: suffixes, separators, encodings, index columns."""

from __future__ import annotations

import gzip
import io
import json
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet

from llmrec.catalog import Catalog, ColumnMap, Fact, check_folder
from llmrec.errors import DataError, UnknownUserError
from llmrec.records import Item

HEAT = {"1": Item("1", "Heat"), "2": Item("2", "Dune")}
CSV = "item_id,title\n1,Heat\n2,Dune\n"
JSONL = '{"item_id": 1, "title": "Heat"}\n{"item_id": 2, "title": "Dune"}\n'


def parquet_bytes() -> bytes:
    sink = io.BytesIO()
    parquet.write_table(pa.table({"item_id": [1, 2], "title": ["Heat", "Dune"]}), sink)
    return sink.getvalue()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("items.CSV", CSV.encode()),
        ("Items.Csv", CSV.encode()),
        ("items.JSONL", JSONL.encode()),
        ("items.ndjson", JSONL.encode()),
        ("items.json", b'[{"item_id": 1, "title": "Heat"},\n {"item_id": "2", "title": "Dune"}]'),
        ("items.tsv", CSV.replace(",", "\t").encode()),
        ("items.csv.gz", gzip.compress(CSV.encode(), mtime=0)),
        ("ITEMS.JSONL.GZ", gzip.compress(JSONL.encode(), mtime=0)),
        ("items.PARQUET", parquet_bytes()),
        ("items.parquet.gz", gzip.compress(parquet_bytes(), mtime=0)),
        ("items.csv", b"\xef\xbb\xbf" + CSV.encode()),
        ("items.csv", CSV.encode("utf-16")),
        ("items.jsonl", b"\xfe\xff" + JSONL.encode("utf-16-be")),
    ],
)
def test_a_table_is_read_whatever_its_suffix_and_encoding(
    tmp_path: Path, name: str, content: bytes
) -> None:
    (tmp_path / name).write_bytes(content)
    assert Catalog.from_folder(tmp_path).items == HEAT


@pytest.mark.parametrize(
    "content",
    [
        "item_id;title\n1;Heat\n2;Dune\n",
        "item_id\ttitle\n1\tHeat\n2\tDune\n",
        "item_id|title\n1|Heat\n2|Dune\n",
        '"item_id";"title"\n"1";"Heat"\n2;Dune\n',
        "sep=;\r\nitem_id;title\r\n1;Heat\r\n2;Dune\r\n",
        'title;item_id\n"Heat";1\nDune;2\n',
    ],
)
def test_another_separator_is_recognised_and_noted(tmp_path: Path, content: str) -> None:
    (tmp_path / "items.csv").write_text(content)
    assert Catalog.from_folder(tmp_path).items == HEAT
    assert any("items.csv is read as separated by" in note for note in check_folder(tmp_path).notes)


@pytest.mark.parametrize(
    "content", ['item_id,title\n1,"a;b"\n', 'item_id,"a;b;c;d"\n1,x\n', "item_id,a|b|c\n1,x\n"]
)
def test_a_comma_stays_the_separator_where_the_header_has_it(tmp_path: Path, content: str) -> None:
    (tmp_path / "items.csv").write_text(content)
    report = check_folder(tmp_path)
    assert (report.counts["items"], report.problems) == (1, ())
    assert not any("separated" in note for note in report.notes)


def test_separators_are_found_through_a_column_map(tmp_path: Path) -> None:
    (tmp_path / "films.csv").write_text("movieId;name\n1;Heat\n2;Dune\n")
    columns = {"file": "films.csv", "columns": {"item_id": "movieId", "title": "name"}}
    read = Catalog.from_folder(tmp_path, columns=ColumnMap.model_validate({"items": columns}))
    assert read.items == HEAT


def test_a_column_map_that_joins_columns_is_refused(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text("item_id;title\n1;Heat\n")
    columns = ColumnMap.model_validate({"items": {"columns": {"item_id": "item_id;title"}}})
    (problem,) = check_folder(tmp_path, columns).problems
    assert "Leave 'item_id' out of the column map" in problem.message


@pytest.mark.parametrize(
    ("first", "second", "number"),
    [
        ("19,99", "5,00", "19.99"),
        ("19,99", "5", "19.99"),
        ("1.299,00", "12,5", "1299.00"),
        ("-1 299,5", "3", "-1299.5"),
    ],
)
def test_a_decimal_comma_is_noted(tmp_path: Path, first: str, second: str, number: str) -> None:
    rows = f"item_id;title;price\n1;Heat;{first}\n2;Dune;{second}\n"
    (tmp_path / "items.csv").write_text(rows)
    assert Catalog.from_folder(tmp_path).items["1"].attributes == {"price": first}
    notes = "\n".join(check_folder(tmp_path).notes)
    assert f"items.price stays text: '{first}' has a decimal comma; write '{number}'" in notes


def test_words_with_commas_are_no_numbers(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text("item_id;title;size\n1;Heat;1,5\n2;Dune;wide\n")
    assert not any("decimal comma" in note for note in check_folder(tmp_path).notes)


@pytest.mark.parametrize("index", ["", " ", "Unnamed: 0", "Unnamed: 0_level_1"])
def test_a_column_without_a_name_is_left_out_and_noted(tmp_path: Path, index: str) -> None:
    (tmp_path / "items.csv").write_text(f"{index},item_id,title\n0,1,Heat\n1,2,Dune\n")
    assert Catalog.from_folder(tmp_path).items == HEAT
    assert any("a column without a name" in note for note in check_folder(tmp_path).notes)


def test_trailing_empty_columns_and_the_index_of_a_frame_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text("item_id,title,,\n1,Heat,,\n2,Dune,,\n")
    assert Catalog.from_folder(tmp_path).items == HEAT
    frame = pd.DataFrame({"item_id": [1, 2], "title": ["Heat", "Dune"]}, index=[5, 7])
    frame.to_parquet(tmp_path / "items.parquet")
    (tmp_path / "items.csv").unlink()
    assert Catalog.from_folder(tmp_path).items == HEAT
    (tmp_path / "items.parquet").unlink()
    (tmp_path / "items.jsonl").write_text('{"item_id": 1, "title": "Heat", "": 0}')
    assert Catalog.from_folder(tmp_path).items["1"].attributes == {}


@pytest.mark.parametrize(
    "name",
    ["interactions.xlsx", "interactions.txt", "interactions.zip", "interactions.csv.bz2",
     "interactions", "ratings.csv", "Interactions2.CSV", "users.feather"],
)  # fmt: skip
def test_a_file_that_is_not_read_is_noted(tmp_path: Path, name: str) -> None:
    (tmp_path / "items.csv").write_text(CSV)
    (tmp_path / name).write_text("user_id,item_id\nu,1\n")
    report = check_folder(tmp_path)
    assert report.counts["interactions"] == 0
    assert any(note.startswith(f"{name} is not read: ") for note in report.notes)


def test_pictures_and_notes_about_the_data_are_not_noted(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text(CSV)
    for name in ("README.md", "README.txt", "LICENSE", ".DS_Store", "a.png", "b.mp4", "c.wav"):
        (tmp_path / name).write_text("")
    assert check_folder(tmp_path).notes == ()


def test_many_unread_files_are_counted(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text(CSV)
    for number in range(30):
        (tmp_path / f"part-{number:02}.txt").write_text("")
    notes = check_folder(tmp_path).notes
    assert len(notes) == 9
    assert notes[-1] == "22 more files are not read"


def test_two_files_of_one_table_are_refused_in_any_spelling(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text(CSV)
    (tmp_path / "ITEMS.CSV.GZ").write_bytes(gzip.compress(CSV.encode(), mtime=0))
    report = check_folder(tmp_path)
    (problem,) = report.problems
    assert "ITEMS.CSV.GZ and items.csv are both there" in problem.message
    assert all("another file is the table items, or claims to be" in each for each in report.notes)


def test_one_id_is_the_same_in_every_table_and_type(tmp_path: Path) -> None:
    kind = pa.decimal128(38, 0)
    items = pa.table({"item_id": pa.array([Decimal(1), Decimal(2)], kind)})
    parquet.write_table(items, tmp_path / "items.parquet")
    (tmp_path / "interactions.csv").write_text("user_id,item_id\n9.0,1.0\n9.0,2.0\n")
    (tmp_path / "reviews.jsonl").write_text('{"item_id": 1.0, "text": "a", "user_id": 9}')
    (tmp_path / "users.csv").write_text("user_id,age\n9,3\n")
    (tmp_path / "social.jsonl").write_text('{"user_id": "9", "friend_id": 8.0}')
    (tmp_path / "facts.csv").write_text("head,relation,tail\n1.0,sequel,2.0\n")
    catalog = Catalog.from_folder(tmp_path)
    assert catalog.user_ids == ("8", "9")
    assert [row.item_id for row in catalog.user("9").history] == ["1", "2"]
    assert (catalog.reviews[0].item_id, catalog.reviews[0].user_id) == ("1", "9")
    assert catalog.facts == (Fact("1", "sequel", "2"),)
    notes = check_folder(tmp_path).notes
    assert any("interactions.user_id holds whole numbers with .0" in note for note in notes)


def test_versions_and_codes_stay_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text("item_id\n1.0\n1.10\n007\n")
    assert list(Catalog.from_folder(tmp_path).items) == ["1.0", "1.10", "007"]


@pytest.mark.parametrize("asked", ["Am\u00e9lie", "Ame\u0301lie"])
def test_composed_and_decomposed_ids_are_one(tmp_path: Path, asked: str) -> None:
    (tmp_path / "items.jsonl").write_text(json.dumps({"item_id": "caf\u00e9"}))
    row = {"user_id": "Ame\u0301lie", "item_id": "cafe\u0301"}
    (tmp_path / "interactions.jsonl").write_text(json.dumps(row))
    (tmp_path / "users.jsonl").write_text(json.dumps({"user_id": "Am\u00e9lie", "age": 3}))
    catalog = Catalog.from_folder(tmp_path)
    assert catalog.user_ids == ("Am\u00e9lie",)
    assert catalog.user(asked).profile == {"age": 3}
    with pytest.raises(UnknownUserError):
        catalog.user("Amelie")


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_times_keep_their_order_within_a_second(tmp_path: Path, unit: str) -> None:
    (tmp_path / "items.csv").write_text("item_id\na\nb\nc\n")
    later = "2024-03-01T13:00:00" + ("" if unit == "s" else ".9")
    earlier = "2024-03-01T12:59:59" + ("" if unit == "s" else ".9")
    times = np.array([later, "2024-03-01T13:00:00", earlier], dtype=f"datetime64[{unit}]")
    table = pa.table({"user_id": ["u"] * 3, "item_id": ["a", "b", "c"], "timestamp": times})
    parquet.write_table(table, tmp_path / "interactions.parquet")
    order = [row.item_id for row in Catalog.from_folder(tmp_path).user("u").history]
    assert order == (["c", "a", "b"] if unit == "s" else ["c", "b", "a"])


@pytest.mark.parametrize("kind", [pa.timestamp("s"), pa.date32()])
def test_a_time_after_the_year_9999_is_named(tmp_path: Path, kind: pa.DataType) -> None:
    times = pa.array([2**38 if kind == pa.timestamp("s") else 2**22], kind)
    table = pa.table({"item_id": [1], "released": times})
    parquet.write_table(table, tmp_path / "items.parquet")
    said = "has a time outside the years 1 to 9999 in the column 'released'"
    (problem,) = check_folder(tmp_path).problems
    assert problem.message.startswith(f"'items.parquet' {said}")
    with pytest.raises(DataError, match=f"items {said}"):
        Catalog.from_datasets(table)


def test_repeated_interactions_are_kept_and_noted(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text(CSV)
    rows = "u,1,2024-03-01\nu,1,2024-03-01\nu,2,1700000000.1\nu,2,1700000000.9\n"
    (tmp_path / "interactions.csv").write_text("user_id,item_id,timestamp\n" + rows)
    report = check_folder(tmp_path)
    assert (report.problems, report.counts["interactions"]) == ((), 4)
    assert any("1 interactions repeat another one" in note for note in report.notes)
