"""How telling the values of attributes are."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from llmrec.catalog.values import named_values
from llmrec.records import Item


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
