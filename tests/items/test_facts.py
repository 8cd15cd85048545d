from __future__ import annotations

import pytest

from llmrec.catalog import Fact
from llmrec.items import item_facts
from llmrec.items.facts import LONGEST, relation_words
from llmrec.records import Item

ITEMS = {"1": Item("1", 'The "Big" Heat'), "2": Item("2", "Heat 2")}


def test_relation_ends_are_joined_in_file_order() -> None:
    facts = [Fact("1", "genre", "crime"), Fact("1", "cast", "A"), Fact("1", "genre", "film_noir")]
    assert item_facts(facts, ITEMS) == {"1": ("genre: crime, film noir", "cast: A")}


def test_edge_between_items_gives_both_a_fact() -> None:
    assert item_facts([Fact("2", "sequelOf", "1")], ITEMS) == {
        "2": ("sequel of: \"The 'Big' Heat\"",),
        "1": ('sequel of this: "Heat 2"',),
    }


def test_edge_without_items_gives_no_fact() -> None:
    assert (
        item_facts([Fact("Mann", "born_in", "Chicago"), Fact("Mann", "directed", "1")], ITEMS) == {}
    )


def test_self_links_and_duplicate_edges_are_skipped() -> None:
    facts = [Fact("1", "like", "1"), Fact("1", "like", "2"), Fact("1", "like", "2")]
    told = item_facts(facts, ITEMS)
    assert told["1"] == ('like: "The \'Big\' Heat", "Heat 2"',)
    assert told["2"] == ("like this: \"The 'Big' Heat\"",)


def test_facts_are_limited_in_number_and_length() -> None:
    facts = [Fact("1", "cast", "x" * LONGEST)]
    facts += [Fact("1", f"relation {n}", "y") for n in range(20)]
    assert item_facts(facts, ITEMS)["1"] == tuple(f"relation {n}: y" for n in range(8))


@pytest.mark.parametrize(
    ("relation", "words"),
    [
        ("film.directedBy", "film directed by"),
        ("导演", "导演"),
        ("निर्देशक", "निर्देशक"),
        ("has_part", "has part"),
        ("«导演：»", "导演"),
        ("->", "->"),
    ],
)
def test_a_relation_reads_as_words(relation: str, words: str) -> None:
    assert relation_words(relation) == words
