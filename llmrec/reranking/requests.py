"""Requests: a user and candidates to rank, read from any form a caller has.

No index is needed: a request may bring its own items. With an index, a request may name items by
id; its own fields are added to theirs.
"""

from __future__ import annotations

from collections import ChainMap, Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import nan
from pathlib import Path
from typing import TypeAlias

from llmrec.catalog import (
    Catalog,
    GivenItem,
    interactions_of,
    plain_value,
    read_id,
    read_item,
    read_items,
    read_items_file,
    read_profile,
    read_user,
    table_rows,
)
from llmrec.catalog.values import composed, is_missing, parse_rating, parse_text
from llmrec.errors import (
    DataError,
    LlmrecError,
    OptionError,
    UnknownItemError,
    UnknownUserError,
    check_kind,
    nearest,
    shown,
)
from llmrec.items import Tastes
from llmrec.prompting import Context
from llmrec.records import (
    Candidate,
    Caption,
    CaptionSource,
    Insight,
    Interaction,
    Item,
    RankedItem,
    Review,
    User,
)

FIELDS = (
    *("user_id", "history", "neutral_rating", "candidates"),
    *("profile", "query", "relevant", "request_id"),
)
"""Allowed fields of a request."""
_MAKE = "make_request takes users, items and histories in any form."


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
        check_kind("context", self.context, Context, "a Context", _MAKE)
        user = read_user(self.user, self.context.user, self.context.neutral_rating)
        object.__setattr__(self, "user", user)
        check_kind("candidates", self.candidates, (tuple, list), "a tuple of Candidate", _MAKE)
        for place, each in enumerate(self.candidates):
            check_kind(f"candidates[{place}]", each, Candidate, "a Candidate", _MAKE)
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

_NOT_EMBEDDED = 0.5
"""Similarity to an item without an embedding."""


def read_request(given: object, known: Context | None = None) -> Request:
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
            f"A request is a mapping, not {shown(given)}.",
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
        neutral_rating=given.get("neutral_rating"),
        relevant=given.get("relevant"),
        request_id=given.get("request_id"),
        known=known,
    )


def each_request(requests: Iterable[Given], known: Context | None = None) -> list[Request]:
    """Read several requests; an error names the place of its request, counted from 0.

    Raises:
        What :func:`read_request` raises.
    """
    if isinstance(requests, str | Mapping) or not isinstance(requests, Iterable):
        raise DataError(
            f"requests is {shown(requests)}; allowed is a list.",
            hint='Give [{"history": [...], "candidates": [...]}].',
        )
    read = []
    for place, given in enumerate(table_rows(requests, "requests")):
        try:
            read.append(read_request(given, known))
        except LlmrecError as error:
            raise type(error)(f"requests[{place}]: {error.message}", hint=error.hint) from error
    return read


