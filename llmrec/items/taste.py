"""A user's taste in words, from the history."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import Protocol

from llmrec.catalog import liked
from llmrec.catalog.values import named_values
from llmrec.records import Insight, Interaction, Item, User

Value = tuple[str, str]
"""An attribute's or aspect's name and value: ``("genres", "Drama")``."""

_LONGEST_VALUE = 40
"""Maximum characters of a value; longer ones are sentences, not tastes."""
_PRIOR = 20.0
"""Pseudo-counts with which a history is pulled towards the catalogue."""
_TELLING = 1.28
"""Minimum z-score of a reported value (with one item added to the variance)."""


@dataclass(frozen=True, slots=True)
class Taste:
    """A user's taste, most distinctive values first; empty if nothing is clear.

    Attributes:
        favoured: Attribute values that the liked items have more often than the catalogue.
        avoided: Those that the disliked items have more often than the catalogue.
        enjoyed: Aspects that reviewers praise in the liked items more than elsewhere.
        disliked: Aspects that reviewers complain of in the disliked items more than elsewhere.
        friends: Ids of items that most friends chose and the user did not.
    """

    favoured: tuple[Value, ...] = ()
    avoided: tuple[Value, ...] = ()
    enjoyed: tuple[Value, ...] = ()
    disliked: tuple[Value, ...] = ()
    friends: tuple[str, ...] = ()


class Known(Protocol):
    """What tastes are read from: a catalogue or an index."""

    @property
    def items(self) -> Mapping[str, Item]:
        """Items by id."""
        ...

    @property
    def user_ids(self) -> Sequence[str]:
        """All known users."""
        ...

    def user(self, user_id: str) -> User:
        """Return a known user."""
        ...


@dataclass(frozen=True)
class Tastes:
    """Finds users' tastes relative to a catalogue's averages.

    Args:
        catalog: Items, and what friends chose: training rows only, where something is held out.
        insights: Opinions by item id.
        half_life: Later interactions after which one counts half.
        most: Entries of each kind at most.
    """

    catalog: Known
    insights: Mapping[str, Insight]
    half_life: float = 20.0
    most: int = 4

    def of(self, user: User) -> Taste:
        """Derive a user's taste from the history; items outside the catalogue are ignored."""
        opinions = liked(user.history, user.neutral_rating)
        good = self._weighted(user.history, [1.0 if opinion else 0.0 for opinion in opinions])
        bad = self._weighted(user.history, [0.0 if opinion else 1.0 for opinion in opinions])
        values, praise, complaints = self._common
        return Taste(
            favoured=self._telling(good, _values, values),
            avoided=self._telling(bad, _values, values),
            enjoyed=self._telling(good, self._praised, praise),
            disliked=self._telling(bad, self._criticised, complaints),
            friends=self._chosen_by_friends(user),
        )

    def _weighted(
        self, history: tuple[Interaction, ...], weights: Iterable[float]
    ) -> list[tuple[Item, float]]:
        last = len(history) - 1
        return [
            (self.catalog.items[row.item_id], weight * 0.5 ** ((last - at) / self.half_life))
            for at, (row, weight) in enumerate(zip(history, weights, strict=True))
            if weight and row.item_id in self.catalog.items
        ]

    def _telling(
        self,
        chosen: list[tuple[Item, float]],
        values_of: Callable[[Item], tuple[Value, ...]],
        common: Mapping[Value, float],
    ) -> tuple[Value, ...]:
        """The values that distinguish this history from the catalogue.

        Ranked by the value's part in the Kullback-Leibler divergence between the two, p log(p / q)
        (Tomokiyo and Hurst, "A Language Model Approach to Keyphrase Extraction", 2003), where the
        share p is pulled towards the catalogue's share q: rare values of a few items and common
        values that are common everywhere both stay behind.
        """
        counts: defaultdict[Value, float] = defaultdict(float)
        items: Counter[Value] = Counter()
        for item, weight in chosen:
            for value in values_of(item):
                counts[value] += weight
                items[value] += 1
        total = sum(weight for _, weight in chosen)
        scores = {}
        for value, count in counts.items():
            q = common[value]
            p = (count + _PRIOR * q) / (total + _PRIOR)
            z = (count - total * q) / math.sqrt(total * q * (1 - q) + 1)
            if items[value] > 1 and z >= _TELLING:
                scores[value] = p * math.log(p / q)
        order = sorted(scores, key=lambda value: (-scores[value], value))
        return tuple(order[: self.most])

    def _chosen_by_friends(self, user: User) -> tuple[str, ...]:
        own = {row.item_id for row in user.history}
        known = [friend for friend in user.friends if friend in self._known_users]
        counts = Counter(
            item_id
            for friend in known
            for item_id in {row.item_id for row in self.catalog.user(friend).history} - own
        )
        order = sorted((n for n in counts if counts[n] > 1), key=lambda n: (-counts[n], n))
        return tuple(order[: self.most])

    def _praised(self, item: Item) -> tuple[Value, ...]:
        opinion = self.insights.get(item.item_id, Insight()).opinion
        aspects = opinion.aspects if opinion else ()
        return tuple(("aspect", each.name) for each in aspects if each.positive > each.negative)

    def _criticised(self, item: Item) -> tuple[Value, ...]:
        opinion = self.insights.get(item.item_id, Insight()).opinion
        aspects = opinion.aspects if opinion else ()
        return tuple(("aspect", each.name) for each in aspects if each.negative > each.positive)

    @cached_property
    def _known_users(self) -> frozenset[str]:
        return frozenset(self.catalog.user_ids)

    @cached_property
    def _common(self) -> tuple[Mapping[Value, float], ...]:
        items = self.catalog.items.values()
        return tuple(
            {
                value: count / max(len(items), 1)
                for value, count in Counter(v for item in items for v in values_of(item)).items()
            }
            for values_of in (_values, self._praised, self._criticised)
        )


def _values(item: Item) -> tuple[Value, ...]:
    """The short text values of an item's attributes, without numbers."""
    return named_values(item, longest=_LONGEST_VALUE)


def taste_line(taste: Taste) -> str:
    """A taste in words; empty if there is none.

    >>> taste_line(Taste(favoured=(("genres", "War"), ("brand", "Acme"), ("genres", "Crime"))))
    'often genres War, Crime, brand Acme'
    """
    parts = [
        f"{word} {_by_name(values)}"
        for word, values in (("often", taste.favoured), ("rarely liked", taste.avoided))
        if values
    ]
    for words, aspects in (("enjoys", taste.enjoyed), ("put off by", taste.disliked)):
        if aspects:
            parts.append(f"{words} {', '.join(name for _, name in aspects)}")
    return "; ".join(parts)


def _by_name(values: tuple[Value, ...]) -> str:
    """Attribute by attribute, in the order in which the attributes first come."""
    first = {name: at for at, (name, _) in reversed(list(enumerate(values)))}
    ordered = sorted(values, key=lambda value: first[value[0]])
    return ", ".join(
        f"{name.replace('_', ' ')} {', '.join(text for _, text in group)}"
        for name, group in groupby(ordered, key=lambda value: value[0])
    )
