"""The catalogue: items, what users did with them, and all else a data set says."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Literal, Self

from llmrec.catalog.building import Contents, Fact
from llmrec.catalog.columns import ColumnMap
from llmrec.catalog.loading import load_folder, load_tables
from llmrec.catalog.problems import Findings, Problem, problems_error
from llmrec.errors import OptionError, UnknownUserError, nearest
from llmrec.records import AttributeValue, Interaction, Item, Review, User

OnProblem = Literal["raise", "skip"]

_WHOLE_FILE_HINT = "Broken rows can be left out, a broken file or column cannot: correct it."


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
        problems: What was wrong with the rows that ``on_problem="skip"`` left out.
        folder: Where the data set lies, from where an item's ``image``, ``video``, ``audio`` are
            relative.
    """

    items: Mapping[str, Item]
    interactions: tuple[Interaction, ...] = ()
    reviews: tuple[Review, ...] = ()
    profiles: Mapping[str, Mapping[str, AttributeValue]] = field(default_factory=dict)
    friends: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    facts: tuple[Fact, ...] = ()
    problems: tuple[Problem, ...] = ()
    folder: Path | None = None

    @classmethod
    def from_folder(
        cls,
        path: str | Path,
        *,
        columns: ColumnMap | None = None,
        on_problem: OnProblem = "raise",
    ) -> Self:
        """Read a data set folder.

        Args:
            path: A folder with ``items`` and, where there are any, ``reviews``, ``interactions``,
                ``users``, ``social`` and ``facts``, each as .jsonl, .parquet or .csv.
            columns: How the files and columns are called, where they are called otherwise.
            on_problem: ``"raise"`` refuses a data set with a broken row; ``"skip"`` leaves broken
                rows out and lists them in ``problems``.

        Raises:
            DataError: Something is broken. A missing or unreadable file or a missing column is
                an error under ``"skip"`` too.
            OptionError: ``on_problem`` is neither.
        """
        _check_option(on_problem)
        contents, findings = load_folder(Path(path), columns or ColumnMap())
        hint = (
            f"See them all with `llmrec data check {path}`, "
            'or leave the broken rows out with on_problem="skip".'
        )
        return cls._of(contents, findings, on_problem, f"'{path}'", hint, Path(path))

    @classmethod
    def from_datasets(
        cls,
        items: Iterable[object],
        *,
        reviews: Iterable[object] | None = None,
        interactions: Iterable[object] | None = None,
        users: Iterable[object] | None = None,
        social: Iterable[object] | None = None,
        facts: Iterable[object] | None = None,
        columns: ColumnMap | None = None,
        on_problem: OnProblem = "raise",
    ) -> Self:
        """Read tables in memory: each a ``datasets.Dataset`` or any iterable of mappings.

        The arguments mean what they do in :meth:`from_folder`, and so do the errors.
        """
        _check_option(on_problem)
        contents, findings = load_tables(
            {
                "items": items,
                "reviews": reviews,
                "interactions": interactions,
                "users": users,
                "social": social,
                "facts": facts,
            },
            columns or ColumnMap(),
        )
        hint = 'Correct the rows, or leave the broken ones out with on_problem="skip".'
        return cls._of(contents, findings, on_problem, "the given tables", hint, None)

    @classmethod
    def _of(
        cls,
        contents: Contents,
        findings: Findings,
        on_problem: OnProblem,
        where: str,
        hint: str,
        folder: Path | None,
    ) -> Self:
        whole_files = tuple(problem for problem in findings.problems if problem.row is None)
        if whole_files:
            raise problems_error(whole_files, where, _WHOLE_FILE_HINT)
        if findings.problems and on_problem == "raise":
            raise problems_error(findings.problems, where, hint)
        return cls(
            contents.items,
            contents.interactions,
            contents.reviews,
            contents.profiles,
            contents.friends,
            contents.facts,
            tuple(findings.problems),
            folder,
        )

    def __repr__(self) -> str:
        return (
            f"Catalog({len(self.items):,} items, {len(self.user_ids):,} users, "
            f"{len(self.interactions):,} interactions, {len(self.reviews):,} reviews)"
        )

    def user(self, user_id: str) -> User:
        """Return a known user; the history is oldest first, rows without a time first of all.

        Raises:
            UnknownUserError: No interaction, profile or friendship names the user.
        """
        history = self._histories.get(user_id, ())
        if not history and user_id not in self._user_id_set:
            raise UnknownUserError(
                f"There is no user {user_id!r} among {len(self.user_ids):,} users.",
                hint=nearest(str(user_id), self.user_ids)
                or "Somebody new is served in Python: give a User of your own.",
            )
        return User(
            user_id,
            history,
            self.profiles.get(user_id, MappingProxyType({})),
            self.friends.get(user_id, ()),
        )

    @cached_property
    def user_ids(self) -> tuple[str, ...]:
        """The ids of all users that have interactions, a profile or friends, sorted."""
        return tuple(sorted(self._user_id_set))

    @cached_property
    def fingerprint(self) -> str:
        """The sha256, in hex, of all that the catalogue holds; the folder does not count."""
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
        return digest.hexdigest()

    @cached_property
    def _histories(self) -> Mapping[str, tuple[Interaction, ...]]:
        return {user: tuple(by_time(rows)) for user, rows in by_user(self.interactions).items()}

    @cached_property
    def _user_id_set(self) -> frozenset[str]:
        friends = (friend for names in self.friends.values() for friend in names)
        return frozenset((*self._histories, *self.profiles, *self.friends, *friends))


def _check_option(on_problem: str) -> None:
    if on_problem not in {"raise", "skip"}:
        raise OptionError(
            f"on_problem is {on_problem!r}; allowed are 'raise' and 'skip'.",
            hint=nearest(on_problem, ("raise", "skip")),
        )


def by_user(interactions: Iterable[Interaction]) -> dict[str, list[Interaction]]:
    """Group interactions by user, users and rows in the order in which they come."""
    groups: dict[str, list[Interaction]] = {}
    for interaction in interactions:
        groups.setdefault(interaction.user_id, []).append(interaction)
    return groups


def by_time(interactions: Sequence[Interaction]) -> list[Interaction]:
    """Sort oldest first; ties keep their order, rows without a time come first."""
    return sorted(interactions, key=seconds)


def seconds(interaction: Interaction) -> float:
    """Return when an interaction was, in seconds since 1970; minus infinity where nobody knows."""
    return -math.inf if interaction.timestamp is None else interaction.timestamp
