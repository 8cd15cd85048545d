from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from llmrec.errors import UnknownItemError
from llmrec.explaining.evidence import EvidenceLimits, gather_evidence, quoted_name, shortened
from llmrec.prompting import context_of
from llmrec.records import Evidence, Interaction, Item, User
from llmrec.retrieval import Index


def ann(*rows: tuple[str, float | None], **profile: str) -> User:
    return User("ann", tuple(Interaction("ann", i, r, n) for n, (i, r) in enumerate(rows)), profile)


def texts(facts: tuple[Evidence, ...], kind: str) -> list[str]:
    return [fact.text for fact in facts if fact.kind == kind]


def test_the_items_own_facts(small_index: Index) -> None:
    facts = gather_evidence(context_of(small_index), ann(("heat", 4.0)), "jumanji")
    assert texts(facts, "item") == [
        'Title: "Jumanji"',
        "genres: Adventure, Family",
        "year: 1995",
        "Description: A game that comes to life.",
        "Description: Judy and Peter must finish it, whatever it takes.",
    ]
    assert {fact.item_id for fact in facts if fact.kind == "item"} == {"jumanji"}


def test_related_liked_items_come_first_with_shared_values(small_index: Index) -> None:
    user = ann(("heat", 5.0), ("zathura", 5.0), ("toys", 4.0), ("casino", 1.0), ("jumanji", 5.0))
    facts = gather_evidence(context_of(small_index), user, "jumanji")
    assert texts(facts, "history") == [
        'You liked "Zathura" (genres: Adventure, Family)',
        'You liked "Toy Story" (genres: Family)',
        'You liked "Heat"',
    ]
    assert [f.item_id for f in facts if f.kind == "history"] == ["zathura", "toys", "heat"]


def test_only_the_last_opinion_of_an_item_counts(small_index: Index) -> None:
    user = ann(("zathura", 5.0), ("toys", 5.0), ("heat", 5.0), ("zathura", 1.0))
    history = texts(gather_evidence(context_of(small_index), user, "jumanji"), "history")
    assert history == ['You liked "Toy Story" (genres: Family)', 'You liked "Heat"']


def test_unrated_interactions_are_liked(small_index: Index) -> None:
    facts = gather_evidence(context_of(small_index), ann(("book", None)), "book2")
    assert texts(facts, "history") == ['You liked "活着" (author: 余华)']


def test_a_value_of_most_items_is_not_named_as_shared() -> None:
    items = [Item(str(n), f"Card {n}", attributes={"kind": "gift card"}) for n in range(30)]
    index = Index({i.item_id: i for i in items}, np.ones((30, 2), dtype=np.float32))
    facts = gather_evidence(context_of(index), ann(("1", 5.0)), "0")
    assert texts(facts, "history") == ['You liked "Card 1"']


def test_rarest_shared_attribute_is_used() -> None:
    pairs = ({"kind": "film", "studio": "Rare"}, {"kind": "film", "studio": "Other"})
    items = [Item(str(n), f"Film {n}", attributes=pairs[n > 1]) for n in range(8)]
    index = Index({i.item_id: i for i in items}, np.eye(8, dtype=np.float32))
    facts = gather_evidence(context_of(index), ann(("1", 5.0)), "0")
    assert texts(facts, "history") == ['You liked "Film 1" (studio: Rare)']


def test_shared_values_are_whole_and_the_rarest_first() -> None:
    usual, rare = "no fees and no expiration date on it", "nested inside a velvet gift box"
    values = (usual, "free delivery within one working day", rare)
    items = [Item(str(n), f"Card {n}", attributes={"features": values}) for n in range(2)]
    items += [Item(str(n), f"Card {n}", attributes={"features": values[:2]}) for n in (2, 3, 4)]
    items += [Item(str(n), f"Card {n}", attributes={"features": "none"}) for n in range(5, 30)]
    index = Index({i.item_id: i for i in items}, np.ones((30, 2), dtype=np.float32))
    facts = gather_evidence(context_of(index), ann(("1", 5.0)), "0")
    assert texts(facts, "history") == [f'You liked "Card 1" (features: {rare}, {usual})']
    assert f"features: {usual}, {values[1]}" in texts(facts, "item")


