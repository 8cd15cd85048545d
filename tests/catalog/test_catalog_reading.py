from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from datasets import Dataset
from pyarrow import csv, parquet

from llmrec.catalog import Catalog, ColumnMap, Fact, TableMap
from llmrec.errors import DataError
from llmrec.records import Interaction, Item, Review

Rows = Sequence[Mapping[str, object]]

ITEMS: Rows = [
    {"item_id": "007", "title": "Kettle", "description": "Boils.", "price": 20.5, "stock": 3},
    {"item_id": "008", "title": "Tea, green", "description": None, "price": 4.0, "stock": None},
]
INTERACTIONS: Rows = [
    {"user_id": "01", "item_id": "007", "rating": 4.5, "timestamp": 200},
    {"user_id": "01", "item_id": "008", "rating": None, "timestamp": 100},
]
REVIEWS: Rows = [
    {"item_id": "007", "rating": 5, "text": 'It "sings", \nloudly', "user_id": "02", "timestamp": 3}
]
USERS: Rows = [{"user_id": "02", "age": 31, "city": "Łódź"}]
SOCIAL: Rows = [{"user_id": "01", "friend_id": "02"}, {"user_id": "01", "friend_id": "03"}]
FACTS: Rows = [{"head": "007", "relation": "made_of", "tail": "steel"}]
TABLES = {
    "items": ITEMS,
    "interactions": INTERACTIONS,
    "reviews": REVIEWS,
    "users": USERS,
    "social": SOCIAL,
    "facts": FACTS,
}


def write_jsonl(rows: Rows, path: Path) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


WRITERS: Mapping[str, Callable[[Rows, Path], None]] = {
    "jsonl": write_jsonl,
    "parquet": lambda rows, path: parquet.write_table(pa.Table.from_pylist(list(rows)), path),
    "csv": lambda rows, path: csv.write_csv(pa.Table.from_pylist(list(rows)), path),
}


def folder_of(tmp_path: Path, suffix: str, tables: Mapping[str, Rows]) -> Path:
    for name, rows in tables.items():
        WRITERS[suffix](rows, tmp_path / f"{name}.{suffix}")
    return tmp_path


@pytest.mark.parametrize("suffix", WRITERS)
def test_every_table_is_the_same_from_each_format(tmp_path: Path, suffix: str) -> None:
    catalog = Catalog.from_folder(folder_of(tmp_path, suffix, TABLES))
    assert catalog.items == {
        "007": Item("007", "Kettle", "Boils.", {"price": 20.5, "stock": 3}),
        "008": Item("008", "Tea, green", "", {"price": 4.0}),
    }
    assert catalog.interactions == (
        Interaction("01", "007", 4.5, 200),
        Interaction("01", "008", None, 100),
    )
    assert catalog.reviews == (Review("007", 'It "sings", \nloudly', 5.0, "02", 3),)
    assert catalog.profiles == {"02": {"age": 31, "city": "Łódź"}}
    assert catalog.friends == {"01": ("02", "03")}
    assert catalog.facts == (Fact("007", "made_of", "steel"),)
    assert catalog.problems == ()
    others: dict[str, Any] = {name: rows for name, rows in TABLES.items() if name != "items"}
    in_memory = Catalog.from_datasets(ITEMS, **others)
    assert catalog.fingerprint == in_memory.fingerprint


def test_ids_become_text(tmp_path: Path) -> None:
    WRITERS["parquet"]([{"item_id": 7}, {"item_id": 8}], tmp_path / "items.parquet")
    (tmp_path / "interactions.csv").write_text("user_id,item_id\n007,7\n")
    catalog = Catalog.from_folder(tmp_path)
    assert list(catalog.items) == ["7", "8"]
    assert catalog.interactions == (Interaction("007", "7"),)
    with_gaps = pa.table({"item_id": pa.array([7.0, 8.0])})
    parquet.write_table(with_gaps, tmp_path / "items.parquet")
    assert list(Catalog.from_folder(tmp_path).items) == ["7", "8"]


def test_lists_become_tuples_and_missing_values_have_no_entry(tmp_path: Path) -> None:
    rows: Rows = [
        {"item_id": "a", "genres": ["x", "y"], "year": 1995, "tag": "", "seen": True},
        {"item_id": "b", "genres": [], "year": None, "tag": "t"},
    ]
    write_jsonl(rows, tmp_path / "items.jsonl")
    items = Catalog.from_folder(tmp_path).items
    assert items["a"].attributes == {"genres": ("x", "y"), "year": 1995, "seen": True}
    assert items["b"].attributes == {"tag": "t"}


def test_parquet_times_may_be_a_datetime_column(tmp_path: Path) -> None:
    write_jsonl([{"item_id": "a"}], tmp_path / "items.jsonl")
    times = np.array(["2000-07-30T18:08:19.123456789"], dtype="datetime64[ns]")
    table = pa.table({"user_id": ["u"], "item_id": ["a"], "timestamp": times})
    parquet.write_table(table, tmp_path / "interactions.parquet")
    assert Catalog.from_folder(tmp_path).interactions[0].timestamp == 964980499.123456


