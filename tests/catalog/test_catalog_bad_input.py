from __future__ import annotations

import json
from pathlib import Path
from typing import cast

import pytest

from llmrec.catalog import Catalog, ColumnMap, Problem, TableMap, check_folder
from llmrec.catalog.catalog import OnProblem
from llmrec.errors import DataError, OptionError

GOOD_ITEMS = '{"item_id": "1", "title": "One"}\n{"item_id": "2", "title": "Two"}\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "items.jsonl").write_text(GOOD_ITEMS)
    return tmp_path


def problems_of(folder: Path, columns: ColumnMap | None = None) -> list[Problem]:
    """Check a folder, and see that reading it is refused, and that skipping lists the same."""
    problems = list(check_folder(folder, columns).problems)
    with pytest.raises(DataError) as caught:
        Catalog.from_folder(folder, columns=columns)
    for problem in problems[:3]:
        assert str(problem).rstrip(".") in caught.value.message
    if any(problem.row is None for problem in problems):
        with pytest.raises(DataError):
            Catalog.from_folder(folder, columns=columns, on_problem="skip")
    else:
        assert "llmrec data check" in caught.value.hint
        assert 'on_problem="skip"' in caught.value.hint
        skipped = Catalog.from_folder(folder, columns=columns, on_problem="skip")
        assert list(skipped.problems) == problems
    return problems


def the_problem(folder: Path, columns: ColumnMap | None = None) -> Problem:
    problems = problems_of(folder, columns)
    assert len(problems) == 1, problems
    return problems[0]


def test_a_folder_that_is_not_there_or_is_a_file_is_named(folder: Path) -> None:
    for path, why in ((folder / "absent", "does not exist"), (folder / "items.jsonl", "is a file")):
        with pytest.raises(DataError, match=why) as caught:
            check_folder(path)
        assert str(path) in caught.value.message
        assert "items.csv" in caught.value.hint


def test_a_missing_items_file_says_what_there_is(tmp_path: Path) -> None:
    (tmp_path / "movies.csv").write_text("movieId\n1\n")
    problem = the_problem(tmp_path)
    assert (problem.table, problem.row) == ("items", None)
    assert "no items.jsonl or items.parquet or items.csv" in problem.message
    assert "the folder holds movies.csv" in problem.message
    assert "column map" in problem.message


def test_a_mapped_file_must_be_there_and_of_a_known_format(folder: Path) -> None:
    columns = ColumnMap(interactions=TableMap(file="ratings.csv"))
    assert "'ratings.csv' of the column map is not there" in the_problem(folder, columns).message
    (folder / "ratings.dat").write_text("1::1::5")
    columns = ColumnMap(interactions=TableMap(file="ratings.dat"))
    assert "none of .jsonl, .parquet, .csv" in the_problem(folder, columns).message


def test_two_files_for_one_table_are_refused(folder: Path) -> None:
    (folder / "items.csv").write_text("item_id\n1\n")
    assert "items.jsonl and items.csv are both there" in the_problem(folder).message


@pytest.mark.parametrize("name", ["items.jsonl", "interactions.csv", "reviews.parquet"])
def test_an_empty_file_is_named(folder: Path, name: str) -> None:
    (folder / name).write_text("")
    assert f"'{name}' is empty" in the_problem(folder).message


