"""Open the parts of a saved index."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from llmrec.catalog.media_files import folder_mark
from llmrec.items.fusion import Fusion
from llmrec.retrieval import storage
from llmrec.retrieval.interactions import Interactions
from llmrec.retrieval.item_table import ItemTable
from llmrec.retrieval.prepared import Prepared
from llmrec.retrieval.search import EXACT_UP_TO


def open_parts(folder: Path, *, verify: bool, media_root: str | Path | None) -> dict[str, Any]:
    """Return the fields of a saved ``Index`` by name; see ``Index.open``.

    Raises:
        StorageError: There is no index, or a file is missing or damaged.
    """
    opened = storage.open_folder(folder, verify=verify)
    manifest, tables = opened.manifest, opened.tables
    data, root = _media_folders(manifest, media_root)
    table = ItemTable(opened.arrow("items.arrow"))
    items = table if len(table) > EXACT_UP_TO else table.everything()
    interactions = Interactions.from_tables(
        opened.arrow("interactions.arrow"), opened.arrow("users.arrow"), table.ids
    )
    users = storage.USERS.validate_json(tables["profiles.json"].tobytes())
    fusion = fused = None
    if "fusion.safetensors" in tables:
        fusion = Fusion.from_bytes(
            tables["fusion.safetensors"].tobytes(), opened.paths["fusion.safetensors"]
        )
        fused = opened.array("fused.npy")
    vectors = opened.array("vectors.npy")
    prepared = None
    if "neighbours.arrow" in tables:
        prepared = Prepared.opened(opened, items, interactions, vectors, fused)
    return {
        "items": items,
        "vectors": vectors,
        "interactions": interactions,
        "reviews": storage.REVIEWS.validate_json(tables["reviews.json"].tobytes()),
        "profiles": {user: own for user, (own, friends) in users.items() if own or not friends},
        "friends": {user: friends for user, (_, friends) in users.items() if friends},
        "insights": storage.INSIGHTS.validate_json(tables["insights.json"].tobytes()),
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
