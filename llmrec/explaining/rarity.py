"""Weights of attribute values: rare values weigh more than common ones."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import chain

from llmrec.catalog.values import named_values
from llmrec.records import Item

FEW = 20
"""Of fewer items nothing is known to be common."""


@dataclass(frozen=True, slots=True)
class Rarity:
    """The number of items that have each attribute value, by attribute name and value."""

    counts: Mapping[tuple[str, str], int]
    n_items: int

    @classmethod
    def of(cls, items: Iterable[Item]) -> Rarity:
        """Count the values of all items."""
        values = [named_values(item) for item in items]
        return cls(Counter(chain.from_iterable(values)), len(values))

    def weight(self, named_values: Iterable[tuple[str, str]]) -> float:
        """Sum of inverse document frequencies: high for rare values, near 0 for common ones."""
        return sum(
            math.log((self.n_items + 1) / self.counts.get(value, 1)) for value in named_values
        )

    def common(self, named_value: tuple[str, str]) -> bool:
        """Whether more than half of the items have a value, so that sharing it says nothing."""
        return self.n_items >= FEW and self.counts.get(named_value, 0) > self.n_items / 2
