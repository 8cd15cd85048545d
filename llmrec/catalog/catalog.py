"""The catalogue: items, interactions and the other tables of a data set."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from types import MappingProxyType, NoneType
from typing import Any, Literal

from llmrec.catalog.columns import LAYOUTS, ColumnMap, TableName
from llmrec.catalog.given_items import NEW_USER, read_id, table_rows
from llmrec.catalog.mapped_table import MappedTable
from llmrec.catalog.ratings import guess_neutral
from llmrec.catalog.tables import (
    Findings,
    Problem,
    Table,
    find_file,
    looks_like_data,
    problems_error,
    read_arrow,
    read_file,
    read_rows,
    unread_notes,
)
from llmrec.catalog.values import (
    is_from,
    parse_id,
    parse_path,
    parse_rating,
    parse_text,
    parse_timestamp,
)
from llmrec.errors import (
    DataError,
    OptionError,
    UnknownUserError,
    check_kind,
    check_path,
    nearest,
    shown,
)
from llmrec.records import AttributeValue, Interaction, Item, Review, User

OnProblem = Literal["raise", "skip"]
_NO_ITEM = "no item is left; a catalogue holds at least one whole row"


@dataclass(frozen=True, slots=True)
class Fact:
    """An edge of a knowledge graph; ``head`` and ``tail`` may be item ids or anything else."""

    head: str
    relation: str
    tail: str


@dataclass(frozen=True, repr=False)
class Catalog:
    """A data set in memory.

    Args:
        items: Item id -> item, in file order.
        interactions: In file order.
        reviews: In file order.
        profiles: User id -> profile columns.
        friends: User id -> the users named as friends.
        facts: Edges of a knowledge graph.
        problems: The problems of the rows that ``on_problem="skip"`` left out.
        folder: The data set folder; ``image``, ``video`` and ``audio`` are relative to it.
        media_root: A folder in which pictures, clips and sounds may lie besides ``folder``.
        neutral_rating: The rating above which an item counts as liked; None guesses it from the
            ratings of the interactions.
    """

    items: Mapping[str, Item]
    interactions: tuple[Interaction, ...] = ()
    reviews: tuple[Review, ...] = ()
    profiles: Mapping[str, Mapping[str, AttributeValue]] = field(default_factory=dict)
    friends: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    facts: tuple[Fact, ...] = ()
    problems: tuple[Problem, ...] = ()
    folder: Path | None = None
    media_root: Path | None = None
    neutral_rating: float | None = None

    def __post_init__(self) -> None:
        hint = "Catalog.from_datasets reads lists and tables of items."
        check_kind("items", self.items, Mapping, "a mapping of id to Item", hint)
        for item in islice(self.items.values(), 1):
            check_kind("items[...]", item, Item, "an Item", hint)

    @staticmethod
    def from_folder(
        path: str | Path,
        *,
        columns: ColumnMap | None = None,
        on_problem: OnProblem = "raise",
        media_root: str | Path | None = None,
    ) -> Catalog:
        """Read a data set folder.

        Args:
            path: A folder with ``items`` and optionally ``reviews``, ``interactions``, ``users``,
                ``social`` and ``facts``, each as .jsonl, .json, .parquet, .csv or .tsv.
            columns: File and column names, where they differ from llmrec's.
            on_problem: ``"raise"`` refuses a data set with a broken row; ``"skip"`` leaves broken
                rows out and lists them in ``problems``.
            media_root: A folder in which pictures, clips and sounds may lie besides ``path``;
                other files are not opened.

        Raises:
            DataError: The data set is broken. A missing or unreadable file or a missing column is
                an error under ``"skip"`` too.
            OptionError: ``on_problem`` is neither.
        """
        _check_option(on_problem)
        hint = f"See them all with `llmrec data check {path}{' --columns FILE' if columns else ''}`"
        _check_columns(columns)
        if media_root is not None:
            media_root = check_path("media_root", media_root)
        read = load_folder(check_path("path", path), columns)
        return replace(_accepted(*read, on_problem, f"'{path}'", hint), media_root=media_root)

    @staticmethod
    def from_datasets(
        items: Iterable[object],
        *,
        reviews: Iterable[object] | None = None,
        interactions: Iterable[object] | None = None,
        users: Iterable[object] | None = None,
        social: Iterable[object] | None = None,
        facts: Iterable[object] | None = None,
        columns: ColumnMap | None = None,
        on_problem: OnProblem = "raise",
    ) -> Catalog:
        """Read tables in memory.

        Each is a pandas DataFrame, a ``datasets.Dataset``, a pyarrow Table, or any iterable of
        mappings from column to value.

        Arguments and errors are those of :meth:`from_folder`.
        """
        _check_option(on_problem)
        _check_columns(columns)
        sources: dict[TableName, Iterable[object] | None] = {
            "items": items,
            "reviews": reviews,
            "interactions": interactions,
            "users": users,
            "social": social,
            "facts": facts,
        }
        findings = Findings()
        catalog = _load(lambda name: _in_memory(sources[name], name, findings), columns, findings)
        return _accepted(catalog, findings, on_problem, "the given tables", "Correct the rows")

    def __repr__(self) -> str:
        return (
            f"Catalog({len(self.items):,} items, {len(self.user_ids):,} users, "
            f"{len(self.interactions):,} interactions, {len(self.reviews):,} reviews)"
        )

    def user(self, user_id: str | int) -> User:
        """Return a known user; the history is oldest first, rows without a time first of all.

        Raises:
            DataError: The value is no id.
            UnknownUserError: No interaction, profile or friendship names the user.
        """
        user_id = read_id(user_id, where="user_id")
        history = self._histories.get(user_id, ())
        if not history and user_id not in self._user_id_set:
            raise UnknownUserError(
                f"There is no user {user_id!r} among {len(self.user_ids):,} users.",
                hint=nearest(user_id, self.user_ids) or NEW_USER,
            )
        profile = self.profiles.get(user_id, MappingProxyType({}))
        friends = self.friends.get(user_id, ())
        return User(user_id, history, profile, friends, neutral_rating=self.neutral)

    @cached_property
    def neutral(self) -> float | None:
        """The rating above which an item counts as liked, given or guessed; None without any."""
        if self.neutral_rating is not None:
            return self.neutral_rating
        return guess_neutral(row.rating for row in self.interactions)

    @cached_property
    def user_ids(self) -> tuple[str, ...]:
        """The ids of all users that have interactions, a profile or friends, sorted."""
        return tuple(sorted(self._user_id_set))

    @cached_property
    def fingerprint(self) -> str:
        """The sha256, in hex, of the content; the folder does not count."""
        digest = hashlib.sha256()
        for item in self.items.values():
            fields = [item.item_id, item.title, item.description, item.image, item.video]
            fields += [item.audio] if item.audio else []
            digest.update(repr((*fields, tuple(item.attributes.items()))).encode())
        for records in (self.interactions, self.reviews, self.facts):
            digest.update(repr(records).encode())
        for user_id, profile in self.profiles.items():
            digest.update(repr((user_id, tuple(profile.items()))).encode())
        digest.update(repr(tuple(self.friends.items())).encode())
        if self.neutral_rating is not None:
            digest.update(repr(self.neutral_rating).encode())
        return digest.hexdigest()

    @cached_property
    def _histories(self) -> Mapping[str, tuple[Interaction, ...]]:
        return {user: tuple(by_time(rows)) for user, rows in by_user(self.interactions).items()}

    @cached_property
    def _user_id_set(self) -> frozenset[str]:
        friends = (friend for names in self.friends.values() for friend in names)
        return frozenset((*self._histories, *self.profiles, *self.friends, *friends))


def sample_folder() -> Path:
    """Return the folder of the embedded sample data set, for ``Catalog.from_folder``."""
    return Path(__file__).parent / "sample"


def by_user(interactions: Iterable[Interaction]) -> dict[str, list[Interaction]]:
    """Group interactions by user; users and rows keep their order."""
    groups: dict[str, list[Interaction]] = {}
    for interaction in interactions:
        groups.setdefault(interaction.user_id, []).append(interaction)
    return groups


def by_time(interactions: Sequence[Interaction]) -> list[Interaction]:
    """Sort oldest first; ties keep their order, rows without a time come first."""
    return sorted(interactions, key=seconds)


def seconds(interaction: Interaction) -> float:
    """Return the time of an interaction, in seconds since 1970; minus infinity where unknown."""
    return -math.inf if interaction.timestamp is None else interaction.timestamp


def load_folder(folder: Path, columns: ColumnMap | None) -> tuple[Catalog, Findings]:
    """Read a folder's tables into a catalogue of the valid rows.

    Raises:
        DataError: The folder does not exist; every other problem goes to the findings.
    """
    if not folder.is_dir():
        kind = "is a file, not a folder" if folder.exists() else "does not exist"
        raise DataError(
            f"The data set folder '{folder}' {kind}.",
            hint="Give the folder that holds items.jsonl, items.parquet or items.csv.",
        )
    names = columns or ColumnMap()
    findings = Findings()
    unread = {path.name: path for path in folder.iterdir() if looks_like_data(path)}

    def read(name: TableName) -> Table | None:
        path = find_file(folder, name, names.table(name).file)
        if path is None:
            return None
        unread.pop(path.name, None)
        return read_file(path, name, findings)

    catalog = replace(_load(read, names, findings), folder=folder)
    findings.notes.extend(unread_notes([unread[file] for file in sorted(unread)]))
    return catalog, findings


def _check_option(on_problem: str) -> None:
    if on_problem not in {"raise", "skip"}:
        raise OptionError(
            f"on_problem is {on_problem!r}; allowed are 'raise' and 'skip'.",
            hint=nearest(on_problem, ("raise", "skip")),
        )


def _check_columns(columns: ColumnMap | None) -> None:
    hint = "Give ColumnMap.from_file(FILE), or ColumnMap(...)."
    check_kind("columns", columns, (ColumnMap, NoneType), "a ColumnMap", hint)


def _accepted(
    catalog: Catalog, findings: Findings, on_problem: OnProblem, where: str, hint: str
) -> Catalog:
    problems = sorted(findings.problems, key=lambda each: each.row is not None)
    files = [problem for problem in problems if problem.row is None]
    if [problem.message for problem in files] == [_NO_ITEM] and len(problems) > 1:
        raise problems_error(problems, where, f"{hint}.")  # the rows say why
    if files:
        hint = "Broken rows can be left out, a broken file or column cannot: correct it."
        raise problems_error(problems if on_problem == "raise" else files, where, hint)
    if problems and on_problem == "raise":
        hint += ', or leave the broken rows out with on_problem="skip".'
        raise problems_error(problems, where, hint)
    return replace(catalog, problems=tuple(findings.problems))


def _in_memory(source: Any, name: TableName, findings: Findings) -> Table | None:  # noqa: ANN401
    if source is None:
        return None
    if is_from(source, "pyarrow", "Table"):
        return read_arrow(source, name, findings)
    if isinstance(source, str | bytes | Mapping) or not isinstance(source, Iterable):
        raise DataError(
            f"{shown(source)} is no table; give a DataFrame, a datasets.Dataset, a pyarrow Table "
            "or an iterable of mappings (of a DatasetDict one split, as in data['train'])",
        )
    given: Any = source
    if is_from(source, "datasets", "Dataset"):
        return read_arrow(given.with_format("arrow")[:], name, findings)
    return read_rows(table_rows(source, name), name, findings)


def _load(
    read: Callable[[TableName], Table | None], columns: ColumnMap | None, findings: Findings
) -> Catalog:
    """Read every table; one that cannot be read at all is a problem of its file."""
    tables: dict[TableName, MappedTable] = {}
    for name in LAYOUTS:
        try:
            table = read(name)
        except DataError as error:
            findings.add(name, None, None, None, error.message)
            continue
        if table is not None:
            mapping = (columns or ColumnMap()).table(name)
            tables[name] = MappedTable.of(table, mapping, findings)
    for mapped in tables.values():
        findings.notes.extend(mapped.notes())
    catalog = _catalog(tables, columns or ColumnMap(), findings)
    whole_files = {problem.table for problem in findings.problems if problem.row is None}
    if not catalog.items and "items" not in whole_files:
        findings.add("items", None, None, None, _NO_ITEM)
    order = list(LAYOUTS)
    findings.problems.sort(key=lambda each: (order.index(each.table), each.row or 0))
    return catalog


def _catalog(
    tables: Mapping[TableName, MappedTable], columns: ColumnMap, findings: Findings
) -> Catalog:
    """Build all records; a row with a problem is left out and noted in the findings."""
    items = _items(tables["items"]) if "items" in tables else {}
    reviews: tuple[Review, ...] = ()
    if "reviews" in tables:
        reviews = tuple(_reviews(tables["reviews"], items, columns.reviews.missing_rating))
    if "interactions" in tables:
        missing = columns.interactions.missing_rating
        interactions = tuple(_interactions(tables["interactions"], items, missing))
    else:
        interactions = _from_reviews(reviews, findings)
    rated = columns.interactions if "interactions" in tables else columns.reviews
    return Catalog(
        MappingProxyType(items),
        interactions,
        reviews,
        MappingProxyType(_profiles(tables["users"]) if "users" in tables else {}),
        MappingProxyType(_friends(tables["social"]) if "social" in tables else {}),
        _facts(tables["facts"]) if "facts" in tables else (),
        neutral_rating=rated.neutral_rating,
    )


def _items(table: MappedTable) -> dict[str, Item]:
    ids = _unique_ids(table, "item_id")
    titles = table.values("title", parse_text)
    descriptions = table.values("description", parse_text)
    images = table.values("image", parse_path)
    videos = table.values("video", parse_path)
    sounds = table.values("audio", parse_path)
    for column, values in (("title", titles), ("description", descriptions), ("image", images)):
        table.count_gaps(column, values)  # a missing column is a gap in every row
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
    repeated = []
    for row in table.good_rows():
        rating = None if ratings[row] == missing_rating else ratings[row]
        interaction = Interaction(users[row], item_ids[row], rating, times[row])
        yield interaction
        if (before := first.setdefault(interaction, row)) != row:
            repeated.append(f"row {table.numbers[row]:,} as row {table.numbers[before]:,}")
    if repeated:
        table.findings.notes.append(
            f"{len(repeated):,} interactions repeat another one, with the same user, item, rating "
            f"and time ({repeated[0]}): each counts"
        )


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
    """Take reviews that name a user as interactions, each distinct one once."""
    interactions = tuple(
        dict.fromkeys(
            Interaction(review.user_id, review.item_id, review.rating, review.timestamp)
            for review in reviews
            if review.user_id is not None
        ),
    )
    if interactions:
        findings.rated = "reviews"
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
            number = table.numbers[first[ids[row]]]
            table.reject(row, column, ids[row], f"{{value}} is in row {number:,} already")
    return ids


def _reject_unknown(table: MappedTable, item_ids: list[str], items: Mapping[str, Item]) -> None:
    if not items:  # the items file itself is broken, which is reported once and not row by row
        return
    for row, item_id in enumerate(item_ids):
        if item_id and item_id not in items:
            why = "{value} is not in the items table; add the item or remove the row"
            table.reject(row, "item_id", item_id, why)
