"""Attributes as a reader sees them: what is worth telling, how it reads, how rare a value is."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from llmrec.catalog.attributes import readable_attributes
from llmrec.records import AttributeValue, Item

LONGEST_VALUE = 60
"""Characters; longer values are sentences, not attributes."""


@dataclass(frozen=True, slots=True)
class Rarity:
    """How many items of a catalogue have each attribute value.

    Attributes:
        counts: Number of items by attribute name and value.
        n_items: Number of items.
    """

    counts: Mapping[tuple[str, str], int]
    n_items: int

    @classmethod
    def of(cls, items: Iterable[Item]) -> Rarity:
        """Count the values of all items."""
        n_items, counts = 0, Counter[tuple[str, str]]()
        for item in items:
            n_items += 1
            counts.update(named_values(item))
        return cls(counts, n_items)

    def weight(self, named_values: Iterable[tuple[str, str]]) -> float:
        """Add up how telling values are: much for rare ones, next to nothing for common ones."""
        return sum(
            math.log((self.n_items + 1) / self.counts.get(value, 1)) for value in named_values
        )


def named_values(item: Item) -> tuple[tuple[str, str], ...]:
    """List the attribute values that items can share, each with its name: text, never numbers."""
    return tuple(
        (name, text)
        for name, value in item.attributes.items()
        if isinstance(value, (str, tuple))
        for text in readable(name, value)
    )


def readable(name: str, value: AttributeValue, *, longest: int = LONGEST_VALUE) -> tuple[str, ...]:
    """Write out an attribute's values, without those that serve machines or are too long.

    >>> readable("genres", ("Comedy", "Drama")), readable("price", 18.0), readable("imdb_id", "tt1")
    (('Comedy', 'Drama'), ('18',), ())
    """
    values = readable_attributes({name: value}).get(name, ())
    texts = (" ".join(text.split()) for text in values)
    return tuple(dict.fromkeys(text for text in texts if len(text) <= longest))
