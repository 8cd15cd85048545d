"""Requests: a user and candidates to rank, read from any form a caller has.

No index is needed: a request may bring its own items. With an index, a request may name items by
id; its own fields are added to theirs.
"""

from __future__ import annotations

from collections import ChainMap, Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from math import nan
from pathlib import Path
from typing import Any, TypeAlias, cast

from llmrec.catalog import Catalog, GivenItem, read_item, read_items, read_items_file
from llmrec.catalog.values import parse_attribute, parse_id, parse_text
from llmrec.errors import DataError, OptionError, UnknownItemError, UnknownUserError, nearest
from llmrec.items import Taste, Tastes
from llmrec.prompting import Context
from llmrec.records import (
    AttributeValue,
    Candidate,
    Caption,
    CaptionSource,
    Insight,
    Interaction,
    Item,
    Review,
    User,
)

FIELDS = ("user_id", "history", "candidates", "profile", "query", "relevant", "request_id")
"""Allowed fields of a request."""


@dataclass(frozen=True, slots=True)
class Request:
    """A user and candidates to rank, with their data.

    Attributes:
        user: The user with the history, oldest first.
        candidates: In the retriever's order, without duplicates; ``score`` is NaN if missing.
        context: Holds every item of history and candidates.
        relevant: Ids of the relevant candidates, for evaluation.
        request_id: Returned with the result.

    Raises:
        OptionError: There are no candidates, or one is given twice.
        UnknownItemError: The context does not hold a candidate.
    """

    user: User
    candidates: tuple[Candidate, ...]
    context: Context = field(default_factory=Context)
    relevant: frozenset[str] = frozenset()
    request_id: str | None = None

    def __post_init__(self) -> None:
        counts = Counter(candidate.item_id for candidate in self.candidates)
        repeated = [item_id for item_id, n in counts.items() if n > 1]
        if repeated or not counts:
            raise OptionError(
                f"Candidates given more than once: {', '.join(repeated)}."
                if repeated
                else "There are no candidates to rerank.",
                hint="Give each item once, and at least one.",
            )
        items = self.context.items
        for item_id in counts:
            if item_id not in items:
                raise _unknown(item_id, self.context)


Given: TypeAlias = Request | Mapping[str, object]
"""A request, or a mapping with some of `FIELDS`."""


def read_request(given: Given, known: Context | None = None) -> Request:
    """Read a request from a mapping such as a JSON line.

    Args:
        given: ``candidates`` and optionally ``user_id``, ``history``, ``profile``, ``query``,
            ``relevant`` and ``request_id``. See `make_request` for the form of each. A `Request` is
            returned unchanged.
        known: An index or a table of items; the request may use its ids.

    Raises:
        DataError: A field is unknown, missing or invalid.
        OptionError: There are no candidates, or one is given twice.
        UnknownItemError: An id is not in ``known``.
        UnknownUserError: The user is unknown, and the request gives no history.
    """
    if isinstance(given, Request):
        return given
    if not isinstance(given, Mapping):
        raise DataError(
            f"A request is a mapping, not {type(given).__name__} ({given!r:.60}).",
            hint='Give {"history": [...], "candidates": [...]}.',
        )
    unknown = sorted(str(name) for name in given if name not in FIELDS)
    if unknown:
        raise DataError(
            f"The request has an unknown field {unknown[0]!r}; allowed are {', '.join(FIELDS)}.",
            hint=nearest(unknown[0], FIELDS),
        )
    if given.get("candidates") is None:
        raise DataError("The request has no candidates.", hint='Give "candidates": [...].')
    return make_request(
        given["candidates"],
        history=given.get("history"),
        user=given.get("user_id"),
        profile=given.get("profile"),
        query=given.get("query"),
        relevant=given.get("relevant"),
        request_id=given.get("request_id"),
        known=known,
    )


def make_request(
    candidates: object,
    *,
    history: object = None,
    user: object = None,
    profile: object = None,
    query: object = None,
    relevant: object = None,
    request_id: object = None,
    known: Context | None = None,
) -> Request:
    """Make a `Request` from a caller's values.

    Args:
        candidates: A sequence of titles, ids, mappings, `Item` or `Candidate`, or a table with one
            row per candidate (see `llmrec.catalog.read_items`).
        history: The same, oldest first; entries may have a ``rating``. None takes the history in
            ``known``.
        user: A `User` or an id; None is an anonymous user.
        profile: Columns of the profile, by name.
        query: The user's request in plain words.
        relevant: Id or title of the relevant candidate, or several.
        request_id: Returned with the result.
        known: An index or a table of items; the request may use its ids.

    Raises:
        DataError: A value is invalid.
        OptionError: There are no candidates, or one is given twice.
        UnknownItemError: An id is not in ``known``.
        UnknownUserError: The user is unknown, and no history is given.
    """
    given = read_items(candidates, where="candidates")
    values = _values(candidates, len(given))
    person, past = _user(user, history, known or Context())
    person = replace(
        person,
        profile={**person.profile, **_profile(profile)},
        query=_text(query, "query") or person.query,
    )
    return Request(
        user=person,
        candidates=tuple(
            value
            if isinstance(value, Candidate)
            else Candidate(entry.item.item_id, nan if entry.score is None else entry.score)
            for entry, value in zip(given, values, strict=True)
        ),
        context=_context((*past, *given), known, (*_values(history, len(past)), *values)),
        relevant=_relevant(relevant, given),
        request_id=_text(request_id, "request_id") or None,
    )


def items_context(path: str | Path) -> Context:
    """Read a table of items (``.csv``, ``.jsonl`` or ``.parquet``) for requests that use ids.

    Raises:
        DataError: The file cannot be read, or a row is broken.
    """
    return _context(read_items_file(path), None)


