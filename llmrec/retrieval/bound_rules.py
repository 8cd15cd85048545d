"""Rules made ready for the items of an index: masks, boosts, and how many of a kind."""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from llmrec.errors import OptionError, UnknownItemError, nearest
from llmrec.records import Candidate, Item, User

logger = logging.getLogger(__name__)


class AtMost(BaseModel):
    """How many items of each value of an attribute one list may hold."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    attribute: str
    n: int = Field(ge=1, strict=True)

    def __str__(self) -> str:
        return f"{self.n} of each {self.attribute}"


@dataclass(frozen=True, eq=False)
class Allowed:
    """Which items a user may be shown.

    Attributes:
        mask: bool [n_items], in the order of the items.
        removed: How many items each rule removes that none before it did.
    """

    mask: np.ndarray
    removed: Mapping[str, int]


@dataclass(frozen=True, eq=False)
class Capped:
    """A list in which there is not too much of a kind; how many candidates each rule removed."""

    candidates: tuple[Candidate, ...]
    removed: Mapping[str, int]


@dataclass(frozen=True, eq=False)
class BoundRules:
    """Rules made ready for items: masks are made once for all users.

    Attributes:
        boosts: float64 [n_items], to add to the standardised score, read-only.
    """

    boosts: np.ndarray
    _items: tuple[Item, ...]
    _rows: Mapping[str, int]
    _allowed: np.ndarray
    _removed: Mapping[str, int]
    _never: tuple[tuple[str, np.ndarray, np.ndarray], ...]
    _at_most: tuple[AtMost, ...]

    def allowed(self, user: User) -> Allowed:
        """Say what a user may be shown; what depends on the user's history is logged.

        Raises:
            UnknownItemError: The history holds an item that is none of these.
        """
        mask, removed = self._allowed.copy(), Counter(self._removed)
        if self._never:
            met = np.array([self._row(entry.item_id) for entry in user.history], dtype=np.int64)
            for name, these, after in self._never:
                if after[met].any():
                    count = int(np.count_nonzero(mask & these))
                    logger.info("Of user %s's items '%s' removes %d.", user.user_id, name, count)
                    removed[name] += count
                    mask &= ~these
        return Allowed(mask, removed)

    def cap(self, candidates: Sequence[Candidate], k: int) -> Capped:
        """Take the first k candidates that do not exceed what there may be of a kind.

        Args:
            candidates: Best first; more than k, so that others can take the place of those removed.
            k: How many; fewer are left only where the candidates hold no more that may be shown.

        Raises:
            OptionError: k is below 1.
            UnknownItemError: A candidate is none of the items.
        """
        if k < 1:
            raise OptionError(f"k is {k}.", hint="Ask for at least one candidate.")
        counts: defaultdict[AtMost, Counter[object]] = defaultdict(Counter)
        left: list[Candidate] = []
        removed: Counter[str] = Counter()
        for candidate in candidates:
            if len(left) == k:
                break
            item = self._items[self._row(candidate.item_id)]
            kinds = [(rule, _values(item, rule.attribute)) for rule in self._at_most]
            full = [r for r, values in kinds if any(counts[r][v] >= r.n for v in values)]
            if full:
                removed[f"at_most {full[0]}"] += 1
                continue
            for rule, values in kinds:
                counts[rule].update(values)
            left.append(candidate)
        if removed:
            logger.info("Of the candidates the rules remove %s.", dict(removed))
        return Capped(tuple(left), removed)

    def _row(self, item_id: str) -> int:
        row = self._rows.get(item_id)
        if row is None:
            raise UnknownItemError(
                f"The rules are bound to items without {item_id!r}.",
                hint=nearest(item_id, self._rows) or "Check the id.",
            )
        return row


def _values(item: Item, attribute: str) -> set[object]:
    value = item.attributes.get(attribute)
    return set(value) if isinstance(value, tuple) else set() if value is None else {value}
