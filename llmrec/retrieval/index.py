"""The index: a catalogue's vectors with all that a prompt needs, opened again without the data."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType

import numpy as np

from llmrec.catalog import Catalog
from llmrec.errors import DataError, UnknownItemError, nearest
from llmrec.items import MODALITY_WEIGHTS, ModalityVectors, Taste, Tastes
from llmrec.items.fusion import Fusion
from llmrec.records import AttributeValue, Insight, Interaction, Item, Review, User
from llmrec.retrieval.encoder import Encoder
from llmrec.retrieval.vectors import VectorStore


@dataclass(frozen=True, eq=False)
class Index:
    """Everything that retrieving, prompting and explaining need of a catalogue.

    Attributes:
        items: Items by id; their order is the row order of ``vectors``.
        vectors: float32 [n_items, d], rows of length 1, read-only; a ``VectorStore`` where the
            index was opened or updated, or is large. ``[row]`` and ``numpy.asarray`` read either;
            ``store`` searches.
        interactions: Who met what: the histories, and what popularity is counted on. Build from a
            catalogue of training rows to keep held-out rows out of both.
        reviews: Reviews in file order.
        profiles: Profile columns by user id.
        friends: Friends' ids by user id.
        insights: What was understood of items, by id: captions, opinions, facts, gaps.
        encoder: Name of the encoder of texts.
        modalities: Name of each modality in ``vectors`` -> name of its encoder; text comes first.
        fusion: A trained fusion: it encodes histories.
        fused: float32 [n_items, d], the fusion's item vectors; None without one.
        fingerprint: The catalogue's.
        folder: The dataset folder, absolute: pictures and clips are not copied, and the relative
            paths of items start there. None where the data came from memory.
        weights: Fitted fusion weights: signal to weight, by a key that says what they are for.
    """

    items: Mapping[str, Item]
    vectors: np.ndarray | VectorStore
    interactions: tuple[Interaction, ...] = ()
    reviews: tuple[Review, ...] = ()
    profiles: Mapping[str, Mapping[str, AttributeValue]] = field(
        default_factory=lambda: MappingProxyType({})
    )
    friends: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({}))
    insights: Mapping[str, Insight] = field(default_factory=lambda: MappingProxyType({}))
    encoder: str = ""
    modalities: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    fusion: Fusion | None = None
    fused: np.ndarray | None = None
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
        if isinstance(self.vectors, VectorStore):
            if self.vectors.ids != self.item_ids:
                raise DataError(
                    "The vectors are not those of the items, in their order.",
                    hint="Make the index again with `llmrec index`.",
                )
            return  # finite when they were put in: not read here
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
    def build(
        cls,
        catalog: Catalog,
        encoder: Encoder,
        *,
        modalities: Sequence[ModalityVectors] = (),
        weights: Mapping[str, float] = MODALITY_WEIGHTS,
        insights: Mapping[str, Insight] = MappingProxyType({}),
        fusion: Fusion | None = None,
        progress: bool = False,
    ) -> Index:
        """Embed a catalogue's items.

        Args:
            catalog: The data. Rows it does not have are in no history and no popularity count.
            encoder: Makes the vectors of texts.
            modalities: What ``embedding.modalities_of`` found, text first; without them the items'
                texts alone are embedded.
            weights: Of each modality in ``vectors``; see ``embedding.concatenate``.
            insights: What ``understanding.understand_items`` found.
            fusion: A trained one, for vectors that know who met what.
            progress: Show a bar on stderr while embedding.

        Raises:
            DataError: The catalogue has no items, or the encoder's values are not finite.
            ModelError: The fusion was trained with other encoders.
            OptionError: A fusion is given without modalities.
        """
        from llmrec.retrieval.building import build_index  # noqa: PLC0415 (it imports Index)

        return build_index(
            catalog,
            encoder,
            modalities=modalities,
            weights=weights,
            insights=insights,
            fusion=fusion,
            progress=progress,
        )

    def save(self, folder: str | Path) -> None:
        """Write the index to a folder, all of it or nothing; an index that is there is replaced.

        Raises:
            StorageError: The folder holds something else, or cannot be written.
        """
        from llmrec.retrieval.index_files import save_index  # noqa: PLC0415 (it imports Index)

        save_index(self, Path(folder))

    @classmethod
    def open(cls, folder: str | Path, *, verify: bool = False) -> Index:
        """Open a saved index, its vectors by memory map.

        Every byte of the other files is checked against the manifest; of the vectors the size, and
        with ``verify`` every byte too.

        Raises:
            StorageError: There is no index, or a file is missing, damaged, of another index or of
                another format; the file is named.
        """
        from llmrec.retrieval.index_files import open_index  # noqa: PLC0415 (it imports Index)

        return open_index(Path(folder), verify=verify)

    def updated(
        self,
        catalog: Catalog,
        encoder: Encoder,
        *,
        modalities: Sequence[ModalityVectors] = (),
        weights: Mapping[str, float] = MODALITY_WEIGHTS,
        insights: Mapping[str, Insight] | None = None,
        progress: bool = False,
    ) -> Index:
        """Return an index of a changed catalogue: items added, changed and deleted.

        Only changed texts are embedded, only changed vectors written where it is saved again.

        Args:
            catalog: All of the data as it is now.
            encoder: The one that made the index.
            modalities: As for :meth:`build`; needed where the index has more than texts.
            weights: Those it was built with.
            insights: Of all items; None keeps those of items that did not change.
            progress: Show a bar on stderr while embedding.

        Raises:
            DataError: The catalogue has no items, or the encoder's values are not finite.
            OptionError: The modalities or encoders are not those of the index.
        """
        from llmrec.retrieval.building import updated_index  # noqa: PLC0415 (it imports Index)

        return updated_index(
            self,
            catalog,
            encoder,
            modalities=modalities,
            weights=weights,
            insights=insights,
            progress=progress,
        )

    def with_weights(self, key: str, weights: Mapping[str, float]) -> Index:
        """Return an index that also holds fitted weights under ``key``; save it to keep them."""
        return replace(self, weights={**self.weights, key: dict(weights)})

    @cached_property
    def item_ids(self) -> tuple[str, ...]:
        """Item ids in row order."""
        return tuple(self.items)

    @cached_property
    def store(self) -> VectorStore:
        """The vectors as a store, to search them."""
        if isinstance(self.vectors, VectorStore):
            return self.vectors
        return VectorStore.of(self.item_ids, self.vectors)

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

    def met_by(self, item_id: str) -> frozenset[str]:
        """Return the ids of the users who met an item."""
        return self._users_by_item.get(item_id, frozenset())

    def insight_of(self, item_id: str) -> Insight:
        """Return what was understood of an item; an empty insight where nothing was."""
        return self.insights.get(item_id, Insight())

    def taste_of(self, user: User) -> Taste:
        """Say what a user's history tells, against what is common in the index."""
        return self._tastes.of(user)

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
    def _users_by_item(self) -> dict[str, frozenset[str]]:
        met: defaultdict[str, set[str]] = defaultdict(set)
        for row in self.interactions:
            met[row.item_id].add(row.user_id)
        return {item_id: frozenset(users) for item_id, users in met.items()}

    @cached_property
    def _tastes(self) -> Tastes:
        return Tastes(self._catalog, self.insights)

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
