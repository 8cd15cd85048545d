from __future__ import annotations

import pytest

from llmrec.catalog.values import named_values, readable
from llmrec.explaining.rarity import Rarity
from llmrec.records import AttributeValue, Item


@pytest.mark.parametrize(
    ("name", "value", "texts"),
    [
        ("genres", ("Comedy", "Drama", "Comedy"), ("Comedy", "Drama")),
        ("runtime", 81.0, ("81",)),
        ("price", 18.8, ("18.8",)),
        ("votes", 1_234_567, ("1234567",)),
        ("in_stock", True, ("yes",)),
        ("author", "  村上\n春树 ", ("村上 春树",)),
        ("imdb_id", "tt1", ()),
        ("image_source", "there", ()),
        ("n_ratings", 7, ()),
        ("also_buy", ("B1", "B2"), ()),
        ("home", "https://example.org/x", ()),
        ("features", ("x" * 61, "short"), ("short",)),
        ("color", "", ()),
    ],
)
def test_readable(name: str, value: AttributeValue, texts: tuple[str, ...]) -> None:
    assert readable(name, value) == texts


def test_named_values_leave_numbers_out() -> None:
    item = Item("a", attributes={"genres": ("Comedy",), "year": 1995, "brand": "Acme"})
    assert named_values(item) == (("genres", "Comedy"), ("brand", "Acme"))


def test_rare_values_weigh_more() -> None:
    items = [Item(str(n), attributes={"genres": ("Drama",) if n else ("Noir",)}) for n in range(9)]
    rarity = Rarity.of(items)
    assert rarity.weight([("genres", "Noir")]) > 10 * rarity.weight([("genres", "Drama")]) > 0
    assert rarity.weight([]) == 0


def test_what_more_than_half_of_the_items_have_is_common() -> None:
    items = [Item(str(n), attributes={"kind": "card", "use": str(n % 2)}) for n in range(30)]
    rarity = Rarity.of(items)
    assert rarity.common(("kind", "card"))
    assert not rarity.common(("use", "0"))
    assert not Rarity.of(items[:2]).common(("kind", "card"))
