"""The embedded sample: whole, consistent between its tables and small."""

from __future__ import annotations

import csv
import json
from collections import Counter, defaultdict
from datetime import UTC, datetime
from itertools import permutations

import pytest
from PIL import Image

from llmrec.catalog import Catalog, check_folder, leave_one_out, sample_folder

SAMPLE = sample_folder()
PROFILE_ONLY = "u21"
DAYS_TO_REVIEW = 45


def read_jsonl(name: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in (SAMPLE / name).read_text(encoding="utf-8").splitlines()]


def read_csv(name: str) -> list[dict[str, str]]:
    with (SAMPLE / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return Catalog.from_folder(SAMPLE)


def test_the_catalogue_reads_it_without_a_problem(catalog: Catalog) -> None:
    report = check_folder(SAMPLE)
    assert report.problems == ()
    assert len(catalog.items) == 80
    assert len(catalog.interactions) == 247
    assert len(catalog.reviews) == 223
    assert len(catalog.user_ids) == 21


def test_items_are_of_two_kinds_with_every_field(catalog: Catalog) -> None:
    expected = [f"{kind}{number:02}" for kind in "ok" for number in range(1, 41)]
    assert list(catalog.items) == expected
    for item in catalog.items.values():
        assert len(item.description) > 60
        assert {"brand", "category", "price", "color", "material", "in_stock"} <= set(
            item.attributes
        )
    assert {item.attributes["in_stock"] for item in catalog.items.values()} == {True, False}


def test_titles_are_short_and_none_holds_another(catalog: Catalog) -> None:
    titles = [item.title.lower() for item in catalog.items.values()]
    assert all(3 <= len(title.split()) <= 7 for title in titles)
    assert [pair for pair in permutations(titles, 2) if pair[0] in pair[1]] == []


def test_ids_agree_between_the_tables(catalog: Catalog) -> None:
    profiles = {row["user_id"] for row in read_csv("users.csv")}
    active = {interaction.user_id for interaction in catalog.interactions}
    assert profiles - active == {PROFILE_ONLY}
    assert active <= profiles
    assert {row.item_id for row in catalog.interactions} == set(catalog.items)
    assert {row.item_id for row in catalog.reviews} <= set(catalog.items)


def test_every_history_is_long_enough_and_meets_an_item_once(catalog: Catalog) -> None:
    pairs = Counter((row.user_id, row.item_id) for row in catalog.interactions)
    lengths = Counter(row.user_id for row in catalog.interactions)
    assert max(pairs.values()) == 1
    assert all(8 <= length <= 16 for length in lengths.values())
    assert len(leave_one_out(catalog).test) == 20


def test_times_lie_in_two_years_and_no_user_has_a_tie(catalog: Catalog) -> None:
    times: defaultdict[str, list[float]] = defaultdict(list)
    for row in catalog.interactions:
        assert row.timestamp is not None
        times[row.user_id].append(row.timestamp)
    stamps = [stamp for user in times.values() for stamp in user]
    stamps += [review.timestamp for review in catalog.reviews if review.timestamp is not None]
    assert {datetime.fromtimestamp(stamp, UTC).year for stamp in stamps} == {2024, 2025}
    assert all(len(set(user)) == len(user) for user in times.values())


def test_last_items_were_liked(catalog: Catalog) -> None:
    split = leave_one_out(catalog)
    for held_out in (split.validation, split.test):
        assert all((row.rating or 0) >= 4 for row in held_out.values())


def test_reviews_agree_with_interactions() -> None:
    bought = {
        (row["user_id"], row["item_id"]): (float(row["rating"]), int(row["timestamp"]))
        for row in read_csv("interactions.csv")
    }
    reviews = read_jsonl("reviews.jsonl")
    signed = [review for review in reviews if "user_id" in review]
    assert len(signed) > 150
    assert len({review["item_id"] for review in reviews}) >= 60
    assert {review["rating"] for review in reviews} == {1, 2, 3, 4, 5}
    for review in signed:
        rating, bought_at = bought[str(review["user_id"]), str(review["item_id"])]
        days = (int(str(review["timestamp"])) - bought_at) / 86_400
        assert review["rating"] == rating
        assert 0 < days <= DAYS_TO_REVIEW


def test_texts_are_not_repeated() -> None:
    texts = [review["text"] for review in read_jsonl("reviews.jsonl")]
    texts += [item["description"] for item in read_jsonl("items.jsonl")]
    assert len(set(texts)) == len(texts)


def test_every_item_has_a_small_picture(catalog: Catalog) -> None:
    pictures = sorted((SAMPLE / "images").iterdir())
    assert [item.image for item in catalog.items.values()] == [
        f"images/{item_id}.png" for item_id in catalog.items
    ]
    assert [picture.stem for picture in pictures] == sorted(catalog.items)
    for picture in pictures:
        assert picture.stat().st_size < 2048
        with Image.open(picture) as image:
            assert (image.size, image.mode) == ((96, 96), "P")
    assert len({picture.read_bytes() for picture in pictures}) == len(pictures)


def test_the_sample_is_small() -> None:
    files = [path for path in SAMPLE.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 400_000