def test_reviews_are_good_short_about_the_item_and_by_others(small_index: Index) -> None:
    assert texts(gather_evidence(context_of(small_index), ann(), "jumanji"), "review") == [
        'A review says: "Peter and Judy finish the game in a way that I liked."'
    ]
    assert texts(gather_evidence(context_of(small_index), ann(), "heat"), "review") == []


def test_cold_start_evidence_has_the_popularity(small_index: Index) -> None:
    assert "Chosen by 3 people" in texts(
        gather_evidence(context_of(small_index), User("new"), "jumanji"), "item"
    )
    warm = gather_evidence(context_of(small_index), ann(("heat", 5.0)), "jumanji")
    assert not [text for text in texts(warm, "item") if text.startswith("Chosen")]
    assert not [
        f
        for f in gather_evidence(context_of(small_index), User("new"), "heat")
        if "Chosen" in f.text
    ]


def test_matching_profile_columns_come_first(small_index: Index) -> None:
    user = ann(town="Bergen", user_id="7", favourite_genres="family")
    assert texts(gather_evidence(context_of(small_index), user, "jumanji"), "profile") == [
        "It fits your favourite genres: family",
        "Your town: Bergen",
    ]


def test_the_query_is_evidence(small_index: Index) -> None:
    user = replace(ann(town="Bergen"), query='a film\nlike "Heat"')
    facts = gather_evidence(context_of(small_index), user, "jumanji")
    assert texts(facts, "profile") == ["Your town: Bergen", "You asked for: a film like 'Heat'"]


def test_limits_hold(small_index: Index) -> None:
    user = ann(("toys", 5.0), ("zathura", 5.0), town="Bergen")
    none = EvidenceLimits(0, 0, 0, 240, 0, 0, 0)
    assert [
        f.text for f in gather_evidence(context_of(small_index), user, "jumanji", limits=none)
    ] == [
        'Title: "Jumanji"',
        "Chosen by 3 people",
    ]
    one = EvidenceLimits(1, 1, 1, 20, 1, 1, 1)
    facts = gather_evidence(context_of(small_index), user, "jumanji", limits=one)
    assert texts(facts, "item") == [
        'Title: "Jumanji"',
        "genres: Adventure",
        "Description: A game that comes…",
    ]
    assert texts(facts, "history") == ['You liked "Zathura" (genres: Adventure)']


def test_the_same_again(small_index: Index) -> None:
    user = ann(("heat", 5.0), ("toys", 4.0), ("casino", 4.0))
    assert gather_evidence(context_of(small_index), user, "odd") == gather_evidence(
        context_of(small_index), user, "odd"
    )


def test_unknown_ids_are_named(small_index: Index) -> None:
    with pytest.raises(UnknownItemError, match="jumanij"):
        gather_evidence(context_of(small_index), ann(), "jumanij")
    with pytest.raises(UnknownItemError, match="gone"):
        gather_evidence(context_of(small_index), ann(("gone", 1.0)), "jumanji")


def test_a_description_of_100_000_characters(small_index: Index) -> None:
    item = Item("long", "Long", "word " * 20_000)
    index = Index({"long": item}, np.ones((1, 1), dtype=np.float32))
    facts = gather_evidence(context_of(index), User("new"), "long")
    assert all(len(fact.text) < 300 for fact in facts)


@pytest.mark.parametrize(
    ("item", "name"),
    [
        (Item("a", "Heat"), '"Heat"'),
        (Item("a", 'The "Best"\nOf'), "\"The 'Best' Of\""),
        (Item("a", "", "A box of chalk"), '"A box of chalk"'),
        (Item("a", "", "word " * 30), f'"{"word " * 11}word…"'),
        (Item("a", " ", " "), '"a"'),
        (Item("a", "活" * 120), f'"{"活" * 100}…"'),
    ],
)
def test_quoted_name(item: Item, name: str) -> None:
    assert quoted_name(item) == name


def test_shortened() -> None:
    assert shortened("one two  three", 20) == "one two three"
    assert shortened("one two three", 8) == "one two…"
    assert shortened("活着活着", 2) == "活着…"
