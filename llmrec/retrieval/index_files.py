"""An index as the files of a folder, and back."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from llmrec.items.fusion import Fusion
from llmrec.retrieval import tables
from llmrec.retrieval.index import Index
from llmrec.retrieval.storage import Manifest, Mapped, damaged, open_folder, save_folder
from llmrec.retrieval.vectors import VectorStore, files

_FUSION = "fusion.safetensors"
_FUSED = "fused.f32"


def save_index(index: Index, folder: Path) -> None:
    """Write an index; see :meth:`Index.save`."""
    manifest = Manifest(
        encoder=index.encoder,
        modalities=index.modalities,
        dimension=index.vectors.shape[1],
        fingerprint=index.fingerprint,
        folder=str(index.folder) if index.folder else None,
        weights=index.weights,
    )
    contents: dict[str, bytes | Mapped] = {
        **files.written(index.store.parts()),
        "items.json": tables.to_json(tables.ITEMS, tuple(index.items.values())),
        "interactions.parquet": tables.interactions_to_bytes(index.interactions),
        "reviews.json": tables.to_json(tables.REVIEWS, index.reviews),
        "users.json": tables.to_json(tables.USERS, tables.Users(index.profiles, index.friends)),
        "insights.json": tables.to_json(tables.INSIGHTS, dict(index.insights)),
    }
    if index.fusion is not None and index.fused is not None:
        contents[_FUSION] = index.fusion.to_bytes()
        contents[_FUSED] = Mapped(np.frombuffer(index.fused.astype("<f4").tobytes(), np.uint8))
    save_folder(folder, manifest, contents)


def open_index(folder: Path, *, verify: bool) -> Index:
    """Open an index; see :meth:`Index.open`."""
    opened = open_folder(folder, verify=verify)
    manifest, contents = opened.manifest, opened.tables
    users = tables.USERS.validate_json(contents["users.json"])
    items = tables.ITEMS.validate_json(contents["items.json"])
    fusion = fused = None
    if _FUSION in contents:
        path = folder / manifest.files[_FUSION].name
        fusion = Fusion.from_bytes(contents[_FUSION], path)
        rows = opened.mapped[_FUSED].content.view("<f4")
        if rows.size != len(items) * fusion.dimension:
            raise damaged(path, f"{rows.size} numbers are no vectors of {len(items)} items")
        fused = rows.reshape(len(items), fusion.dimension)
    return Index(
        items={item.item_id: item for item in items},
        vectors=VectorStore.from_parts(files.read(opened)),
        interactions=tables.interactions_from_bytes(contents["interactions.parquet"]),
        reviews=tables.REVIEWS.validate_json(contents["reviews.json"]),
        profiles=users.profiles,
        friends=users.friends,
        insights=tables.INSIGHTS.validate_json(contents["insights.json"]),
        encoder=manifest.encoder,
        modalities=manifest.modalities,
        fusion=fusion,
        fused=fused,
        fingerprint=manifest.fingerprint,
        folder=Path(manifest.folder) if manifest.folder else None,
        weights=manifest.weights,
    )
