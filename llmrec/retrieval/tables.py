"""Records to bytes and back: JSON, and parquet for the one table that grows very long."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import TypeAdapter

from llmrec.records import AttributeValue, Insight, Interaction, Item, Review

T = TypeVar("T")


@dataclass(frozen=True)
class Users:
    """What is known of users beside their interactions, by user id."""

    profiles: Mapping[str, Mapping[str, AttributeValue]] = field(default_factory=dict)
    friends: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


ITEMS = TypeAdapter(tuple[Item, ...])
REVIEWS = TypeAdapter(tuple[Review, ...])
USERS = TypeAdapter(Users)
INSIGHTS = TypeAdapter(dict[str, Insight])

_INTERACTIONS = pa.schema(
    [
        ("user_id", pa.string()),
        ("item_id", pa.string()),
        ("rating", pa.float64()),
        ("timestamp", pa.int64()),
    ]
)


def to_json(adapter: TypeAdapter[T], records: T) -> bytes:
    """Write records as one JSON document; the adapter's ``validate_json`` reads it."""
    # Read-only mappings are unknown to pydantic: they are written as dicts, without a warning each.
    return adapter.dump_json(records, fallback=dict, warnings=False)


def interactions_to_bytes(interactions: tuple[Interaction, ...]) -> bytes:
    """Write interactions as parquet, in their order."""
    columns = {
        name: [getattr(interaction, name) for interaction in interactions]
        for name in _INTERACTIONS.names
    }
    sink = io.BytesIO()
    pq.write_table(pa.table(columns, schema=_INTERACTIONS), sink, compression="zstd")
    return sink.getvalue()


def interactions_from_bytes(content: bytes) -> tuple[Interaction, ...]:
    """Read what :func:`interactions_to_bytes` wrote."""
    # No threads: one that still holds the bytes when Python ends would abort the process.
    file = pq.ParquetFile(pa.BufferReader(content), pre_buffer=False)
    table = file.read(use_threads=False).cast(_INTERACTIONS)
    return tuple(map(Interaction, *(column.to_pylist() for column in table.columns)))
