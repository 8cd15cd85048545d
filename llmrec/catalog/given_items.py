"""Items that a caller gives instead of a data set: titles, ids, mappings, records or table rows."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any
from uuid import UUID

from llmrec.catalog.tables import (
    NAMELESS,
    SUFFIXES,
    Findings,
    Table,
    problems_error,
    quoted,
    read_arrow,
    read_file,
    reject_repeated,
    suffix_of,
)
from llmrec.catalog.values import (
    is_from,
    is_missing,
    parse_attribute,
    parse_id,
    parse_path,
    parse_rating,
    parse_text,
    parse_timestamp,
    python_value,
    typed,
    whole,
    whole_ids,
)
from llmrec.errors import DataError, check_path, nearest, shown
from llmrec.records import (
    AttributeValue,
    Candidate,
    Interaction,
    Item,
    RankedItem,
    Review,
    User,
)

_ALLOWED_ITEM = (
    "a title (text), an id (a whole number), a mapping with item_id, id or title, an Item, "
    "an Interaction or a Candidate"
)
NEW_USER = "A new user needs a history: `rerank --requests`, or in Python User(id, history=...)."
"""The way out where a user is unknown."""
_ALLOWED_ITEMS = (
    "a list, another iterable in a fixed order, a pandas DataFrame or Series, a NumPy array, "
    "a pyarrow Table or a datasets.Dataset"
)


@dataclass(frozen=True, slots=True)
class GivenItem:
    """One entry of a history or of a candidate list, as a caller gave it.

    Args:
        item: The item. An entry without an id has its title as id.
        reviews: Reviews of the item.
        caption: What its picture or clip shows.
        score: Score of another retriever, higher is better; for candidates.
        rating: The user's rating, in the caller's own unit; for history entries.
        timestamp: Seconds since 1970; for history entries.
        signals: Scores that ``score`` is made of, by name.
        bare: Whether nothing but an id or one text was given, which may name a known item.
    """

    item: Item
    reviews: tuple[Review, ...] = ()
    caption: str | None = None
    score: float | None = None
    rating: float | None = None
    timestamp: int | float | None = None
    signals: Mapping[str, float] = field(default_factory=dict)
    bare: bool = False


def read_item(value: object, *, where: str) -> GivenItem:
    """Read one item.

    Args:
        value: Text is a title and the id at once. A whole number is an id. A mapping has
            ``item_id`` (else ``id``), ``title``, ``description``, ``image``, ``video``, ``audio``,
            ``caption``, ``reviews`` (texts, or mappings with ``text``, ``rating``, ``user_id``,
            ``timestamp``), ``score``, ``rating``, ``timestamp`` and ``attributes`` (a mapping);
            every other key is an attribute. None, NaN and blank text mean that a value is missing.
            An ``Interaction`` or ``Candidate`` gives its id, and its rating and time or its score.
        where: Where the value comes from, such as ``candidates[3]``: errors begin with it.

    Raises:
        DataError: The value is no item, has neither id nor title, or holds a value that is not
            allowed.
    """
    given = plain_value(value)
    if isinstance(given, GivenItem):
        return given
    if isinstance(given, Item):
        own_id = read_id(given.item_id, where=f"{where}: the item_id of an Item")
        item = given if own_id == given.item_id else replace(given, item_id=own_id)
        return GivenItem(item, bare=item == Item(own_id))
    if isinstance(given, RankedItem):
        given = {"item_id": given.item_id, "title": given.title}
    if isinstance(given, Candidate):
        scored = _of_mapping({"item_id": given.item_id, "score": given.score}, where)
        return replace(scored, signals=given.signals)
    if isinstance(given, str) and given.strip():
        return _titled(given, where)
    if isinstance(given, Interaction):
        given = {"item_id": given.item_id, "rating": given.rating, "timestamp": given.timestamp}
    elif is_from(given, "pandas", "Series"):
        given = dict(given.items())
    if isinstance(given, Mapping):
        return _of_mapping(given, where)
    try:
        item_id = parse_id(given)
    except ValueError:
        item_id = None
    if item_id is None:
        raise DataError(f"{where} is {shown(given)}; allowed is {_ALLOWED_ITEM}.")
    return GivenItem(Item(item_id), bare=True)


def read_id(value: object, *, where: str, missing: bool = False) -> str:
    """Read an id: text, a UUID, or a whole number of Python, NumPy, Arrow or `Decimal`.

    Args:
        value: The id, or an Item, a Candidate, a RankedItem or an Interaction that has one.
        where: Where the value comes from: errors begin with it.
        missing: Whether None, NaN or blank text is allowed, which gives empty text.

    Raises:
        DataError: The value is no id.
    """
    plain = plain_value(value)
    if isinstance(plain, Item | Candidate | RankedItem | Interaction):
        plain = plain_value(plain.item_id)
    try:
        several = isinstance(plain, Mapping | list | tuple)
        found = None if several else parse_id(plain)
    except ValueError:
        found = None
    if found is None and not (missing and is_missing(plain) and not several):
        raise DataError(
            f"{where} is {shown(value)}; allowed is an id: text or a whole number.",
            hint="Decode it first: value.decode()." if isinstance(value, bytes) else "",
        )
    return found or ""


def read_ids(values: object, *, where: str) -> tuple[str, ...]:
    """Read ids, in their order: one id, or a list in any form that :func:`read_items` takes.

    Raises:
        DataError: One is no id, or there is no list.
    """
    plain = plain_value(values)
    single = isinstance(plain, str | int | float | Item | Candidate | RankedItem | Interaction)
    entries = [plain] if single else map(_its_id, _entries(values, where))
    return tuple(read_id(each, where=f"{where}[{place}]") for place, each in enumerate(entries))


def _its_id(value: object) -> object:
    """The id in a row of a table; any other value as it is."""
    return value.get("item_id", value.get("id", value)) if isinstance(value, Mapping) else value


def read_user(
    user: object, find: Callable[[str], User], neutral_rating: float | None = None
) -> User:
    """Read a user: the id of a known one, or a `User`, whose fields are brought to their types.

    Args:
        user: The user.
        find: Returns a known user by id.
        neutral_rating: That of the data set, for a `User` that has none.

    Raises:
        DataError: The value is neither, or a field is invalid.
        UnknownUserError: The user is unknown.
    """
    if not isinstance(user, User):
        return find(read_id(user, where="user"))
    history = user.history
    if not isinstance(history, tuple) or not all(
        isinstance(row, Interaction)
        and isinstance(row.item_id, str)
        and parse_id(row.item_id) == row.item_id
        for row in history
    ):
        history = interactions_of(user.user_id, read_items(history, where="history"))
    return replace(
        user,
        user_id=read_id(user.user_id, where="user_id", missing=True),
        history=history,
        profile=read_profile(user.profile),
        friends=read_ids(user.friends, where="friends") if user.friends else (),
        neutral_rating=neutral_rating if user.neutral_rating is None else user.neutral_rating,
    )


def interactions_of(user_id: str, history: Iterable[GivenItem]) -> tuple[Interaction, ...]:
    """A history as interactions of a user."""
    return tuple(
        Interaction(user_id, entry.item.item_id, entry.rating, entry.timestamp) for entry in history
    )


def read_profile(profile: Any) -> Mapping[str, AttributeValue]:  # noqa: ANN401 - whatever was given
    """Read the columns of a profile: a mapping, or a pandas Series; None is an empty profile.

    Raises:
        DataError: It is no mapping, or a value is not allowed.
    """
    if is_from(profile, "pandas", "Series"):
        profile = dict(profile.items())
    if not isinstance(profile, Mapping | None):
        raise DataError(
            f"profile is {shown(profile)}; allowed is a mapping of column to value.",
            hint='Give {"about": "..."}, or plain words as query.',
        )
    columns = {}
    for name, value in (profile or {}).items():
        try:
            read = parse_attribute(plain_value(value))
        except ValueError as error:
            raise DataError(f"profile[{name!r}] is {shown(value)}: {error}.") from error
        if read is not None:
            columns[str(name)] = read
    return columns


def read_items(values: object, *, where: str) -> tuple[GivenItem, ...]:
    """Read a list of items, in its order. An empty list gives an empty tuple.

    pandas, pyarrow and datasets are imported only by a caller that gives one of their tables.

    Args:
        values: A list or another iterable of what :func:`read_item` takes, a pandas DataFrame or
            Series, a NumPy array, a pyarrow Table or a ``datasets.Dataset``. Each row of a table
            is a mapping.
        where: Name of the list, such as ``candidates``: errors begin with ``candidates[3]``,
            counted from 0.

    Raises:
        DataError: ``values`` is no list of items, or as of :func:`read_item`.
    """
    entries = enumerate(_entries(values, where))
    return tuple(read_item(value, where=f"{where}[{place}]") for place, value in entries)


def read_items_file(path: str | Path) -> tuple[GivenItem, ...]:
    """Read a table of items, one a row, from a file that ends in one of `SUFFIXES`.

    The columns are the keys of a mapping that :func:`read_item` takes. In a csv an attribute
    whose column holds only numbers, or only true and false, becomes a number or a bool.

    Raises:
        DataError: The file cannot be read, a row is broken, or an id occurs twice.
    """
    path = check_path("items", path)
    if not suffix_of(path):
        raise DataError(f"The items table '{path}' must end in {', '.join(SUFFIXES)} (or .gz).")
    if not path.is_file():
        raise DataError(f"There is no items table '{path}'.", hint="Give the path of a file.")
    findings = Findings()
    try:
        table = read_file(path, "items", findings)
    except DataError as error:
        raise DataError(f"The items table cannot be used: {error.message}.") from error
    if findings.problems:
        raise problems_error(findings.problems, f"'{path}'", "Correct or remove the rows.")
    items: list[GivenItem] = []
    row_of: dict[str, int] = {}
    for number, row in zip(table.numbers, _file_rows(table), strict=True):
        given = read_item(row, where=f"'{path}' row {number:,}")
        first = row_of.setdefault(given.item.item_id, number)
        if first != number:
            raise DataError(
                f"'{path}' row {number:,}: the id {given.item.item_id!r} is that of row {first:,}.",
                hint="Give each item an item_id of its own.",
            )
        items.append(given)
    return tuple(items)


def table_rows(values: Any, where: str) -> Iterable[object]:  # noqa: ANN401 - whatever was given
    """The rows of a DataFrame as mappings; any other values as they are."""
    return _frame_rows(values, where) if is_from(values, "pandas", "DataFrame") else values


def _entries(values: Any, where: str) -> Iterable[object]:  # noqa: ANN401 - whatever was given
    try:
        if is_from(values, "pandas", "DataFrame"):
            return _frame_rows(values, where)
        if is_from(values, "pyarrow", "Table"):
            return _rows(read_arrow(values, "items", where=where).columns)
        if is_from(values, "datasets", "Dataset"):
            rows = values.with_format("arrow")[:]
            return _rows(read_arrow(rows, "items", where=where).columns)
    except DataError as error:
        raise DataError(f"{error.message}.") from error
    if is_from(values, "pyarrow", "Array", "ChunkedArray"):
        entries: list[object] = values.to_pylist()
        return entries
    no_list = isinstance(values, str | bytes | Mapping | set | frozenset)
    if no_list or not isinstance(values, Iterable) or getattr(values, "ndim", 1) != 1:
        hint = "Put it into a list: [...]." if isinstance(values, str | Mapping) else ""
        if isinstance(values, set | frozenset):
            hint = "A set has no order: give a list."
        if is_from(values, "datasets", "DatasetDict"):
            hint = "Give one split, such as data['train']."
        raise DataError(f"{where} is {shown(values)}; allowed is {_ALLOWED_ITEMS}.", hint=hint)
    return values


def _frame_rows(frame: Any, where: str) -> Iterable[Mapping[str, object]]:  # noqa: ANN401 - pandas
    if frame.index.name in _KEYS:
        frame = frame.reset_index()
    names = [str(column) for column in frame.columns]
    reject_repeated(names, where)
    # NaN is how a column of floats holds a gap.
    columns = (frame.iloc[:, n].astype(object) for n in range(len(names)))
    cells = [column.where(column.notna(), None).tolist() for column in columns]
    return _rows(dict(zip(names, cells, strict=True)))


def _file_rows(table: Table) -> Iterable[Mapping[str, object]]:
    columns: dict[str, Any] = dict(table.columns)
    for name in columns if table.textual else ():
        if name in {"item_id", "id"}:
            columns[name] = whole_ids(columns[name]) or columns[name]
        elif name not in _KEYS:
            columns[name] = whole(typed([parse_attribute(cell) for cell in columns[name]]))
    return _rows(columns)


def _rows(columns: Mapping[str, Iterable[object]]) -> Iterable[Mapping[str, object]]:
    return (dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True))


def _finite(value: object) -> float | None:
    try:
        return parse_rating(value)
    except ValueError:
        raise ValueError(
            "a score is a finite number; without one leave the cell empty, or give null"
        ) from None


_PARSERS: Mapping[str, Callable[[object], object]] = {
    "item_id": parse_id,
    "id": parse_id,
    "title": parse_text,
    "description": parse_text,
    "image": parse_path,
    "video": parse_path,
    "audio": parse_path,
    "caption": parse_text,
    "score": _finite,
    "rating": parse_rating,
    "timestamp": parse_timestamp,
}
_ID_COLUMN = re.compile(r"(?:[a-z]I|_i)d$|^(?:asin|isbn|sku|movieid|itemid|productid)$")
_KEYS = (*_PARSERS, "reviews", "attributes")
_REVIEW_PARSERS: Mapping[str, Callable[[object], object]] = {
    "text": parse_text,
    "rating": parse_rating,
    "user_id": parse_id,
    "timestamp": parse_timestamp,
}


def _titled(title: str, where: str) -> GivenItem:
    try:
        return _of_title(title)
    except DataError:  # what is cached does not know where it stands
        return _of_mapping({"title": title}, where)


@lru_cache(maxsize=16_384)
def _of_title(title: str) -> GivenItem:
    return replace(_of_mapping({"title": title}, ""), bare=True)


def _of_mapping(value: Mapping[Any, object], where: str) -> GivenItem:
    fields = {str(key): each for key, each in value.items() if not NAMELESS.fullmatch(str(key))}
    read = {name: _parsed(fields[name], parse, where, name)
            for name, parse in _PARSERS.items() if name in fields}  # fmt: skip
    item_id = read.get("item_id") or read.get("id") or parse_id(read.get("title"))
    if item_id is None:
        keys = ", ".join(map(repr, fields)) or "none"
        near = next(filter(None, (nearest(key, ("item_id", "title")) for key in fields)), "")
        own = next((key for key in fields if _ID_COLUMN.search(key)), None)
        hint = near or "Give item_id, title or both."
        if own and "title" not in near:
            hint = f"Rename {own!r} to item_id, and give a title: it is what the model reads."
        if "title" in fields:
            hint = "Its title is empty: fill it, or leave the item out."
        message = f"{where} has neither item_id (or id) nor title; its keys are {keys}."
        raise DataError(message, hint=hint)
    item = Item(
        item_id,
        read.get("title") or "",
        read.get("description") or "",
        MappingProxyType(_attributes(fields, where)),
        read.get("image"),
        read.get("video"),
        read.get("audio"),
    )
    reviews = _reviews(plain_value(fields.get("reviews")), item_id, f"{where}: reviews")
    caption = read.get("caption")
    return GivenItem(
        item,
        reviews,
        caption,
        read.get("score"),
        read.get("rating"),
        read.get("timestamp"),
        bare=item == Item(item_id) and not reviews and caption is None,
    )


def _attributes(fields: Mapping[str, object], where: str) -> dict[str, AttributeValue]:
    given = plain_value(fields.get("attributes"))
    if is_missing(given):
        given = {}
    if not isinstance(given, Mapping):
        why = "attributes are a mapping from name to value"
        raise DataError(f"{where}: attributes {quoted(given)} is not allowed: {why}.")
    named = {str(name): value for name, value in given.items()}
    others = {name: value for name, value in fields.items() if name not in _KEYS}
    twice = sorted({*named} & {*others})
    if twice:
        raise DataError(f"{where} has {twice[0]!r} twice: as a key and in attributes.")
    found = {
        name: _parsed(value, parse_attribute, where, name)
        for name, value in (others | named).items()
    }
    return {name: value for name, value in found.items() if value is not None}


def _reviews(given: object, item_id: str, where: str) -> tuple[Review, ...]:
    if is_missing(given):
        return ()
    each = [given] if isinstance(given, str | Mapping | Review) else given
    if not isinstance(each, list | tuple):
        why = "reviews are a list of texts, or of mappings with text, rating, user_id and timestamp"
        raise DataError(f"{where} {quoted(given)} is not allowed: {why}.")
    read = (_review(one, item_id, f"{where}[{n}]") for n, one in enumerate(each))
    return tuple(review for review in read if review.text)


def _review(given: object, item_id: str, where: str) -> Review:
    if isinstance(given, Review):
        return replace(given, item_id=item_id)
    if not isinstance(given, Mapping):
        return Review(item_id, _parsed(given, parse_text, where, "text") or "")
    if "text" not in given:
        raise DataError(f"{where} has no text; its keys are {', '.join(map(repr, given))}.")
    read = {
        name: _parsed(given.get(name), parse, where, name)
        for name, parse in _REVIEW_PARSERS.items()
    }
    return Review(item_id, read["text"] or "", read["rating"], read["user_id"], read["timestamp"])


def _parsed(value: object, parse: Callable[[object], Any], where: str, name: str) -> Any:  # noqa: ANN401 - the parser's value
    plain = plain_value(value)
    if is_missing(plain):
        return None
    try:
        return parse(plain)
    except (ValueError, OverflowError) as error:
        hint = f'If it describes the item: {{"attributes": {{"{name}": ...}}}}.'
        raise DataError(
            f"{where}: {name} {quoted(plain)} is not allowed: {error}.",
            hint=hint if name in _PARSERS else "",
        ) from error


def plain_value(value: Any) -> Any:  # noqa: ANN401 - whatever was given
    """Turn a NumPy or Arrow value, a UUID or a whole Decimal into Python's own."""
    if is_from(value, "pyarrow", "Scalar"):
        value = value.as_py()
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, Decimal) and value.is_finite() and value == value.to_integral_value():
        return int(value)
    return python_value(value)
