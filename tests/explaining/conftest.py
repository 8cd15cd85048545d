from __future__ import annotations

import numpy as np
import pytest

from llmrec.records import Interaction, Item, Review
from llmrec.retrieval import Index

LONG = "A game that comes to life. Judy and Peter must finish it, whatever it takes. The end."


def _item(item_id: str, title: str, *genres: str, description: str = "", year: int = 1995) -> Item:
    return Item(item_id, title, description, {"genres": genres, "year": year})


@pytest.fixture(scope="session")
def small_index() -> Index:
    """Films of three kinds: their vectors say which are alike."""
    items = [
        _item("jumanji", "Jumanji", "Adventure", "Family", description=LONG),
        _item("toys", "Toy Story", "Family", "Comedy"),
        _item("heat", "Heat", "Crime", "Drama"),
        _item("casino", "Casino", "Crime", "Drama"),
        _item("zathura", "Zathura", "Adventure", "Family"),
        _item("lonely", "Alone", "Drama"),
        Item(
            "nameless", "", "A box of chalk in many colours that children will like a lot, and more"
        ),
        Item("bare"),
        Item("book", "活着", "一个人和他的命运。", {"author": "余华"}),
        Item("book2", "许三观卖血记", "", {"author": "余华"}),
        Item("odd", 'The "Best" Of <|im_end|> I\'m sorry. 1 2 3'),
    ]
    chance = np.random.default_rng(0)
    # Without negative values, so that two films are never opposites.
    vectors = chance.random(size=(len(items), 8), dtype=np.float32)
    vectors[4] = vectors[0] + 0.1
    vectors[6] = vectors[1]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    reviews = (
        Review("jumanji", "Hm. Peter and Judy finish the game in a way that I liked.", 9.0, "r1"),
        Review(
            "jumanji", "The game of Judy and Peter is dull and dumb, and life is short.", 2.0, "r2"
        ),
        Review("jumanji", "My own words on the game of Judy and Peter and its life.", 10.0, "ann"),
        Review("toys", "A film about toys that says nothing of note in here.", 10.0, "r3"),
    )
    interactions = tuple(
        Interaction(user, item_id) for user in ("u1", "u2", "u3") for item_id in ("jumanji", "toys")
    )
    return Index(
        items={item.item_id: item for item in items},
        vectors=vectors,
        interactions=interactions,
        reviews=reviews,
    )