@pytest.mark.parametrize(("name", "content"), [("items.jsonl", "\n"), ("items.csv", "item_id\n")])
def test_a_catalogue_needs_an_item(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    assert "at least one" in the_problem(tmp_path).message


def test_a_header_without_rows_is_an_empty_table(folder: Path) -> None:
    (folder / "interactions.csv").write_text("user_id,item_id\n")
    assert Catalog.from_folder(folder).interactions == ()
    assert Catalog.from_datasets([{"item_id": 1}], interactions=[]).interactions == ()


def test_parquet_that_is_not_parquet_is_named(folder: Path) -> None:
    (folder / "interactions.parquet").write_text("user_id,item_id\n1,1\n")
    problem = the_problem(folder)
    assert problem.table == "interactions"
    assert "'interactions.parquet' cannot be read as parquet" in problem.message


def test_a_file_that_is_not_utf8_names_byte_and_line(folder: Path) -> None:
    (folder / "reviews.csv").write_bytes(b"item_id,text\n1,fine\n2,caf\xe9\n")
    assert "byte 0xe9 in line 3; save it as UTF-8" in the_problem(folder).message


def test_a_missing_column_names_what_there_is_and_the_way_out(folder: Path) -> None:
    (folder / "interactions.csv").write_text("user,item_id,rating\n1,1,5\n")
    problem = the_problem(folder)
    assert (problem.row, problem.column) == (None, "user_id")
    assert "'user', 'item_id', 'rating'" in problem.message
    assert '{"interactions": {"columns": {"user_id": "THEIRS"}}}' in problem.message
    columns = ColumnMap(interactions=TableMap(columns={"user_id": "usr"}))
    assert "Did you mean 'user'?" in the_problem(folder, columns).message
    columns = ColumnMap(
        interactions=TableMap(columns={"user_id": "user"}, ignore=("ratings",)),
    )
    assert "'ratings', which is not there. Did you mean" in the_problem(folder, columns).message


def test_a_column_named_twice_is_refused(folder: Path) -> None:
    (folder / "interactions.csv").write_text("user_id,item_id,item_id\n1,1,1\n")
    assert "names the column 'item_id' twice" in the_problem(folder).message


def test_a_truncated_line_is_named_and_the_others_are_kept(folder: Path) -> None:
    (folder / "items.jsonl").write_text(GOOD_ITEMS + '{"item_id": "3", "ti')
    problem = the_problem(folder)
    assert (problem.table, problem.row, problem.value) == ("items", 3, '{"item_id": "3", "ti')
    assert "not complete JSON" in problem.message
    assert list(Catalog.from_folder(folder, on_problem="skip").items) == ["1", "2"]


def test_json_that_is_no_object_or_one_big_list_is_named(folder: Path) -> None:
    (folder / "items.jsonl").write_text(GOOD_ITEMS + "3\n")
    assert "3 is not an object" in the_problem(folder).message
    (folder / "items.jsonl").write_text(json.dumps([{"item_id": "1"}], indent=1))
    assert "write one object a line" in the_problem(folder).message


def test_a_csv_row_with_another_number_of_fields_is_named(folder: Path) -> None:
    (folder / "interactions.csv").write_text(
        "user_id,item_id,rating\nu,1,5\n\nu,2,4,9\nv,2\nw,2,1\n"
    )
    short_and_long = problems_of(folder)
    assert [problem.row for problem in short_and_long] == [2, 3]
    assert "4 fields where the header has 3: 'u,2,4,9'" in short_and_long[0].message
    assert "2 fields" in short_and_long[1].message
    kept = Catalog.from_folder(folder, on_problem="skip").interactions
    assert [row.user_id for row in kept] == ["u", "w"]


def test_a_quote_that_never_ends_is_no_silent_loss(folder: Path) -> None:
    (folder / "reviews.csv").write_text('item_id,text\n1,fine\n2,"never ends\n1,lost\n')
    problem = the_problem(folder)
    assert problem.row == 2
    assert "broken quoting" in problem.message


def test_duplicate_and_empty_item_ids_are_named(folder: Path) -> None:
    (folder / "items.jsonl").write_text(
        GOOD_ITEMS + '{"item_id": 1, "title": "Again"}\n{"item_id": " "}\n{"title": "None"}\n'
    )
    duplicate, empty, absent = problems_of(folder)
    assert (duplicate.row, duplicate.column, duplicate.value) == (3, "item_id", "1")
    assert "'1' is in row 1 already" in duplicate.message
    assert (empty.row, absent.row) == (4, 5)
    assert "is empty" in empty.message
    assert Catalog.from_folder(folder, on_problem="skip").items["1"].title == "One"


@pytest.mark.parametrize("table", ["interactions", "reviews"])
def test_an_unknown_item_id_is_named(folder: Path, table: str) -> None:
    (folder / f"{table}.csv").write_text("user_id,item_id,text\nu,1,a\nu,99,b\n")
    problem = the_problem(folder)
    assert (problem.table, problem.row, problem.column, problem.value) == (
        table,
        2,
        "item_id",
        "99",
    )
    assert "'99' is not in the items table" in problem.message


@pytest.mark.parametrize("value", ["nan", "good", "inf"])
def test_a_rating_that_is_no_number_is_named(folder: Path, value: str) -> None:
    (folder / "interactions.csv").write_text(f"user_id,item_id,rating\nu,1,{value}\nu,2,\n")
    problem = the_problem(folder)
    assert (problem.row, problem.column, problem.value) == (1, "rating", value)
    assert f"'{value}' is not allowed: a rating is a finite number" in problem.message
    kept = Catalog.from_folder(folder, on_problem="skip").interactions
    assert [(row.item_id, row.rating) for row in kept] == [("2", None)]


def test_nan_in_json_is_a_bad_rating_and_null_is_none(folder: Path) -> None:
    (folder / "reviews.jsonl").write_text(
        '{"item_id": "1", "text": "a", "rating": NaN}\n'
        '{"item_id": "1", "text": "b", "rating": null}\n'
    )
    problem = the_problem(folder)
    assert (problem.row, problem.column, problem.value) == (1, "rating", "nan")


def test_a_bad_timestamp_is_named(folder: Path) -> None:
    (folder / "interactions.csv").write_text(
        "user_id,item_id,timestamp\nu,1,yesterday\nu,2,964980499000\n"
    )
    first, second = problems_of(folder)
    assert "'yesterday' is not allowed: a timestamp is" in first.message
    assert "milliseconds" in second.message


def test_the_same_interaction_twice_is_named(folder: Path) -> None:
    (folder / "interactions.csv").write_text(
        "user_id,item_id,rating,timestamp\nu,1,5,7\nu,1,5,8\nu,1,5,7\n"
    )
    problem = the_problem(folder)
    assert problem.row == 3
    assert "the same as row 1" in problem.message
    assert len(Catalog.from_folder(folder, on_problem="skip").interactions) == 2


def test_the_error_shows_the_first_few_and_counts_the_rest(folder: Path) -> None:
    rows = "".join(f"u,{item},\n" for item in range(100, 1400))
    (folder / "interactions.csv").write_text("user_id,item_id,rating\n" + rows)
    with pytest.raises(DataError, match=r"^1,300 problems in .*; and 1,297 more\.") as caught:
        Catalog.from_folder(folder)
    assert caught.value.message.count("is not in the items") == 3


def test_a_long_value_is_cut_in_the_message(folder: Path) -> None:
    (folder / "interactions.csv").write_text(f"user_id,item_id\nu,{'9' * 100_000}\n")
    problem = the_problem(folder)
    assert len(problem.value) == 60
    assert len(problem.message) < 200


def test_on_problem_takes_two_values(folder: Path) -> None:
    with pytest.raises(OptionError, match=r"'skipp'.*'raise' and 'skip'.*Did you mean 'skip'"):
        Catalog.from_folder(folder, on_problem=cast("OnProblem", "skipp"))


def test_a_number_too_large_for_a_float_is_named(folder: Path) -> None:
    line = f'{{"user_id": "u", "item_id": "1", "rating": {"9" * 400}}}\n'
    (folder / "interactions.jsonl").write_text(line)
    assert the_problem(folder).column == "rating"


def test_problems_come_in_the_order_of_tables_and_rows(folder: Path) -> None:
    (folder / "interactions.csv").write_text("user_id,item_id,rating\nu,1,x\n,2,\nu,9,x\nu,2\n")
    (folder / "reviews.csv").write_text("item_id,text\n9,a\n")
    places = [(problem.table, problem.row, problem.column) for problem in problems_of(folder)]
    assert places == [
        ("reviews", 1, "item_id"),
        ("interactions", 1, "rating"),
        ("interactions", 2, "user_id"),
        ("interactions", 3, "rating"),
        ("interactions", 3, "item_id"),
        ("interactions", 4, None),
    ]
