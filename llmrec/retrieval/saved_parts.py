"""Open the parts of a saved index, each checked as far as that is cheap."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from llmrec.catalog.media_files import folder_mark
from llmrec.items.fusion import Fusion
from llmrec.retrieval import storage
from llmrec.retrieval.interactions import Interactions
from llmrec.retrieval.item_table import ItemTable
from llmrec.retrieval.prepared import Prepared
from llmrec.retrieval.search import EXACT_UP_TO

_SAMPLED = 1 << 16
"""Rows of a mapped file whose numbers are looked at on opening."""


def open_parts(folder: Path, *, verify: bool, media_root: str | Path | None) -> dict[str, Any]:
    """Return the fields of a saved ``Index`` by name; see ``Index.open``.

    Raises:
        StorageError: There is no index, or a file is missing or damaged.
    """
    opened = storage.open_folder(folder, verify=verify)
    manifest, tables = opened.manifest, opened.tables
    data, root = _media_folders(manifest, media_root)
    items_file = opened.arrow("items.arrow")
    rows_file, users_file = opened.arrow("interactions.arrow"), opened.arrow("users.arrow")
    with opened.reading("items.arrow"):
        table = ItemTable(items_file)
        large = len(table) > EXACT_UP_TO
        read = table if large and not verify else table.everything()
        if len(read) != len(table):
            raise ValueError("an id stands twice")
        _within(table.ids.order, 0, len(table), "rows")
        items = table if large else read
    with opened.reading("interactions.arrow"):
        interactions = Interactions.from_tables(rows_file, users_file, table.ids)
        _check_interactions(interactions, len(table), verify=verify)
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
        fused = _vectors(opened, "fused.npy", len(table), fusion.dimension, verify=verify)
    vectors = _vectors(opened, "vectors.npy", len(table), manifest.dimension, verify=verify)
    prepared = None
    if "neighbours.arrow" in tables:
        with opened.reading("neighbours.arrow"):
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
        "neutral_rating": manifest.neutral_rating,
        "prepared": prepared,
    }


def _vectors(
    opened: storage.Opened, name: str, rows: int, dimension: int, *, verify: bool
) -> np.ndarray:
    """Return the vectors of a file: float32 [rows, dimension], finite as far as they are read."""
    found = opened.array(name)
    with opened.reading(name) as content:
        if found.dtype != np.float32 or found.shape != (rows, dimension):
            expected = f"float32 [{rows}, {dimension}]"
            raise ValueError(f"it holds {found.dtype} {list(found.shape)} instead of {expected}")
        if not np.isfinite(found[:: 1 if verify else _step(content.nbytes, rows)]).all():
            raise ValueError("a vector is not finite")
    return found


def _step(size: int, rows: int) -> int:
    """Of a file that is mapped, each of so many rows is looked at."""
    return -(-rows // _SAMPLED) if size >= storage.MAPPED_FROM else 1


def _check_interactions(interactions: Interactions, n_items: int, *, verify: bool) -> None:
    n, n_users = len(interactions), len(interactions.user_ids)
    order, starts = interactions.by_user
    columns = (interactions.items, interactions.ratings, interactions.times, order)
    if any(len(column) != n for column in columns) or len(starts) != n_users + 1:
        raise ValueError("its columns have different lengths")
    step = 1 if verify else _step(sum(column.nbytes for column in columns), n)
    _within(interactions.users[::step], 0, n_users, "users")
    _within(interactions.items[::step], -1, n_items, "items")
    _within(order[::step], 0, n, "rows")
    _within(interactions.user_ids.order, 0, n_users, "users")
    if starts[-1] != n or (np.diff(starts) < 0).any():
        raise ValueError("the users' rows do not follow each other")
    ratings, times = interactions.ratings[::step], interactions.times[::step]
    if np.isinf(ratings).any() or not np.isfinite(times).all():
        raise ValueError("a rating or a time is not finite")


def _within(numbers: np.ndarray, least: int, below: int, what: str) -> None:
    if len(numbers) and (numbers.min() < least or numbers.max() >= below):
        raise ValueError(f"it names {what} that are not there")


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
