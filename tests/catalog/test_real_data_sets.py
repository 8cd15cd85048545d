from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from llmrec.catalog import Catalog, ColumnMap, check_folder, leave_one_out
from llmrec.errors import DataError

Find = Callable[[str], Path]

MOVIELENS = {
    "items": {
        "file": "movies.csv",
        "columns": {"item_id": "movieId"},
        "separators": {"genres": "|"},
    },
    "interactions": {
        "file": "ratings.csv",
        "columns": {"user_id": "userId", "item_id": "movieId"},
    },
}


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("amazon_gift_cards", (148, 458, 2969, 2969, 455)),
        ("amazon_magazines", (157, 348, 2328, 2328, 318)),
        ("fashion_small", (2082, 0, 0, 0, 0)),
        ("movielens_mm", (3294, 610, 72786, 6134, 610)),
        ("movielens_mm_mini", (400, 555, 35536, 1209, 555)),
    ],
)
def test_a_shared_set_loads_whole(shared_data: Find, name: str, counts: tuple[int, ...]) -> None:
    catalog = Catalog.from_folder(shared_data(name))
    kinds = (catalog.items, catalog.user_ids, catalog.interactions, catalog.reviews)
    assert (*map(len, kinds), len(leave_one_out(catalog).test)) == counts


def test_movielens_loads_through_a_column_map(shared_data: Find, tmp_path: Path) -> None:
    folder = shared_data("ml_latest_small")
    (tmp_path / "columns.json").write_text(json.dumps(MOVIELENS))
    catalog = Catalog.from_folder(folder, columns=ColumnMap.from_file(tmp_path / "columns.json"))
    assert (len(catalog.items), len(catalog.interactions)) == (9742, 100836)
    assert catalog.items["1"].title == "Toy Story (1995)"
    genres = ("Adventure", "Animation", "Children", "Comedy", "Fantasy")
    assert catalog.items["1"].attributes["genres"] == genres
    with pytest.raises(DataError, match=r"there is no items\.jsonl .* movies\.csv"):
        Catalog.from_folder(folder)


def test_douban_books_on_a_shelf_are_not_rated(shared_data: Find) -> None:
    folder = shared_data("douban_books_mm")
    report = check_folder(folder)
    assert report.problems == ()
    assert (report.counts["items"], report.counts["interactions"]) == (1200, 63724)
    assert report.gaps["items.title"] == 13
    assert any("23,348 of 63,724 ratings are 0" in note for note in report.notes)
    columns = ColumnMap.model_validate({"interactions": {"missing_rating": 0}})
    catalog = Catalog.from_folder(folder, columns=columns)
    assert sum(row.rating is None for row in catalog.interactions) == 23348
    assert catalog.items["1046265"].title == "挪威的森林"
    assert len(leave_one_out(catalog).test) == 4384


def test_lastfm_has_friends_and_listen_counts(shared_data: Find) -> None:
    folder = shared_data("lastfm_2k_social")
    report = check_folder(folder)
    assert (report.counts["items"], report.counts["interactions"]) == (17632, 92834)
    assert report.counts["friendships"] == 25434
    assert any("listen_count is not used: map it to rating" in note for note in report.notes)
    columns = ColumnMap.model_validate({"interactions": {"columns": {"rating": "listen_count"}}})
    catalog = Catalog.from_folder(folder, columns=columns)
    assert catalog.interactions[0].rating == 13883.0
    assert "275" in catalog.user("2").friends
    assert len(leave_one_out(catalog).test) == 1877


def test_missing_values_of_shared_sets_are_counted(shared_data: Find) -> None:
    report = check_folder(shared_data("amazon_magazines"))
    assert (report.gaps["items.title"], report.problems) == (154, ())
    gaps = check_folder(shared_data("fashion_small")).gaps
    assert not any(name.startswith("items.image") for name in gaps)
