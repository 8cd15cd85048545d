from __future__ import annotations

import json
from pathlib import Path
from typing import cast

import pytest

from llmrec.catalog import Catalog, ColumnMap, Problem, TableMap, check_folder
from llmrec.catalog.catalog import OnProblem
from llmrec.errors import DataError, OptionError

GOOD_ITEMS = '{"item_id": "1", "title": "One"}\n{"item_id": "2", "title": "Two"}\n'
Place = tuple[int | None, str | None, str]


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


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("items.csv", b"item_id\n1\n", "items.jsonl and items.csv are both there"),
        ("items.jsonl", b"", "'items.jsonl' is empty"),
        ("interactions.csv", b"", "'interactions.csv' is empty"),
        ("reviews.parquet", b"", "'reviews.parquet' is empty"),
        ("items.jsonl", b"\n", "at least one"),
        ("items.jsonl", b'[\n {"item_id": "1"\n]', "is no JSON list"),
        ("items.jsonl", b"\x1f\x8bno gzip", "'items.jsonl' cannot be read as jsonl"),
        ("interactions.csv", "user_id,item_id\nu,1\n".encode("utf-16-le"), "NUL characters"),
        ("users.csv", b"\xff\xfe1", "is not UTF-16 text"),
        ("interactions.parquet", b"user_id\n1\n", "'interactions.parquet' cannot be read as pa"),
        (
            "reviews.csv",
            b"item_id,text\n1,caf\xe9\n",
            "byte 0xe9 in line 2; save it as UTF-8 (`",
        ),
        ("interactions.csv", b"user_id,item_id,item_id\n1,1,1\n", "the column 'item_id' twice"),
        ("interactions.csv", b" , \n1,1\n", "'interactions.csv' has no header"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(
    folder: Path, name: str, content: bytes, says: str
) -> None:
    (folder / name).write_bytes(content)
    problem = the_problem(folder)
    assert (problem.table, problem.row) == (name.partition(".")[0], None)
    assert says in problem.message


INTERACTIONS = "user_id,item_id,rating,timestamp\n"


@pytest.mark.parametrize(
    ("name", "content", "place", "says"),
    [
        ("items.jsonl", GOOD_ITEMS + '{"item_id": "3", "ti', (3, None, '{"item_id": "3", "ti'),
         "not complete JSON"),
        ("items.jsonl", GOOD_ITEMS + "3\n", (3, None, "3"), "3 is not an object"),
        ("reviews.csv", 'item_id,text\n1,fine\n2,"never ends\n1,lost\n', (2, None, ""),
         "broken quoting"),
        ("reviews.csv", "item_id,text\n1,a\n99,b\n", (2, "item_id", "99"),
         "'99' is not in the items table"),
        ("reviews.jsonl", '{"item_id": "1", "text": "a", "rating": NaN}\n', (1, "rating", "nan"),
         "finite number"),
        ("interactions.csv", INTERACTIONS + "u,1,,\nu,99,,\n", (2, "item_id", "99"),
         "'99' is not in the items table"),
        *(("interactions.csv", f"{INTERACTIONS}u,1,{bad},\nu,2,,\n", (1, "rating", bad),
           f"'{bad}' is not allowed: a rating is a finite") for bad in ("nan", "good", "inf")),
        ("interactions.csv", INTERACTIONS + "u,1,,soon\n", (1, "timestamp", "soon"),
         "'soon' is not allowed: a timestamp is"),
        ("interactions.csv", INTERACTIONS + "u,1,,17e11\n", (1, "timestamp", "17e11"),
         "in milliseconds: divide by 1,000"),
        ("items.jsonl", GOOD_ITEMS + '{"item_id": "3", "ratio": Infinity}', (3, "ratio", "inf"),
         "it is no finite number"),
        ("items.jsonl", GOOD_ITEMS + '{"item_id": "3", "ratio": -1e999}', (3, "ratio", "-inf"),
         "it is no finite number"),
        ("users.jsonl", '{"user_id": "u", "income": Infinity}', (1, "income", "inf"),
         "it is no finite number"),
        ("items.jsonl", GOOD_ITEMS + '{"item_id": true}', (3, "item_id", "True"),
         "an id is text or a whole number"),
    ],
)  # fmt: skip
def test_a_broken_row_is_named_and_the_others_are_kept(
    folder: Path, name: str, content: str, place: Place, says: str
) -> None:
    (folder / name).write_text(content)
    problem = the_problem(folder)
    assert problem.table == name.partition(".")[0]
    assert (problem.row, problem.column, problem.value) == place
    assert says in problem.message
    kept = Catalog.from_folder(folder, on_problem="skip")
    assert list(kept.items) == ["1", "2"]
    if name == "interactions.csv":
        assert len(kept.interactions) == content.count("\n") - 2


def test_a_folder_that_is_absent_or_a_file_is_named(folder: Path) -> None:
    for path, why in ((folder / "absent", "does not exist"), (folder / "items.jsonl", "is a file")):
        with pytest.raises(DataError, match=why) as caught:
            check_folder(path)
        assert str(path) in caught.value.message
        assert "items.csv" in caught.value.hint


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "movies.csv").write_text("movieId\n1\n")
    problem = the_problem(tmp_path)
    assert (problem.table, problem.row) == ("items", None)
    assert "no items.jsonl or items.parquet or items.csv" in problem.message
    assert "the folder holds movies.csv" in problem.message
    (tmp_path / "movies.csv").rename(tmp_path / "items.dat")
    for file, says in (("x.csv", "'x.csv' of the column map"), ("items.dat", "ends in none of")):
        columns = ColumnMap(items=TableMap(file=file))
        assert says in the_problem(tmp_path, columns).message


