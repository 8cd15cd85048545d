"""Build the records of a catalogue from tables, row by row, noting every problem on the way."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from llmrec.catalog.columns import ColumnMap, TableName
from llmrec.catalog.mapped import MappedTable
from llmrec.catalog.problems import Findings
from llmrec.catalog.reading import Table
from llmrec.catalog.values import parse_id, parse_path, parse_rating, parse_text, parse_timestamp
from llmrec.records import AttributeValue, Interaction, Item, Review


@dataclass(frozen=True, slots=True)
class Fact:
    """An edge of a knowledge graph; ``head`` and ``tail`` may be item ids or anything else."""

    head: str
    relation: str
    tail: str


@dataclass(frozen=True, slots=True)
class Contents:
    """Everything that a data set holds, as records."""

    items: Mapping[str, Item]
    interactions: tuple[Interaction, ...]
    reviews: tuple[Review, ...]
    profiles: Mapping[str, Mapping[str, AttributeValue]]
    friends: Mapping[str, tuple[str, ...]]
    facts: tuple[Fact, ...]


def build_contents(
    tables: Mapping[TableName, Table], columns: ColumnMap, findings: Findings
) -> Contents:
    """Build all records; a row with a problem is left out and noted in ``findings``."""
    mapped = {
        name: MappedTable.of(table, columns.table(name), findings) for name, table in tables.items()
    }
    for table in mapped.values():
        findings.notes.extend(table.notes())
    items = _items(mapped["items"]) if "items" in mapped else {}
    reviews = (
        tuple(_reviews(mapped["reviews"], items, columns.reviews.missing_rating))
        if "reviews" in mapped
        else ()
    )
    interactions = (
        tuple(_interactions(mapped["interactions"], items, columns.interactions.missing_rating))
        if "interactions" in mapped
        else _from_reviews(reviews, findings)
    )
    return Contents(
        MappingProxyType(items),
        interactions,
        reviews,
        MappingProxyType(_profiles(mapped["users"]) if "users" in mapped else {}),
        MappingProxyType(_friends(mapped["social"]) if "social" in mapped else {}),
        _facts(mapped["facts"]) if "facts" in mapped else (),
    )


def _items(table: MappedTable) -> dict[str, Item]:
    ids = _unique_ids(table, "item_id")
    titles = table.values("title", parse_text)
    descriptions = table.values("description", parse_text)
    images = table.values("image", parse_path)
    videos = table.values("video", parse_path)
    sounds = table.values("audio", parse_path)
    for column, values in (("title", titles), ("description", descriptions), ("image", images)):
        table.count_gaps(column, values)  # a column that is not there is a gap in every row
    attributes = table.attributes()
    return {
        ids[row]: Item(
            ids[row],
            titles[row] or "",
            descriptions[row] or "",
            MappingProxyType(attributes[row]),
            images[row],
            videos[row],
            sounds[row],
        )
        for row in table.good_rows()
    }


def _interactions(
    table: MappedTable, items: Mapping[str, Item], missing_rating: float | None
) -> Iterator[Interaction]:
    users = table.ids("user_id")
    item_ids = table.ids("item_id")
    ratings = table.values("rating", parse_rating)
    times = table.values("timestamp", parse_timestamp)
    _reject_unknown(table, item_ids, items)
    first: dict[Interaction, int] = {}
    for row in table.good_rows():
        rating = None if ratings[row] == missing_rating else ratings[row]
        interaction = Interaction(users[row], item_ids[row], rating, times[row])
        if first.setdefault(interaction, row) == row:
            yield interaction
        else:
            why = f"is the same as row {table.rows[first[interaction]]:,}; remove one of them"
            table.reject(row, None, f"{users[row]}, {item_ids[row]}", f"({{value}}) {why}")


def _reviews(
    table: MappedTable, items: Mapping[str, Item], missing_rating: float | None
) -> Iterator[Review]:
    item_ids = table.ids("item_id")
    texts = table.values("text", parse_text)
    ratings = table.values("rating", parse_rating)
    users = table.values("user_id", parse_id)
    times = table.values("timestamp", parse_timestamp)
    _reject_unknown(table, item_ids, items)
    for row in table.good_rows():
        rating = None if ratings[row] == missing_rating else ratings[row]
        yield Review(item_ids[row], texts[row] or "", rating, users[row], times[row])


def _from_reviews(reviews: tuple[Review, ...], findings: Findings) -> tuple[Interaction, ...]:
    """Let reviews that carry a user stand for interactions; the same one twice counts once."""
    interactions = tuple(
        dict.fromkeys(
            Interaction(review.user_id, review.item_id, review.rating, review.timestamp)
            for review in reviews
            if review.user_id is not None
        ),
    )
    if interactions:
        findings.notes.append(
            f"there is no interactions file: {len(interactions):,} interactions come from reviews"
        )
    return interactions


def _profiles(table: MappedTable) -> dict[str, Mapping[str, AttributeValue]]:
    ids = _unique_ids(table, "user_id")
    attributes = table.attributes()
    return {ids[row]: MappingProxyType(attributes[row]) for row in table.good_rows()}


def _friends(table: MappedTable) -> dict[str, tuple[str, ...]]:
    users, friends = table.ids("user_id"), table.ids("friend_id")
    of_user: dict[str, dict[str, None]] = {}
    for row in table.good_rows():
        of_user.setdefault(users[row], {})[friends[row]] = None
    return {user: tuple(names) for user, names in of_user.items()}


def _facts(table: MappedTable) -> tuple[Fact, ...]:
    heads, relations, tails = (table.ids(column) for column in ("head", "relation", "tail"))
    return tuple(Fact(heads[row], relations[row], tails[row]) for row in table.good_rows())


def _unique_ids(table: MappedTable, column: str) -> list[str]:
    ids = table.ids(column)
    first: dict[str, int] = {}
    for row in table.good_rows():
        if first.setdefault(ids[row], row) != row:
            why = f"{{value}} stands in row {table.rows[first[ids[row]]]:,} already; ids are unique"
            table.reject(row, column, ids[row], why)
    return ids


def _reject_unknown(table: MappedTable, item_ids: list[str], items: Mapping[str, Item]) -> None:
    if not items:  # the items file itself is broken, which is said once and not row by row
        return
    for row, item_id in enumerate(item_ids):
        if item_id and item_id not in items:
            why = "{value} is no item of the items table; add the item or remove the row"
            table.reject(row, "item_id", item_id, why)
