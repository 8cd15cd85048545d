from __future__ import annotations

import json
from pathlib import Path

import pytest

from llmrec.catalog import ColumnMap, TableMap, check_folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    items = [
        {"item_id": "1", "title": "One", "description": "First.", "image": "one.png"},
        {"item_id": "2", "title": None, "color": "red", "image": "absent.png"},
        {"item_id": "3", "title": "Three", "image": "https://example.org/3.png"},
    ]
    (tmp_path / "items.jsonl").write_text("\n".join(map(json.dumps, items)))
    (tmp_path / "one.png").write_bytes(b"")
    (tmp_path / "interactions.csv").write_text(
        "user_id,item_id,listen_count\nu,1,9\nu,2,4\nv,1,1\n"
    )
    (tmp_path / "users.csv").write_text("user_id,age\nu,3\nw,4\n")
    (tmp_path / "social.csv").write_text("user_id,friend_id\nu,v\nu,v\nx,u\n")
    (tmp_path / "tags.csv").write_text("tag\nfun\n")
    return tmp_path


def test_counts_and_gaps(folder: Path) -> None:
    report = check_folder(folder)
    assert report.problems == ()
    assert report.counts == {
        "items": 3, "users": 4, "interactions": 3, "reviews": 0, "profiles": 2, "friendships": 2,
        "facts": 0,
    }  # fmt: skip
    assert report.gaps == {
        "items.title": 1,
        "items.description": 2,
        "items.color": 2,
        "items.image (no such file)": 1,
        "items.image (an address, or outside the folder)": 1,
    }


def test_a_column_that_is_not_there_is_a_gap_in_every_row(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text("item_id\n1\n2\n")
    gaps = check_folder(tmp_path).gaps
    assert gaps == {"items.title": 2, "items.description": 2, "items.image": 2}


def test_notes_list_unused_columns_and_how_to_map_them(folder: Path) -> None:
    notes = "\n".join(check_folder(folder).notes)
    assert "interactions.listen_count is not used: map it to rating" in notes
    assert '{"interactions": {"columns": {"rating": "listen_count"}}}' in notes
    assert "tags.csv is not read" in notes
    assert "3 of 3 interactions have no timestamp" in notes
    assert "users without history: 2" in notes


def test_a_rating_of_zero_beside_one_to_five_is_noted(folder: Path) -> None:
    (folder / "interactions.csv").write_text("user_id,item_id,rating\nu,1,0\nu,2,4\nv,1,1\n")
    notes = "\n".join(check_folder(folder).notes)
    assert "1 of 3 ratings are 0 where the rest is 1 to 4" in notes
    assert "set missing_rating" in notes
    columns = ColumnMap(interactions=TableMap(missing_rating=0))
    assert "missing_rating" not in "\n".join(check_folder(folder, columns).notes)
    (folder / "interactions.csv").write_text("user_id,item_id,rating\nu,1,0\nu,2,0.5\nv,1,1\n")
    assert "missing_rating" not in "\n".join(check_folder(folder).notes)


def test_interactions_that_come_from_reviews_are_noted(folder: Path) -> None:
    (folder / "interactions.csv").unlink()
    reviews = folder / "reviews.csv"
    reviews.write_text("item_id,text,user_id,rating\n1,Fine.,u,5\n2,So-so.,u,3\n1,Well.,v,0\n")
    notes = "\n".join(check_folder(folder).notes)
    assert '{"reviews": {"missing_rating": 0}}' in notes
    assert '{"reviews": {"neutral_rating": NUMBER}}' in notes
    reviews.write_text("item_id,text,user_id,stars\n1,Fine.,u,5\n")
    notes = "\n".join(check_folder(folder).notes)
    assert "1 interactions come from reviews" in notes
    assert "reviews.stars is not used: map it to rating" in notes


def test_a_column_that_is_nearly_called_title_is_noted(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text("item_id,Title,url\n1,One,x\n")
    notes = check_folder(tmp_path).notes
    assert len(notes) == 1
    assert "items has no title. Did you mean 'Title'?" in notes[0]


def test_a_column_that_the_column_map_hides_is_noted(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text("item_id,title,name\n1,One,Eins\n")
    columns = ColumnMap(items=TableMap(columns={"title": "name", "item_id": "item_id"}))
    (note,) = check_folder(tmp_path, columns).notes
    assert "own column items.title is not used: the column map takes 'name' for it" in note
    swapped = ColumnMap(items=TableMap(columns={"title": "name", "name": "title"}))
    ignored = ColumnMap(items=TableMap(columns={"title": "name"}, ignore=("title",)))
    assert check_folder(tmp_path, swapped).notes == check_folder(tmp_path, ignored).notes == ()


def test_a_broken_value_is_no_missing_one(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text("item_id,title\na,A\na,\n")
    (tmp_path / "interactions.csv").write_text("user_id,item_id,rating\nu,a,NaN\nv,a,\n")
    report = check_folder(tmp_path)
    assert len(report.problems) == 2
    assert report.gaps == {"items.description": 1, "items.image": 1, "interactions.rating": 1}
