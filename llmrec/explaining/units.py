"""Units of a user and an item: what can be left out, and the copies without it or reworded.

A unit's name is that of its evidence (see :func:`~llmrec.explaining.evidence.gather_evidence`).
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable, Collection, Iterator, MutableMapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import cast

from llmrec.catalog.values import readable_attributes
from llmrec.explaining.evidence import read_sentences
from llmrec.prompting import Context
from llmrec.prompting.fields import REVIEWS
from llmrec.records import Item, Review, User

REWORDED = 6
"""Rewordings of titles of the history, the most recent first: their prompts share most tokens."""
_FORMS: tuple[Callable[[str], str], ...] = ('"{}"'.format, "{}.".format, str.upper)


def is_of_user(unit: str) -> bool:
    """Whether a unit belongs to the user, so that it is the same for every item."""
    return unit.partition(":")[0] in {"history", "profile", "query", "friends"}


def units_of(context: Context, user: User, item_id: str, *, history: int) -> tuple[str, ...]:
    """Name the units of a user and an item that a prompt may show.

    An item that the history has several times is one unit, named by its last place. The title is
    none: without it nothing is left to score.

    Args:
        context: Data of items and users.
        user: The user.
        item_id: The item.
        history: How many of the last rows of the history count.
    """
    item, insight = context.items[item_id], context.insight(item_id)
    reviews = context.reviews(item_id)
    shown = [n for n, each in enumerate(reviews) if each.user_id != user.user_id][:REVIEWS]
    last = {row.item_id: place for place, row in enumerate(user.history, 1)}
    return (
        *(f"history:{n}" for n in sorted(last.values()) if n > len(user.history) - history),
        *(f"profile:{name}" for name in user.profile),
        *["query"] * bool(user.query.strip()),
        *["friends"] * bool(user.friends),
        *(f"attribute:{name}" for name in readable_attributes(item.attributes)),
        *_sentence_units("description", item.description),
        *["caption"] * (insight.picture is not None),
        *(f"fact:{n}" for n in range(1, len(insight.facts) + 1)),
        *["opinion"] * (insight.opinion is not None),
        *(unit for n in shown for unit in _sentence_units(f"review:{n + 1}", reviews[n].text)),
    )


def without(
    context: Context, user: User, item_id: str, units: Collection[str]
) -> tuple[Context, User]:
    """Copies of a context and a user without some units of the user and of an item."""
    left_out = frozenset(units)
    rows = enumerate(user.history, 1)
    gone = {row.item_id for place, row in rows if f"history:{place}" in left_out}
    user = replace(
        user,
        history=tuple(row for row in user.history if row.item_id not in gone),
        profile={n: v for n, v in user.profile.items() if f"profile:{n}" not in left_out},
        query="" if "query" in left_out else user.query,
        friends=() if "friends" in left_out else user.friends,
    )
    if all(map(is_of_user, left_out)):
        return context, user
    item, insight = context.items[item_id], context.insight(item_id)
    item = replace(
        item,
        description=_without_sentences(item.description, "description", left_out),
        attributes={n: v for n, v in item.attributes.items() if f"attribute:{n}" not in left_out},
    )
    insight = replace(
        insight,
        picture=None if "caption" in left_out else insight.picture,
        opinion=None if "opinion" in left_out else insight.opinion,
        facts=tuple(f for n, f in enumerate(insight.facts, 1) if f"fact:{n}" not in left_out),
    )
    reviews = tuple(
        replace(each, text=_without_sentences(each.text, f"review:{n}", left_out))
        for n, each in enumerate(context.reviews(item_id), 1)
    )

    def reviews_of(other: str) -> Sequence[Review]:
        return reviews if other == item_id else context.reviews(other)

    changed = replace(
        _with_item(context, item),
        insight=lambda other: insight if other == item_id else context.insight(other),
        reviews=reviews_of,
    )
    return changed, user


def rewordings(
    context: Context, user: User, item_id: str, *, history: int
) -> Iterator[tuple[Context, User]]:
    """Copies that say the same in other words, one change in each.

    A text is put in quotation marks, gets a full stop, or is written in capitals: titles of the
    last ``history`` items, each once before one is taken again, the description, the query.
    Attributes and the profile change their order. The item's title stays: a likelihood reads its
    very tokens.
    """
    item = context.items[item_id]
    shown = user.history[max(len(user.history) - history, 0) :]
    recent = dict.fromkeys(row.item_id for row in reversed(shown))
    past = [context.items[each] for each in recent if each != item_id]
    turns = (
        (one, _FORMS[(place + turn) % len(_FORMS)])
        for turn in range(len(_FORMS))
        for place, one in enumerate(past)
    )
    for one, form in islice(turns, REWORDED):
        yield _with_item(context, replace(one, title=form(one.name))), user
    if len(item.attributes) > 1:
        turned = dict(reversed(list(item.attributes.items())))
        yield _with_item(context, replace(item, attributes=turned)), user
    if item.description.strip():
        for form in _FORMS:
            yield _with_item(context, replace(item, description=form(item.description))), user
    if len(user.profile) > 1:
        yield context, replace(user, profile=dict(reversed(list(user.profile.items()))))
    if user.query.strip():
        for form in _FORMS:
            yield context, replace(user, query=form(user.query))


def _with_item(context: Context, item: Item) -> Context:
    # A ChainMap only reads what stands behind its first mapping.
    known = cast("MutableMapping[str, Item]", context.items)
    return replace(context, items=ChainMap({item.item_id: item}, known))


def _sentence_units(name: str, text: str) -> Iterator[str]:
    return (f"{name}#{number}" for number in range(1, len(read_sentences(text)) + 1))


def _without_sentences(text: str, name: str, left_out: Collection[str]) -> str:
    if not any(unit.startswith(f"{name}#") for unit in left_out):
        return text
    kept, at = [], 0
    for number, sentence in enumerate(read_sentences(text), 1):
        start = text.index(sentence, at)
        end = start + len(sentence)
        kept.append(text[at : start if f"{name}#{number}" in left_out else end])
        at = end
    return "".join([*kept, text[at:]]).strip()
