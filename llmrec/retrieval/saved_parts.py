"""Open the parts of a saved index, each checked as far as that is cheap; or verify all of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from llmrec.catalog.media_files import folder_mark
from llmrec.errors import StorageError, check_path
from llmrec.items.fusion import Fusion
from llmrec.retrieval import storage
from llmrec.retrieval.interactions import Interactions
from llmrec.retrieval.item_table import ItemTable
from llmrec.retrieval.prepared import Prepared, check_ids, check_within
from llmrec.retrieval.search import EXACT_UP_TO


@dataclass(frozen=True)
class FileCheck:
    """A file of an index: its name, size in bytes, and what is wrong with it, or an empty text."""

    name: str
    size: int
    fault: str


@dataclass(frozen=True)
class IndexCheck:
    """The result of `verify_index`.

    ``fault`` says which file does not belong to the others, although every file has the bytes that
    were saved.
    """

    files: tuple[FileCheck, ...]
    fault: str = ""

    @property
    def whole(self) -> bool:
        """Whether nothing is wrong."""
        return not self.fault and not any(file.fault for file in self.files)


def verify_index(folder: str | Path) -> IndexCheck:
    """Read every byte of a saved index.

    Checked are the sha256 of each file against the manifest; then that numbers are finite, that ids
    and counts belong together, and that everything which is read on demand can be read.

    Raises:
        StorageError: There is no index, the manifest is damaged, or the format is another.
        OptionError: The index is searched with faiss, which is not installed.
    """
    opened = storage.open_folder(check_path("folder", folder), verify=True, collect=True)
    entries = opened.manifest.files.items()
    files = tuple(FileCheck(e.name, e.size, opened.faults.get(n, "")) for n, e in entries)
    if opened.faults:
        return IndexCheck(files)
    try:
        read_parts(opened, media_root=None)
    except StorageError as error:
        return IndexCheck(files, error.message)
    return IndexCheck(files)


def read_parts(opened: storage.Opened, *, media_root: str | Path | None) -> dict[str, Any]:
    """Return the fields of a saved ``Index`` by name; see ``Index.open``.

    Raises:
        StorageError: A file is missing or damaged.
    """
    manifest, tables = opened.manifest, opened.tables
    data, root = _media_folders(manifest, media_root)
    items_file = opened.arrow("items.arrow")
    rows_file, users_file = opened.arrow("interactions.arrow"), opened.arrow("users.arrow")
    with opened.reading("items.arrow"):
        table = ItemTable(items_file, opened.paths["items.arrow"])
        check_ids(table.ids, opened)
        large = len(table) > EXACT_UP_TO
        read = table if large and not opened.verify else table.everything()
        if len(read) != len(table):
            raise ValueError("an id stands twice")
        for attribute in table.attributes if opened.verify else ():
            table.column(attribute)
        items = table if large else read
    with opened.reading("interactions.arrow"):
        interactions = Interactions.from_tables(rows_file, users_file, table.ids)
        check_ids(interactions.user_ids, opened)
        _check_interactions(interactions, len(table), opened)
    with opened.reading("profiles.json") as content:
        users = storage.USERS.validate_json(content.tobytes())
    with opened.reading("reviews.json") as content:
        reviews = storage.REVIEWS.validate_json(content.tobytes())
    with opened.reading("insights.json") as content:
        insights = storage.INSIGHTS.validate_json(content.tobytes())
    fusion = fused = None
    if "fusion.safetensors" in tables:
        with opened.reading("fusion.safetensors") as content:
            fusion = Fusion.from_bytes(content.tobytes(), opened.paths["fusion.safetensors"])
            if opened.verify:
                fusion.network  # noqa: B018 (built now, so that what does not fit shows now)
        fused = _vectors(opened, "fused.npy", len(table), fusion.dimension)
    vectors = _vectors(opened, "vectors.npy", len(table), manifest.dimension)
    prepared = None
    if "neighbours.arrow" in tables:
        prepared = Prepared.opened(opened, items, interactions, vectors, fused)
    return {
        "items": items,
        "vectors": vectors,
        "interactions": interactions,
        "reviews": reviews,
        "profiles": {user: own for user, (own, friends) in users.items() if own or not friends},
        "friends": {user: friends for user, (_, friends) in users.items() if friends},
        "insights": insights,
        "encoder": manifest.encoder,
        "modalities": manifest.modalities,
        "fusion": fusion,
        "fused": fused,
        "fingerprint": manifest.fingerprint,
        "folder": data,
        "media_root": root,
        "weights": manifest.weights,
        "gates": manifest.gates,
        "neutral_rating": manifest.neutral_rating,
        "prepared": prepared,
    }


def _vectors(opened: storage.Opened, name: str, rows: int, dimension: int) -> np.ndarray:
    """Return the vectors of a file: float32 [rows, dimension], finite as far as they are read."""
    found = opened.array(name)
    with opened.reading(name):
        if found.dtype != np.float32 or found.shape != (rows, dimension):
            expected = f"float32 [{rows}, {dimension}]"
            raise ValueError(f"it holds {found.dtype} {list(found.shape)} instead of {expected}")
        if not np.isfinite(opened.sampled(name, found)).all():
            raise ValueError("a vector is not finite")
    return found


def _check_interactions(rows: Interactions, n_items: int, opened: storage.Opened) -> None:
    n, n_users = len(rows), len(rows.user_ids)
    order, starts = rows.by_user
    columns = (rows.users, rows.items, order, rows.ratings, rows.times)
    if any(len(column) != n for column in columns) or len(starts) != n_users + 1:
        raise ValueError("its columns have different lengths")
    users, items, order, ratings, times = (
        opened.sampled("interactions.arrow", column) for column in columns
    )
    check_within(users, 0, n_users, "users")
    check_within(items, 0, n_items, "items")
    check_within(order, 0, n, "rows")
    if starts[-1] != n or (np.diff(starts) < 0).any():
        raise ValueError("the users' rows do not follow each other")
    if opened.verify and (users[order] != np.repeat(np.arange(n_users), np.diff(starts))).any():
        raise ValueError("a row stands under another user")
    if np.isinf(ratings).any() or not np.isfinite(times).all():
        raise ValueError("a rating or a time is not finite")


def _media_folders(
    manifest: storage.Manifest, given: str | Path | None
) -> tuple[Path | None, Path | None]:
    """Return the folder of an index's pictures, and another with pictures.

    Those that the index names, if this user made it; ``given`` takes the place of the other one, or
    of both where somebody else made the index, who might name any folder.
    """
    folder, root = (Path(name) if name else None for name in (manifest.folder, manifest.media_root))
    chosen = None if given is None else Path(given)
    mark = manifest.folder_mark
    if folder is None or not mark or folder_mark(folder, root) != mark:
        return chosen, None
    return folder, chosen or root