def _values(given: object, n: int) -> tuple[Any, ...]:
    """The given values; the rows of a table become mappings."""
    one_by_one = isinstance(given, list | tuple) or getattr(given, "ndim", 0) == 1
    return tuple(cast("Iterable[Any]", given)) if one_by_one else ({},) * n


def _user(user: object, history: object, known: Context) -> tuple[User, tuple[GivenItem, ...]]:
    user_id = "" if isinstance(user, User) else _id(user, "user")
    if isinstance(user, User):
        person = user
    elif history is None and user_id:
        person = known.user(user_id)
    else:
        person = _known_profile(known, user_id)
    if history is None:
        return person, ()
    past = read_items(history, where="history")
    rows = tuple(
        Interaction(person.user_id, entry.item.item_id, entry.rating, entry.timestamp)
        for entry in past
    )
    return replace(person, history=rows), past


def _known_profile(known: Context, user_id: str) -> User:
    """The known profile of a user whose history the request gives; empty for a new user."""
    try:
        return known.user(user_id)
    except UnknownUserError:
        return User(user_id)


def _context(
    entries: tuple[GivenItem, ...], known: Context | None, values: tuple[Any, ...] = ()
) -> Context:
    """The known context, with the request's own items added.

    A text or number in ``values`` names an item; a mapping with a title adds one.
    """
    base = known or Context()
    items: dict[str, Item] = {}
    reviews: dict[str, tuple[Review, ...]] = {}
    insights: dict[str, Insight] = {}
    for entry, value in zip_longest(entries, values):
        item_id = entry.item.item_id
        before = items.get(item_id, base.items.get(item_id))
        if _names_only(entry.item) and not entry.reviews and entry.caption is None:
            brought = isinstance(value, Mapping | Item) and bool(entry.item.title)
            if before is None and known is not None and base.items and not brought:
                raise _unknown(item_id, base)
            items[item_id] = before or entry.item
            continue
        items[item_id] = entry.item if before is None else _merged(before, entry.item)
        if entry.reviews:
            reviews[item_id] = entry.reviews
        if entry.caption is not None:
            caption = Caption(entry.caption, CaptionSource.GIVEN)
            insights[item_id] = replace(base.insight(item_id), picture=caption)
    own = frozenset(items) - base.items.keys()

    def taste(user: User) -> Taste:
        return Tastes(Catalog(items), insights).of(user)

    if known is None:
        return replace(
            base,
            items=items,
            reviews=lambda item_id: reviews.get(item_id, ()),
            insight=lambda item_id: insights.get(item_id, Insight()),
            taste=taste,
        )
    return replace(
        base,
        items=ChainMap(items, base.items),  # type: ignore[arg-type]  # base.items is only read
        reviews=lambda item_id: (
            *reviews.get(item_id, ()),
            *(() if item_id in own else base.reviews(item_id)),
        ),
        insight=lambda item_id: insights.get(item_id) or base.insight(item_id),
        popularity=lambda item_id: 0 if item_id in own else base.popularity(item_id),
        similarity=lambda one, other: 0.0 if {one, other} & own else base.similarity(one, other),
    )


def _unknown(item_id: str, known: Context) -> UnknownItemError:
    return UnknownItemError(
        f"There is no item {item_id!r} among {len(known.items):,}.",
        hint=nearest(item_id, known.items) or "Give an id, or a mapping with a title.",
    )


def _names_only(item: Item) -> bool:
    """Whether an item has only an id or title."""
    return item.title in {"", item.item_id} and item == Item(item.item_id, item.title)


def _merged(before: Item, given: Item) -> Item:
    """The known item, updated by the request's fields."""
    return Item(
        before.item_id,
        given.title if given.title not in {"", given.item_id} else before.title,
        given.description or before.description,
        {**before.attributes, **given.attributes},
        given.image or before.image,
        given.video or before.video,
        given.audio or before.audio,
    )


def _relevant(relevant: object, candidates: tuple[GivenItem, ...]) -> frozenset[str]:
    if relevant is None:
        return frozenset()
    several = relevant if isinstance(relevant, list | tuple | set | frozenset) else [relevant]
    by_name = {entry.item.title: entry.item.item_id for entry in candidates if entry.item.title}
    by_name |= {entry.item.item_id: entry.item.item_id for entry in candidates}
    found = set()
    for value in several:
        entry = read_item(value, where="relevant")
        name = entry.item.item_id
        if name not in by_name:
            raise DataError(
                f"relevant is {name!r}, which is not a candidate.",
                hint=nearest(name, by_name) or "Give the id or title of a candidate.",
            )
        found.add(by_name[name])
    return frozenset(found)


def _profile(profile: object) -> dict[str, AttributeValue]:
    if profile is None:
        return {}
    if not isinstance(profile, Mapping):
        raise DataError(
            f"profile is {profile!r:.60}; allowed is a mapping of column to value.",
            hint='Give {"about": "..."}, or plain words as query.',
        )
    columns = {}
    for name, value in profile.items():
        try:
            read = parse_attribute(value)
        except ValueError as error:
            raise DataError(f"profile[{name!r}] is {value!r:.60}: {error}.") from error
        if read is not None:
            columns[str(name)] = read
    return columns


def _id(value: object, name: str) -> str:
    try:
        if isinstance(value, Mapping | list | tuple):
            raise ValueError("an id is text or a whole number")
        return parse_id(value) or ""
    except ValueError as error:
        raise DataError(f"{name} is {value!r:.60}: {error}.") from error


def _text(value: object, name: str) -> str:
    try:
        return parse_text(value) or ""
    except ValueError as error:
        raise DataError(f"{name} is {value!r:.60}: {error}.") from error