def test_a_header_without_rows_is_an_empty_table_but_items_need_a_row(folder: Path) -> None:
    (folder / "interactions.csv").write_text("user_id,item_id\n")
    assert Catalog.from_folder(folder).interactions == ()
    assert Catalog.from_datasets([{"item_id": 1}], interactions=[]).interactions == ()
    (folder / "items.jsonl").rename(folder / "items.old")
    (folder / "items.csv").write_text("item_id\n")
    assert "at least one" in the_problem(folder).message


@pytest.mark.parametrize("on_problem", ["raise", "skip"])
@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("items.csv", b'item_id, title\na, "x, y"\n', "3 fields where the header has 2"),
        ("items.jsonl", b'{"item_id": true}\n', "an id is text or a whole number"),
        ("items.json", b'{\n  "item_id": "a"\n}\n', "is not complete JSON"),
    ],
)
def test_where_no_item_is_left_the_rows_say_why(
    tmp_path: Path, name: str, content: bytes, says: str, on_problem: OnProblem
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match="no item is left") as caught:
        Catalog.from_folder(tmp_path, on_problem=on_problem)
    assert says in caught.value.message
    assert caught.value.hint == f"See them all with `llmrec data check {tmp_path}`."
    with pytest.raises(DataError, match="an id is text or a whole number") as caught:
        Catalog.from_datasets([{"item_id": True}], on_problem=on_problem)
    assert caught.value.hint == "Correct the rows."


def test_a_broken_file_goes_before_broken_rows(folder: Path) -> None:
    (folder / "reviews.csv").write_text("item_id,text\n9,a\n")
    (folder / "interactions.csv").write_text("user_id\nu\n")
    for on_problem, n in (("raise", 2), ("skip", 1)):
        with pytest.raises(DataError, match=f"^{n} problems? in .*: interactions, item_id: the"):
            Catalog.from_folder(folder, on_problem=cast("OnProblem", on_problem))


def test_a_missing_column_names_the_columns_and_how_to_map_one(folder: Path) -> None:
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


def test_the_error_shows_the_first_few_and_counts_the_rest(folder: Path) -> None:
    rows = "".join(f"u,{item},\n" for item in range(100, 1400))
    (folder / "interactions.csv").write_text("user_id,item_id,rating\n" + rows)
    with pytest.raises(DataError, match=r"^1,300 problems in .*; and 1,297 more\.") as caught:
        Catalog.from_folder(folder)
    assert caught.value.message.count("is not in the items") == 3


def test_a_huge_value_is_cut_or_refused(folder: Path) -> None:
    (folder / "interactions.csv").write_text(f"user_id,item_id\nu,{'9' * 100_000}\n")
    problem = the_problem(folder)
    assert len(problem.value) == 60
    assert len(problem.message) < 200
    (folder / "interactions.csv").unlink()
    line = json.dumps({"user_id": "u", "item_id": "1", "rating": int("9" * 400)})
    (folder / "interactions.jsonl").write_text(line)
    assert the_problem(folder).column == "rating"


def test_on_problem_takes_two_values(folder: Path) -> None:
    with pytest.raises(OptionError, match=r"'skipp'.*'raise' and 'skip'.*Did you mean 'skip'"):
        Catalog.from_folder(folder, on_problem=cast("OnProblem", "skipp"))


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
