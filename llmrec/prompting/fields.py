"""The fields of users and items that templates read: every text neutralised, within its budget.

``prompts/README.md`` documents them. Nothing that would give the answer away can be read: no
retrieval score, no rank, no rating of a candidate, no review that the user wrote.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import fields as dataclass_fields
from functools import cache, partial
from types import MappingProxyType, NoneType
from typing import Any

from llmrec.catalog.values import readable_attributes, value_text
from llmrec.errors import check_count, check_kind
from llmrec.items import Taste, opinion_line, taste_line
from llmrec.models import TextTokenizer
from llmrec.prompting.neutralise import neutralise
from llmrec.records import AttributeValue, Caption, Insight, Item, Review, User

REVIEWS = 2
"""Reviews of a candidate that a template reads at most, the first ones."""
_NAME_TOKENS = 32
"""Of an attribute's name, which a data set may have from anybody too."""
_ELLIPSIS = "…"
# No readable text has more characters in a token: what comes later is cut off without being read
# (a description may have 100,000 characters).
_CHARACTERS_PER_TOKEN = 32


@dataclass(frozen=True, slots=True)
class Budget:
    """Maximum tokens per field, counted by the model's tokenizer; 0 leaves a field out.

    ``history_items`` counts items, the most recent. ``evidence`` is for each piece of evidence and
    for the fault note of a rewrite; ``review`` is for each of at most two reviews of a candidate;
    ``query`` is for the user's own words.

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
    query: int = 48

    def __post_init__(self) -> None:
        for field in dataclass_fields(self):
            check_count(f"Budget {field.name}", getattr(self, field.name), least=0)


def check_budget(budget: object) -> Budget:
    """Return a budget; None is the default one.

    Raises:
        OptionError: It is no `Budget`.
    """
    hint = "Give llmrec.prompting.Budget(title=...)."
    return check_kind("budget", budget, (Budget, NoneType), "a Budget or None", hint) or Budget()


def field_text(text: str, n_tokens: int, tokenizer: TextTokenizer) -> str:
    """Neutralise foreign text and cut it to at most ``n_tokens`` tokens.

    A text that was cut ends in an ellipsis, which counts.

    Args:
        text: Any text, of any length.
        n_tokens: 0 gives the empty text.
        tokenizer: The tokenizer of the model that will read it.
    """
    seen = text[: n_tokens * _CHARACTERS_PER_TOKEN]
    harmless = neutralise(seen, tokenizer.special_tokens)
    # Of ASCII, each token but a first space has a character of its own: no need to count them.
    short = harmless.isascii() and len(harmless) < n_tokens
    if len(seen) == len(text) and (short or len(tokenizer.encode(harmless)) <= n_tokens):
        return harmless
    # Tokens may merge or split before the ellipsis: count the result, not the parts.
    for kept in range(n_tokens - len(tokenizer.encode(_ELLIPSIS)), 0, -1):
        beginning = tokenizer.cut(harmless, kept).rstrip(" \u200c\u200d")
        if beginning and len(tokenizer.encode(beginning + _ELLIPSIS)) <= n_tokens:
            return beginning + _ELLIPSIS
    return tokenizer.cut(harmless, n_tokens)


_FIELDS = {
    "item": "label title details description attributes reviews picture clip opinion praise "
    "complaints facts",
    "history": "title details description attributes rating liked",
    "user": "profile query taste friends",
}
FIELDS: Mapping[str, tuple[str, ...]] = {kind: tuple(n.split()) for kind, n in _FIELDS.items()}
"""Fields of a candidate, a history item and the user that a template may read."""


class Shown:
    """A record as a template reads it; each field is computed when it is first read."""

    def __init__(self, fields: Mapping[str, Callable[[], object]]) -> None:
        self._fields = fields

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        if name.startswith("_") or name not in self._fields:
            raise AttributeError(name)
        value = self._fields[name]()
        setattr(self, name, value)
        return value


def shown_item(
    item: Item,
    tokenizer: TextTokenizer,
    budget: Budget,
    reviews: Sequence[Review] = (),
    insight: Insight = Insight(),  # noqa: B008  # frozen
    label: str = "",
) -> Shown:
    """A candidate, or an item of the history before :func:`shown_past` restricts it."""
    opinion = insight.opinion

    def text(full: str, n_tokens: int) -> str:
        return field_text(full, n_tokens, tokenizer)

    def texts(full: Sequence[str]) -> tuple[str, ...]:
        return tuple(short for one in full if (short := text(one, budget.review)))

    return Shown(
        {
            "label": lambda: label,
            "title": lambda: text(item.name, budget.title),
            "details": lambda: text(_line(item.attributes), budget.attributes),
            "description": lambda: text(item.description, budget.description),
            "attributes": lambda: {
                text(name, _NAME_TOKENS): text(value_text(value), budget.attributes)
                for name, value in item.attributes.items()
            },
            "reviews": lambda: texts([review.text for review in reviews[:REVIEWS]]),
            "picture": lambda: text(_words(insight.picture), budget.attributes),
            "clip": lambda: text(_words(insight.clip), budget.attributes),
            "opinion": lambda: text(opinion_line(opinion) if opinion else "", budget.review),
            "praise": lambda: texts(opinion.praise if opinion else ()),
            "complaints": lambda: texts(opinion.complaints if opinion else ()),
            "facts": lambda: texts(insight.facts),
        }
    )


def shown_past(item: Shown, rating: float | None, *, liked: bool) -> Shown:
    """An item of the history, with the user's rating."""
    whole = rating is not None and float(rating).is_integer()
    own = {
        # Whole numbers without ".0", as people write them.
        "rating": lambda: int(rating) if whole and rating is not None else rating,
        "liked": lambda: liked,
    }
    return Shown({name: own.get(name, partial(getattr, item, name)) for name in FIELDS["history"]})


def shown_user(
    user: User,
    tokenizer: TextTokenizer,
    budget: Budget,
    *,
    taste: Callable[[User], Taste] = lambda _: Taste(),
    items: Mapping[str, Item] = MappingProxyType({}),
) -> Shown:
    """The user; ``items`` hold the titles of what friends chose."""

    def text(full: str, n_tokens: int) -> str:
        return field_text(full, n_tokens, tokenizer)

    @cache
    def known() -> Taste:
        return taste(user)

    return Shown(
        {
            "profile": lambda: text(_line(user.profile), budget.profile),
            "query": lambda: text(user.query, budget.query),
            "taste": lambda: text(taste_line(known()), budget.profile),
            "friends": lambda: tuple(
                text(items[item_id].name, budget.title) for item_id in known().friends
            ),
        }
    )


def _words(caption: Caption | None) -> str:
    return caption.text if caption else ""


def _line(attributes: Mapping[str, AttributeValue]) -> str:
    return "; ".join(
        f"{name.replace('_', ' ')}: {', '.join(values)}"
        for name, values in readable_attributes(attributes).items()
    )
