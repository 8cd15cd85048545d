from __future__ import annotations

import json
from pathlib import Path

import pytest

from llmrec.catalog import ColumnMap, TableMap
from llmrec.errors import DataError


def written(tmp_path: Path, content: object) -> Path:
    path = tmp_path / "columns.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_a_map_is_read_from_one_json_file(tmp_path: Path) -> None:
    content = {
        "items": {
            "file": "movies.csv",
            "columns": {"item_id": "movieId"},
            "separators": {"genres": "|"},
        },
        "interactions": {"missing_rating": 0, "ignore": ["tags"]},
    }
    columns = ColumnMap.from_file(written(tmp_path, content))
    assert columns.table("items") == TableMap(
        file="movies.csv", columns={"item_id": "movieId"}, separators={"genres": "|"}
    )
    assert columns.interactions.missing_rating == 0.0
    assert columns.interactions.ignore == ("tags",)
    assert columns.table("users") == TableMap()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"item": {}}, r"unknown key 'item' \(did you mean 'items'\?\)"),
        ({"items": {"colums": {}}}, r"unknown key 'items.colums' \(did you mean 'columns'\?\)"),
        ({"items": {"columns": {"item_id": 3}}}, r"items\.columns\.item_id: .*string"),
        ({"interactions": {"columns": {"user": "u"}}}, "'user' is not allowed.*user_id"),
        ({"interactions": {"columns": {"useer_id": "u"}}}, "Did you mean 'user_id'"),
        ({"items": {"missing_rating": 0}}, "only reviews and interactions have ratings"),
        ({"reviews": {"separators": {"text": "|"}}}, "only items and users have attributes"),
        ({"items": {"separators": {"genres": ""}}}, "at least one character"),
        ("{", "Invalid JSON"),
        ("[]", "the file: "),
    ],
)
def test_invalid_column_map_names_the_allowed_values(
    tmp_path: Path, content: object, message: str
) -> None:
    with pytest.raises(DataError, match=message) as caught:
        ColumnMap.from_file(written(tmp_path, content))
    assert "columns.json" in caught.value.message
    assert "items, reviews, interactions, users, social, facts" in caught.value.hint


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"absent\.json"):
        ColumnMap.from_file(tmp_path / "absent.json")


def test_a_map_made_in_python_is_checked_too() -> None:
    with pytest.raises(DataError, match="only items and users"):
        ColumnMap(social=TableMap(separators={"friend_id": "|"}))
