from __future__ import annotations

import pytest

from llmrec.catalog.values import readable_attributes, value_text
from llmrec.records import AttributeValue


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (("Comedy", "Drama"), "Comedy, Drama"),
        (81.0, "81"),
        (8.1, "8.1"),
        (1995, "1995"),
        (True, "yes"),
        (False, "no"),
        ("steel", "steel"),
    ],
)
def test_values_read_as_people_write_them(value: AttributeValue, text: str) -> None:
    assert value_text(value) == text
    assert ", ".join(readable_attributes({"a": value})["a"]) == text


@pytest.mark.parametrize(
    "name",
    ["imdb_id", "ids", "image_url", "URL", "n_ratings", "num_reviews", "view_count", "also_buy",
     "image_source", "isbn", "asin", "path"],
)  # fmt: skip
def test_columns_for_machines_and_counts_are_left_out(name: str) -> None:
    assert readable_attributes({name: "something"}) == {}


@pytest.mark.parametrize("name", ["genres", "national", "discount", "country", "sound", "identity"])
def test_names_that_only_look_like_them_stay(name: str) -> None:
    assert readable_attributes({name: "something"}) == {name: ("something",)}


def test_codes_and_addresses_are_no_values() -> None:
    told = readable_attributes(
        {"related": ("B00AZWJ123", "https://a.example/b", "a lamp"), "x": " "}
    )
    assert told == {"related": ("a lamp",)}
