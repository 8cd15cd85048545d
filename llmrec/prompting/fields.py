"""What a template sees of users and items: every text harmless and within its budget.

The names here are the template author's language (see ``prompts/README.md``). Fields are worked out
when a template first reads them. What would give the answer away is not there to be read: no
retrieval score, no rank, no rating of a candidate, no review that the user wrote.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import fields as dataclass_fields
from functools import cached_property
from types import MappingProxyType

from llmrec.catalog.values import readable_attributes, value_text
from llmrec.errors import OptionError
from llmrec.items import Taste, opinion_line, taste_line
from llmrec.models import TextTokenizer
from llmrec.prompting.neutralise import neutralise
from llmrec.records import AttributeValue, Caption, Insight, Item, Review, User

_REVIEWS = 2
_ELLIPSIS = "…"
# No readable text packs more characters into a token: what stands further back cannot be kept, so
# it need not be looked at (a description may have 100,000 characters).
_CHARACTERS_PER_TOKEN = 32


@dataclass(frozen=True, slots=True)
class Budget:
    """Tokens a field may take, in the reading model's own tokenizer; 0 leaves a field out.

    ``history_items`` counts items, the most recent. ``evidence`` is for each piece of evidence and
    for the fault note of a rewrite; ``review`` is for each of at most two reviews of a candidate.

    Raises:
        OptionError: A value is negative.
    """

    title: int = 32
    description: int = 48
    attributes: int = 32
    review: int = 40
    profile: int = 48
    history_items: int = 20
    evidence: int = 96

    def __post_init__(self) -> None:
        for field in dataclass_fields(self):
            value: int = getattr(self, field.name)
            if value < 0:
                raise OptionError(
                    f"Budget {field.name}={value}: allowed is 0 or more.",
                    hint="0 leaves the field out.",
                )


def field_text(text: str, n_tokens: int, tokenizer: TextTokenizer) -> str:
    """Make foreign text harmless and cut it to ``n_tokens`` tokens.

    A text that was cut ends in an ellipsis, which counts. Never more than ``n_tokens`` tokens.

    Args:
        text: Any text, of any length.
        n_tokens: 0 gives the empty text.
        tokenizer: The tokenizer of the model that will read it.
    """
    seen = text[: n_tokens * _CHARACTERS_PER_TOKEN]
    harmless = neutralise(seen, tokenizer.special_tokens)
    if len(seen) == len(text) and len(tokenizer.encode(harmless)) <= n_tokens:
        return harmless
    # Tokens may merge or split where the ellipsis is put on: count the result, not the parts.
    for kept in range(n_tokens - len(tokenizer.encode(_ELLIPSIS)), 0, -1):
        beginning = tokenizer.cut(harmless, kept).rstrip(" \u200c\u200d")
        if beginning and len(tokenizer.encode(beginning + _ELLIPSIS)) <= n_tokens:
            return beginning + _ELLIPSIS
    return tokenizer.cut(harmless, n_tokens)


class ShownItem:
    """One item as a template sees it."""

    def __init__(
        self,
        item: Item,
        tokenizer: TextTokenizer,
        budget: Budget,
        reviews: Sequence[Review] = (),
        insight: Insight = Insight(),  # noqa: B008  # frozen
        label: str = "",
    ) -> None:
        self.label = label
        self._item = item
        self._tokenizer = tokenizer
        self._budget = budget
        self._reviews = reviews
        self._insight = insight

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
            name: field_text(value_text(value), self._budget.attributes, self._tokenizer)
            for name, value in self._item.attributes.items()
        }

    @cached_property
    def reviews(self) -> tuple[str, ...]:
        """Beginnings of up to two reviews that other users wrote."""
        return self._texts([review.text for review in self._reviews[:_REVIEWS]])

    @cached_property
    def picture(self) -> str:
        """What the picture shows, empty where nobody can say."""
        return self._caption(self._insight.picture)

    @cached_property
    def clip(self) -> str:
        """What the clip shows, empty where nobody can say."""
        return self._caption(self._insight.clip)

    @cached_property
    def opinion(self) -> str:
        """What reviewers think in one line: ``75 % of 12 reviews positive; praised: plot``."""
        opinion = self._insight.opinion
        line = opinion_line(opinion) if opinion else ""
        return field_text(line, self._budget.review, self._tokenizer)

    @cached_property
    def praise(self) -> tuple[str, ...]:
        """Sentences of reviews that speak well of it, most telling first."""
        return self._texts(self._insight.opinion.praise if self._insight.opinion else ())

    @cached_property
    def complaints(self) -> tuple[str, ...]:
        """Sentences of reviews that speak ill of it, most telling first."""
        return self._texts(self._insight.opinion.complaints if self._insight.opinion else ())

    @cached_property
    def facts(self) -> tuple[str, ...]:
        """What a knowledge graph says: ``directed by: Mann``."""
        return self._texts(self._insight.facts)

    def _caption(self, caption: Caption | None) -> str:
        text = caption.text if caption else ""
        return field_text(text, self._budget.attributes, self._tokenizer)

    def _texts(self, texts: Sequence[str]) -> tuple[str, ...]:
        short = (field_text(text, self._budget.review, self._tokenizer) for text in texts)
        return tuple(text for text in short if text)


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

    def __init__(
        self,
        user: User,
        tokenizer: TextTokenizer,
        budget: Budget,
        *,
        taste: Callable[[User], Taste] = lambda _: Taste(),
        items: Mapping[str, Item] = MappingProxyType({}),
    ) -> None:
        self._user = user
        self._tokenizer = tokenizer
        self._budget = budget
        self._taste_of = taste
        self._items = items

    @cached_property
    def profile(self) -> str:
        """The profile columns in one line, empty where there are none."""
        return _line(self._user.profile, self._budget.profile, self._tokenizer)

    @cached_property
    def taste(self) -> str:
        """What the history tells in one line, empty where it tells nothing clear."""
        return field_text(taste_line(self._taste), self._budget.profile, self._tokenizer)

    @cached_property
    def friends(self) -> tuple[str, ...]:
        """Titles of what most of the user's friends chose, the user's own choices left out."""
        names = (self._items[item_id].name for item_id in self._taste.friends)
        return tuple(field_text(name, self._budget.title, self._tokenizer) for name in names)

    @cached_property
    def _taste(self) -> Taste:
        return self._taste_of(self._user)


FIELDS: Mapping[type, tuple[str, ...]] = {
    ShownItem: (
        "label",
        "title",
        "details",
        "description",
        "attributes",
        "reviews",
        "picture",
        "clip",
        "opinion",
        "praise",
        "complaints",
        "facts",
    ),
    ShownHistoryItem: ("title", "details", "description", "attributes", "rating", "liked"),
    ShownUser: ("profile", "taste", "friends"),
}
"""What a template may read of each."""


def _number(value: float) -> float:
    """Give whole numbers without ``.0``, as people write them."""
    return int(value) if float(value).is_integer() else value


def _line(attributes: Mapping[str, AttributeValue], n_tokens: int, tokenizer: TextTokenizer) -> str:
    told = (
        f"{name.replace('_', ' ')}: {', '.join(values)}"
        for name, values in readable_attributes(attributes).items()
    )
    return field_text("; ".join(told), n_tokens, tokenizer)