def test_a_datasets_dataset_is_read_as_it_is_selected() -> None:
    items = Dataset.from_list([{"item_id": 1}, {"item_id": 2}, {"item_id": 3}])
    rows = Dataset.from_list([{"user_id": "u", "item_id": 3, "rating": 2.0}])
    catalog = Catalog.from_datasets(items.select([2, 0]), interactions=rows)
    assert list(catalog.items) == ["3", "1"]
    assert catalog.interactions == (Interaction("u", "3", 2.0),)
    assert catalog.folder is None


def test_a_gap_in_a_data_frame_is_a_missing_rating_or_time() -> None:
    frame = pd.DataFrame(INTERACTIONS)
    frame.loc[1, "timestamp"] = np.nan
    read = Catalog.from_datasets(ITEMS, interactions=frame).interactions
    assert read == (Interaction("01", "007", 4.5, 200), Interaction("01", "008"))


def test_a_map_column_keeps_its_keys() -> None:
    kind = pa.map_(pa.string(), pa.int64())
    sizes = pa.array([[("width", 3), ("height", 4)], None], kind)
    inside = pa.array([[[("width", 3)]], None], pa.list_(kind))
    table = pa.table({"item_id": [1, 2], "size": sizes, "parts": inside})
    items = Catalog.from_datasets(table).items
    assert items["1"].attributes == {"size": ("width: 3", "height: 4"), "parts": ("width: 3",)}
    assert items["2"].attributes == {}


def test_rows_in_memory_may_come_from_a_generator_and_hold_numpy_values() -> None:
    rows = ({"item_id": np.int64(i), "tags": np.array(["x"])} for i in range(2))
    catalog = Catalog.from_datasets(rows)
    assert list(catalog.items) == ["0", "1"]
    assert catalog.items["1"].attributes == {"tags": ("x",)}


@pytest.mark.parametrize("source", ["items.csv", {"train": [{"item_id": "1"}]}])
def test_non_table_is_refused(source: str | dict[str, object]) -> None:
    with pytest.raises(DataError, match="is no table; give a DataFrame"):
        Catalog.from_datasets(source)


def test_a_foreign_layout_is_read_through_a_column_map(tmp_path: Path) -> None:
    (tmp_path / "movies.csv").write_text("movieId,name,genres,n_seen\n1,Heat,Crime|Drama,9\n")
    (tmp_path / "ratings.csv").write_text("userId,movieId,stars\n1,1,0\n2,1,4\n")
    columns = ColumnMap(
        items=TableMap(
            file="movies.csv",
            columns={"item_id": "movieId", "title": "name", "description": "name"},
            separators={"genres": "|"},
            ignore=("n_seen",),
        ),
        interactions=TableMap(
            file="ratings.csv",
            columns={"user_id": "userId", "item_id": "movieId", "rating": "stars"},
            missing_rating=0,
        ),
    )
    catalog = Catalog.from_folder(tmp_path, columns=columns)
    assert catalog.items == {"1": Item("1", "Heat", "Heat", {"genres": ("Crime", "Drama")})}
    assert catalog.interactions == (Interaction("1", "1"), Interaction("2", "1", 4.0))


def test_reviews_replace_a_missing_interactions_file(tmp_path: Path) -> None:
    review = {"item_id": "a", "text": "Good.", "rating": 4, "user_id": "u", "timestamp": 5}
    rows = [review, {**review, "text": "Good again."}, {**review, "user_id": None}]
    folder = folder_of(tmp_path, "jsonl", {"items": [{"item_id": "a"}], "reviews": rows})
    catalog = Catalog.from_folder(folder)
    assert catalog.interactions == (Interaction("u", "a", 4.0, 5),)
    assert len(catalog.reviews) == 3


def test_long_and_foreign_text_comes_through_whole(tmp_path: Path) -> None:
    titles = {
        "zh": "挪威的森林",
        "ar": "ألف ليلة وليلة",
        "emoji": "👩‍👩‍👧 tea 🫖",
        "nl": "a\u2028b\u0085c",
    }
    long = "字" * 100_000 + "end"
    huge = 'quoted ", ' * 20_000 + "end"  # beyond the csv module's usual limit of 128 KiB
    rows = [{"item_id": key, "title": title} for key, title in titles.items()]
    rows.append({"item_id": "long", "title": "", "description": long})
    rows.append({"item_id": "huge", "title": "", "description": huge})
    rows = [{"description": "", **row} for row in rows]
    for suffix, write in WRITERS.items():
        folder = tmp_path / suffix
        folder.mkdir()
        write(rows, folder / f"items.{suffix}")
        items = Catalog.from_folder(folder).items
        assert {key: items[key].title for key in titles} == titles
        assert items["long"].description == long
        assert items["huge"].description == huge


def test_a_byte_order_mark_blank_lines_and_windows_line_ends_are_no_data(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_bytes(b"\xef\xbb\xbfitem_id,title\r\n\r\n1,One\r\n\r\n")
    (tmp_path / "reviews.jsonl").write_bytes(
        b'\xef\xbb\xbf{"item_id": 1, "text": "a"}\r\n\r\n  \r\n{"item_id": 1, "text": "b"}\r\n'
    )
    catalog = Catalog.from_folder(tmp_path)
    assert catalog.items == {"1": Item("1", "One")}
    assert [review.text for review in catalog.reviews] == ["a", "b"]
