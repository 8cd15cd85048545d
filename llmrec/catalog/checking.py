"""Check a data set folder: counts, missing values, problems, unused columns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from llmrec.catalog.catalog import Catalog, load_folder
from llmrec.catalog.columns import ColumnMap, TableName
from llmrec.catalog.media_files import MediaError, media_paths
from llmrec.catalog.tables import Problem
from llmrec.records import LONGEST_READ


@dataclass(frozen=True, slots=True)
class CheckReport:
    """Result of checking a data set folder.

    Args:
        counts: Whole rows by kind: items, users, interactions, reviews, profiles, friendships,
            facts.
        gaps: ``table.column`` -> rows in which the value is missing; ``items.image (no such
            file)`` counts absent pictures.
        problems: Everything that is broken, row by row; empty for a folder that loads.
        notes: Unused columns and files, and other remarks.
    """

    counts: Mapping[str, int]
    gaps: Mapping[str, int]
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]


def check_folder(
    path: str | Path, columns: ColumnMap | None = None, *, media_root: Path | None = None
) -> CheckReport:
    """Read a data set folder and report on it instead of refusing it.

    Raises:
        DataError: The folder itself is not there.
    """
    folder = Path(path)
    catalog, findings = load_folder(folder, columns)
    users = {row.user_id for row in catalog.interactions}
    counts = {
        "items": len(catalog.items),
        "users": len(catalog.user_ids),
        "interactions": len(catalog.interactions),
        "reviews": len(catalog.reviews),
        "profiles": len(catalog.profiles),
        "friendships": sum(map(len, catalog.friends.values())),
        "facts": len(catalog.facts),
    }
    gaps = dict(findings.gaps)
    for kind in ("image", "video", "audio"):
        for reason, count in _missing_files(catalog, folder, kind, media_root).items():
            gaps[f"items.{kind} ({reason})"] = count
    notes = (*findings.notes, *_notes(catalog, users, findings.rated))
    return CheckReport(
        MappingProxyType(counts), MappingProxyType(gaps), tuple(findings.problems), notes
    )


def _missing_files(
    catalog: Catalog, folder: Path, kind: str, media_root: Path | None
) -> Counter[str]:
    names = [getattr(item, kind) for item in catalog.items.values()]
    files = media_paths(folder, names, root=media_root)
    return Counter(
        "an address, or outside the folder" if isinstance(file, MediaError) else "no such file"
        for file in files
        if isinstance(file, MediaError) or (file is not None and not file.is_file())
    )


def _notes(catalog: Catalog, users: set[str], rated_in: TableName) -> Iterator[str]:
    rows = catalog.interactions
    ratings = [row.rating for row in rows if row.rating is not None]
    rated = [rating for rating in ratings if rating != 0]
    if len(rated) < len(ratings) and rated and min(rated) >= 1 and 1 < max(rated) <= 10:
        yield (
            f"{len(ratings) - len(rated):,} of {len(ratings):,} ratings are 0 where the rest is "
            f"{min(rated):g} to {max(rated):g}: if 0 means not rated, set missing_rating, "
            f'{{"{rated_in}": {{"missing_rating": 0}}}}'
        )
    if ratings:
        declared = (
            ""
            if catalog.neutral_rating is not None
            else (
                " (the guessed middle of the scale; to set it: "
                f'{{"{rated_in}": {{"neutral_rating": NUMBER}}}})'
            )
        )
        yield (
            f"ratings are {min(ratings):g} to {max(ratings):g}: liked is what is rated above "
            f"{catalog.neutral:g}{declared}"
        )
    untimed = sum(row.timestamp is None for row in rows)
    if untimed:
        yield f"{untimed:,} of {len(rows):,} interactions have no timestamp: file order is used"
    long = sum(len(review.text) > LONGEST_READ for review in catalog.reviews)
    if long:
        yield (
            f"reviews over {LONGEST_READ:,} characters: {long:,}; their opening and ending are read"
        )
    idle = {*catalog.profiles, *catalog.friends} - users
    if idle:
        yield f"users without history: {len(idle):,}, ranked by popularity and profile"