def make_request(
    candidates: object,
    *,
    history: object = None,
    user: object = None,
    profile: object = None,
    query: object = None,
    neutral_rating: object = None,
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
        neutral_rating: The rating above which an item of the history counts as liked; None takes
            that of ``known``, or guesses it from the history.
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
    person, past = _with_history(user, history, known or Context())
    person = replace(
        person,
        profile={**person.profile, **read_profile(profile)},
        query=_text(query, "query") or person.query,
        neutral_rating=_rating(neutral_rating, person.neutral_rating),
    )
    return Request(
        user=person,
        candidates=tuple(
            Candidate(e.item.item_id, nan if e.score is None else e.score, e.signals) for e in given
        ),
        context=_context((*past, *given), known),
        relevant=_relevant(relevant, given),
        request_id=read_id(request_id, where="request_id", missing=True) or None,
    )


def _rating(value: object, usual: float | None) -> float | None:
    try:
        given = parse_rating(plain_value(value))
    except ValueError as error:
        raise DataError(f"neutral_rating is {shown(value)}: {error}.") from error
    return usual if given is None else given


def items_context(path: str | Path) -> Context:
    """Read a table of items for requests that use ids; see :func:`read_items_file`.

    Raises:
        DataError: The file cannot be read, or a row is broken.
    """
    return _context(read_items_file(path), None)


def _with_history(
    user: object, history: object, known: Context
) -> tuple[User, tuple[GivenItem, ...]]:
    if isinstance(user, User):
        person = read_user(user, known.user, known.neutral_rating)
    elif (user_id := read_id(user, where="user", missing=True)) and history is None:
        person = known.user(user_id)
    else:
        person = _known_profile(known, user_id)
    if history is None and not known.items:
        history = person.history  # of items that only the request can bring
    if history is None:
        return person, ()
    past = read_items(history, where="history")
    return replace(person, history=interactions_of(person.user_id, past)), past


def _known_profile(known: Context, user_id: str) -> User:
    """The known profile of a user whose history the request gives; empty for a new user."""
    try:
        return known.user(user_id) if user_id else User("")
    except UnknownUserError:
        return User(user_id, neutral_rating=known.neutral_rating)


def _context(entries: Sequence[GivenItem], known: Context | None) -> Context:
    """The known context, with the request's own items added; itself where there are none.

    A bare entry names an item of ``known`` or of the request; without ``known`` it is a title.
    """
    if known and all(each.bare and each.item.item_id in known.items for each in entries):
        return known
    base = known or Context()
    items: dict[str, Item] = {}
    reviews: dict[str, tuple[Review, ...]] = {}
    insights: dict[str, Insight] = {}
    for entry in sorted(entries, key=lambda entry: entry.bare):
        item_id = entry.item.item_id
        before = items.get(item_id) or base.items.get(item_id)
        if before is None and entry.bare and base.items:
            raise _unknown(item_id, base)
        if before is None:
            items[item_id] = entry.item
        else:
            items[item_id] = before if entry.bare else _merged(before, entry.item)
        if entry.reviews:
            reviews[item_id] = entry.reviews
        if entry.caption is not None:
            caption = Caption(entry.caption, CaptionSource.GIVEN)
            insights[item_id] = replace(base.insight(item_id), picture=caption)
    own = {item_id for item_id in items if item_id not in base.items}
    ratings = [r.rating for each in reviews.values() for r in each if r.rating is not None]

    def similarity(one: str, other: str) -> float:
        return _NOT_EMBEDDED if {one, other} & own else base.similarity(one, other)

    return replace(
        base,
        items=ChainMap(items, base.items) if known else items,  # type: ignore[arg-type]  # only read
        reviews=lambda item_id: (*reviews.get(item_id, ()), *base.reviews(item_id)),
        insight=lambda item_id: insights.get(item_id) or base.insight(item_id),
        taste=base.taste if known else lambda user: Tastes(Catalog(items), insights).of(user),
        popularity=lambda item_id: 0 if item_id in own else base.popularity(item_id),
        similarity=similarity,
        best_rating=lambda: max([base.best_rating(), *ratings]),
    )


def _unknown(item_id: str, known: Context) -> UnknownItemError:
    titled = [each for each, item in known.items.items() if composed(item.title) == item_id][:3]
    return UnknownItemError(
        f"There is no item {item_id!r} among {len(known.items):,}.",
        hint=f"It is the title of the item {' or '.join(map(repr, titled))}; give the id."
        if titled
        else nearest(item_id, known.items)
        or 'Give an id that is there, or the item itself: {"title": ...}.',
    )


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
    relevant = plain_value(relevant)
    if is_missing(relevant):
        return frozenset()
    if isinstance(relevant, set | frozenset):
        relevant = list(relevant)
    one = isinstance(
        relevant, str | int | float | Mapping | Item | Candidate | RankedItem | Interaction
    )
    several = (
        [read_item(relevant, where="relevant")] if one else read_items(relevant, where="relevant")
    )
    titled = (entry.item for entry in candidates if entry.item.title)
    by_name = {composed(item.title): item.item_id for item in titled}
    by_name |= {entry.item.item_id: entry.item.item_id for entry in candidates}
    found = set()
    for entry in several:
        name = entry.item.item_id
        if name not in by_name:
            raise DataError(
                f"relevant is {name!r}, which is not a candidate.",
                hint=nearest(name, by_name) or "Give the id or title of a candidate.",
            )
        found.add(by_name[name])
    return frozenset(found)


def _text(value: object, name: str) -> str:
    try:
        return parse_text(plain_value(value)) or ""
    except ValueError as error:
        raise DataError(f"{name} is {shown(value)}: {error}.") from error
