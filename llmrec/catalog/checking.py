"""Check a data set folder: what it holds, what is missing, what is broken, what is not used."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from llmrec.catalog.building import Contents
from llmrec.catalog.columns import ColumnMap
from llmrec.catalog.loading import load_folder
from llmrec.catalog.problems import Problem


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What a data set folder holds.

    Args:
        counts: Rows by kind that are whole: items, users, interactions, reviews, profiles,
            friendships, facts.
        gaps: ``table.column`` -> rows in which the value is missing; ``items.image (no such
            file)`` counts pictures that are named and not there.
        problems: Everything that is broken, row by row; empty for a folder that loads.
        notes: What a reader may want to know or change, in whole clauses.
    """

    counts: Mapping[str, int]
    gaps: Mapping[str, int]
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]


def check_folder(path: str | Path, columns: ColumnMap | None = None) -> CheckReport:
    """Read a data set folder and report on it instead of refusing it.

    Raises:
        DataError: The folder itself is not there.
    """
    folder = Path(path)
    contents, findings = load_folder(folder, columns or ColumnMap())
    users = {row.user_id for row in contents.interactions}
    counts = {
        "items": len(contents.items),
        "users": len(users),
        "interactions": len(contents.interactions),
        "reviews": len(contents.reviews),
        "profiles": len(contents.profiles),
        "friendships": sum(map(len, contents.friends.values())),
        "facts": len(contents.facts),
    }
    gaps = dict(findings.gaps)
    for kind in ("image", "video", "audio"):
        absent = list(_absent_files(contents, folder, kind))
        if absent:
            gaps[f"items.{kind} (no such file)"] = len(absent)
    notes = (*findings.notes, *_notes(contents, users))
    return CheckReport(
        MappingProxyType(counts), MappingProxyType(gaps), tuple(findings.problems), notes
    )


def _absent_files(contents: Contents, folder: Path, kind: str) -> Iterator[str]:
    for item in contents.items.values():
        name: str | None = getattr(item, kind)
        if name is not None and "://" not in name and not (folder / name).is_file():
            yield name


def _notes(contents: Contents, users: set[str]) -> Iterator[str]:
    rows = contents.interactions
    ratings = [row.rating for row in rows if row.rating is not None]
    rated = [rating for rating in ratings if rating != 0]
    if len(rated) < len(ratings) and rated and min(rated) >= 1 and max(rated) <= 10:
        yield (
            f"{len(ratings) - len(rated):,} of {len(ratings):,} ratings are 0 where the rest is "
            f"{min(rated):g} to {max(rated):g}: if 0 means not rated, set missing_rating, "
            '{"interactions": {"missing_rating": 0}}'
        )
    untimed = sum(row.timestamp is None for row in rows)
    if untimed:
        yield f"{untimed:,} of {len(rows):,} interactions have no timestamp: file order is taken"
    idle = {*contents.profiles, *contents.friends} - users
    if idle:
        yield f"users without history: {len(idle):,}, served by popularity and profile"
