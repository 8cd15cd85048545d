"""The index: a catalogue's vectors with all that a prompt needs, opened again without the data."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

import numpy as np
from safetensors.numpy import load, save

from llmrec.catalog import Catalog
from llmrec.embedding import item_text
from llmrec.errors import DataError, UnknownItemError, nearest
from llmrec.records import AttributeValue, Interaction, Item, Review, User
from llmrec.retrieval import tables
from llmrec.retrieval.storage import Manifest, open_folder, save_folder


class Encoder(Protocol):
    """What turns texts into vectors; a ``TextEncoder`` does."""

    @property
    def name(self) -> str:
        """The model's name with its revision."""
        ...

    def encode(self, texts: Sequence[str], *, progress: bool = False) -> np.ndarray:
        """Return float32 [n, d], rows of length 1."""
        ...


@dataclass(frozen=True, eq=False)
class Index:
    """Everything that retrieving, prompting and explaining need of a catalogue.

    Attributes:
        items: Items by id; their order is the row order of ``vectors``.
        vectors: float32 [n_items, d], rows of length 1, read-only.
        interactions: Who met what: the histories, and what popularity is counted on. Build from a
            catalogue of training rows to keep held-out rows out of both.
        reviews: Reviews in file order.
        profiles: Profile columns by user id.
        friends: Friends' ids by user id.
        encoder: Name of the encoder that made the vectors.
        fingerprint: The catalogue's.
        folder: The dataset folder, absolute: pictures and clips are not copied, and the relative
            paths of items start there. None where the data came from memory.
        weights: Fitted fusion weights: signal to weight, by a key that says what they are for.
    """

    items: Mapping[str, Item]
    vectors: np.ndarray
    interactions: tuple[Interaction, ...] = ()
    reviews: tuple[Review, ...] = ()
    profiles: Mapping[str, Mapping[str, AttributeValue]] = field(
        default_factory=lambda: MappingProxyType({})
    )
    friends: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({}))
    encoder: str = ""
    fingerprint: str = ""
    folder: Path | None = None
    weights: Mapping[str, Mapping[str, float]] = field(default_factory=lambda: MappingProxyType({}))

    def __post_init__(self) -> None:
        shape = self.vectors.shape
        if len(shape) != 2 or shape[0] != len(self.items) or not self.items:
            raise DataError(
                f"{len(self.items)} items and vectors of shape {shape} make no index.",
                hint="Give at least one item, and one row an item.",
            )
        broken = np.flatnonzero(~np.isfinite(self.vectors).all(axis=1))
        if broken.size:
            raise DataError(
                f"The vectors of {broken.size} items are not finite, "
                f"the first that of {self.item_ids[broken[0]]!r}.",
                hint="Check the encoder on that item's text.",
            )
        read_only = self.vectors.view()
        read_only.setflags(write=False)
        object.__setattr__(self, "vectors", read_only)

    @classmethod
    def build(cls, catalog: Catalog, encoder: Encoder, *, progress: bool = False) -> Index:
        """Embed a catalogue's items.

        Args:
            catalog: The data. Rows it does not have are in no history and no popularity count.
            encoder: Makes the vectors.
            progress: Show a bar on stderr while embedding.

        Raises:
            DataError: The catalogue has no items, or the encoder's values are not finite.
        """
        texts = [item_text(item) for item in catalog.items.values()]
        return cls(
            items=catalog.items,
            vectors=np.array(encoder.encode(texts, progress=progress), dtype=np.float32),
            interactions=catalog.interactions,
            reviews=catalog.reviews,
            profiles=catalog.profiles,
            friends=catalog.friends,
            encoder=encoder.name,
            fingerprint=catalog.fingerprint,
            folder=catalog.folder.absolute() if catalog.folder else None,
        )

    def save(self, folder: str | Path) -> None:
        """Write the index to a folder, all of it or nothing; an index that is there is replaced.

        Raises:
            StorageError: The folder holds something else, or cannot be written.
        """
        manifest = Manifest(
            encoder=self.encoder,
            dimension=self.vectors.shape[1],
            fingerprint=self.fingerprint,
            folder=str(self.folder) if self.folder else None,
            weights=self.weights,
        )
        contents = {
            "vectors.safetensors": save({"vectors": np.ascontiguousarray(self.vectors)}),
            "items.json": tables.to_json(tables.ITEMS, tuple(self.items.values())),
            "interactions.parquet": tables.interactions_to_bytes(self.interactions),
            "reviews.json": tables.to_json(tables.REVIEWS, self.reviews),
            "users.json": tables.to_json(tables.USERS, tables.Users(self.profiles, self.friends)),
        }
        save_folder(Path(folder), manifest, contents)

    @classmethod
    def open(cls, folder: str | Path) -> Index:
        """Read a saved index; every byte is checked against its manifest.

        Raises:
            StorageError: There is no index, or a file is missing, damaged, of another index or of
                another format; the file is named.
        """
        manifest, contents = open_folder(Path(folder))
        users = tables.USERS.validate_json(contents["users.json"])
        items = tables.ITEMS.validate_json(contents["items.json"])
        return cls(
            items={item.item_id: item for item in items},
            vectors=load(contents["vectors.safetensors"])["vectors"],
            interactions=tables.interactions_from_bytes(contents["interactions.parquet"]),
            reviews=tables.REVIEWS.validate_json(contents["reviews.json"]),
            profiles=users.profiles,
            friends=users.friends,
            encoder=manifest.encoder,
            fingerprint=manifest.fingerprint,
            folder=Path(manifest.folder) if manifest.folder else None,
            weights=manifest.weights,
        )

    def with_weights(self, key: str, weights: Mapping[str, float]) -> Index:
        """Return an index that also holds fitted weights under ``key``; save it to keep them."""
        return replace(self, weights={**self.weights, key: dict(weights)})

    @cached_property
    def item_ids(self) -> tuple[str, ...]:
        """Item ids in row order."""
        return tuple(self.items)

    @cached_property
    def popularity(self) -> np.ndarray:
        """Interactions an item: float64 [n_items], read-only."""
        rows = [self.row(interaction.item_id) for interaction in self.interactions]
        counts = np.bincount(np.array(rows, dtype=np.int64), minlength=len(self.items))
        counts = counts.astype(np.float64)
        counts.setflags(write=False)
        return counts

    def row(self, item_id: str) -> int:
        """Return an item's row in ``vectors``.

        Raises:
            UnknownItemError: The index does not hold the item.
        """
        row = self._rows.get(item_id)
        if row is None:
            raise UnknownItemError(
                f"The index holds no item {item_id!r}.",
                hint=nearest(item_id, self.items) or "Check the id.",
            )
        return row

    def reviews_of(self, item_id: str) -> tuple[Review, ...]:
        """Return an item's reviews in file order; none for an item without."""
        return self._reviews_by_item.get(item_id, ())

    @property
    def user_ids(self) -> tuple[str, ...]:
        """All users that anything is known of, sorted."""
        return self._catalog.user_ids

    def user(self, user_id: str) -> User:
        """Return a user, the history oldest first.

        Raises:
            UnknownUserError: Nothing is known of the user.
        """
        return self._catalog.user(user_id)

    @cached_property
    def _catalog(self) -> Catalog:
        return Catalog(self.items, self.interactions, profiles=self.profiles, friends=self.friends)

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {item_id: row for row, item_id in enumerate(self.items)}

    @cached_property
    def _reviews_by_item(self) -> dict[str, tuple[Review, ...]]:
        grouped: defaultdict[str, list[Review]] = defaultdict(list)
        for review in self.reviews:
            grouped[review.item_id].append(review)
        return {item_id: tuple(rows) for item_id, rows in grouped.items()}
