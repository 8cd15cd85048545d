"""A vector store as files: the vectors in segments, what row each one is, and the trained lists."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from pydantic import TypeAdapter, ValidationError

from llmrec.retrieval.storage import Mapped, Opened, damaged
from llmrec.retrieval.vectors.approximate import Lists
from llmrec.retrieval.vectors.segments import Segment, Segments

_TABLE = "vectors.json"
_SLOTS = "slots.i64"
_LISTS = "lists.faiss"


@dataclass(frozen=True, eq=False)
class Parts:
    """All that a store is made of; see its arguments."""

    ids: tuple[str, ...]
    segments: Segments
    slots: np.ndarray
    longest: float
    lists: Lists | None


@dataclass(frozen=True)
class _Description:
    ids: tuple[str, ...]
    dimension: int
    longest: float
    trained_on: int
    n_segments: int


_DESCRIPTIONS = TypeAdapter(_Description)


def written(parts: Parts) -> dict[str, bytes | Mapped]:
    """Return the files of a store, by table name."""
    segments, lists = parts.segments, parts.lists
    description = _Description(
        parts.ids,
        segments.dimension,
        parts.longest,
        lists.trained_on if lists else 0,
        len(segments.parts),
    )
    tables: dict[str, bytes | Mapped] = {
        f"vectors{number}.f32": part.file() for number, part in enumerate(segments.parts)
    }
    tables[_TABLE] = _DESCRIPTIONS.dump_json(description)
    tables[_SLOTS] = parts.slots.astype("<i8").tobytes()
    if lists:
        tables[_LISTS] = lists.to_file()
    return tables


def read(opened: Opened) -> Parts:
    """Take a store from an opened folder.

    Raises:
        StorageError: A file is missing, or the files do not fit together.
    """
    manifest = opened.folder / "manifest.json"
    try:
        described = _DESCRIPTIONS.validate_json(opened.tables[_TABLE])
        slots = np.frombuffer(opened.tables[_SLOTS], dtype="<i8").astype(np.int64)
        parts = tuple(
            Segment.mapped(opened.mapped[f"vectors{number}.f32"], described.dimension)
            for number in range(described.n_segments)
        )
    except (KeyError, ValueError, ValidationError) as error:
        raise damaged(manifest, f"its vectors' files do not fit together ({error})") from error
    segments = Segments(described.dimension, parts)
    fits = len(slots) == len(described.ids) and (
        not len(slots) or (slots.min() >= 0 and slots.max() < segments.total)
    )
    if not fits:
        raise damaged(manifest, "the rows of the vectors do not fit their files")
    slots.setflags(write=False)
    lists = None
    if file := opened.mapped.get(_LISTS):
        path = opened.folder / opened.manifest.files[_LISTS].name
        lists = Lists.opened(path, file, described.trained_on, described.dimension)
    return Parts(described.ids, segments, slots, described.longest, lists)
