"""What a template sees of users and items: every text harmless and within its budget.

The names here are the template author's language (see ``prompts/README.md``). Fields are worked out
when a template first reads them. What would give the answer away is not there to be read: no
retrieval score, no rank, no rating of a candidate, no review that the user wrote.
"""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Mapping, Sequence
from functools import cached_property

from llmrec.prompting.budget import Budget, TextTokenizer, field_text
from llmrec.records import AttributeValue, Interaction, Item, Review, User

_REVIEWS = 2
# Columns for machines, and counts that tell how popular an item is in data not to be looked at.
_NOT_FOR_READING = re.compile(
    r"(?:^|_)(?:ids?|isbn|urls?|uri|link|image|video|source)$|^(?:n|num)_|_count$", re.IGNORECASE
)
_CODE = re.compile(r"https?://\S*|(?=\D*\d)[A-Z0-9]{8,}")


class ShownItem:
    """One item as a template sees it."""

    def __init__(
        self,
        item: Item,
        tokenizer: TextTokenizer,
        budget: Budget,
        reviews: Sequence[Review] = (),
    ) -> None:
        self._item = item
        self._tokenizer = tokenizer
        self._budget = budget
        self._reviews = reviews

    @cached_property
    def title(self) -> str:
        """The title; where it is missing, the description's beginning, else the id."""
        return field_text(self._item.name, self._budget.title, self._tokenizer)

    @cached_property
    def details(self) -> str:
        """The attributes worth reading in one line: ``genres: Action, Comedy; year: 1995``."""
        return _line(self._item.attributes, self._budget.attributes, self._tokenizer)

    @cached_property
    def description(self) -> str:
        """The description's beginning, empty where there is none."""
        return field_text(self._item.description, self._budget.description, self._tokenizer)

    @cached_property
    def attributes(self) -> dict[str, str]:
        """Every attribute by its column name, as text."""
        return {
            name: field_text(_plain(value), self._budget.attributes, self._tokenizer)
            for name, value in self._item.attributes.items()
        }

    @cached_property
    def reviews(self) -> tuple[str, ...]:
        """Beginnings of up to two reviews that other users wrote."""
        texts = (
            field_text(review.text, self._budget.review, self._tokenizer)
            for review in self._reviews[:_REVIEWS]
        )
        return tuple(text for text in texts if text)


class ShownHistoryItem:
    """One item of the user's history: an item, and what the user thought of it."""

    def __init__(self, item: ShownItem, rating: float | None, *, liked: bool) -> None:
        self._item = item
        self.rating = None if rating is None else _number(rating)
        self.liked = liked

    @property
    def title(self) -> str:
        """As of any item."""
        return self._item.title

    @property
    def details(self) -> str:
        """As of any item."""
        return self._item.details

    @property
    def description(self) -> str:
        """As of any item."""
        return self._item.description

    @property
    def attributes(self) -> dict[str, str]:
        """As of any item."""
        return self._item.attributes


class ShownUser:
    """The user as a template sees them."""

    def __init__(self, user: User, tokenizer: TextTokenizer, budget: Budget) -> None:
        self._user = user
        self._tokenizer = tokenizer
        self._budget = budget

    @cached_property
    def profile(self) -> str:
        """The profile columns in one line, empty where there are none."""
        return _line(self._user.profile, self._budget.profile, self._tokenizer)


FIELDS: Mapping[type, tuple[str, ...]] = {
    ShownItem: ("title", "details", "description", "attributes", "reviews"),
    ShownHistoryItem: ("title", "details", "description", "attributes", "rating", "liked"),
    ShownUser: ("profile",),
}
"""What a template may read of each."""


def liked(history: Sequence[Interaction]) -> tuple[bool, ...]:
    """Say of each interaction whether it speaks for its item.

    Data sets rate in different units, so users are measured by themselves: a rating counts as
    liked from the user's own median up, or from 60 % of the user's own highest. An interaction
    without a rating counts as liked.
    """
    ratings = [known for row in history if (known := _known(row.rating)) is not None]
    if not ratings:
        return (True,) * len(history)
    enough = min(statistics.median(ratings), 0.6 * max(ratings))
    known_ratings = (_known(row.rating) for row in history)
    return tuple(rating is None or rating >= enough for rating in known_ratings)


def _known(rating: float | None) -> float | None:
    return None if rating is None or math.isnan(rating) else rating


def _number(value: float) -> float:
    """Give whole numbers without ``.0``, as people write them."""
    return int(value) if float(value).is_integer() else value


def _plain(value: AttributeValue) -> str:
    if isinstance(value, tuple):
        return ", ".join(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value if isinstance(value, str) else str(_number(value))


def _line(attributes: Mapping[str, AttributeValue], n_tokens: int, tokenizer: TextTokenizer) -> str:
    readable = (
        f"{name.replace('_', ' ')}: {text}"
        for name, value in attributes.items()
        if not _NOT_FOR_READING.search(name)
        and (text := _plain(value)).strip()
        and not all(_CODE.fullmatch(part) for part in text.split(", "))
    )
    return field_text("; ".join(readable), n_tokens, tokenizer)
