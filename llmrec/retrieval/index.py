"""The index: a catalogue's vectors with all that a prompt needs, opened again without the data."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from llmrec.catalog import NEW_USER, Catalog, read_id, read_user
from llmrec.catalog.media_files import folder_mark
from llmrec.errors import (
    DataError,
    OptionError,
    UnknownItemError,
    UnknownUserError,
    check_kind,
    check_path,
    nearest,
    not_allowed,
)
from llmrec.items import (
    MODALITY_WEIGHTS,
    Encoder,
    ModalityVectors,
    Taste,
    Tastes,
    TextEncoder,
    item_text,
    modalities_of,
    understand_items,
)
from llmrec.items.fusion import Fusion
from llmrec.records import AttributeValue, Insight, Interaction, Item, Review, User
from llmrec.retrieval import storage
from llmrec.retrieval.co_occurrence import neighbours
from llmrec.retrieval.filters import AttributeColumns
from llmrec.retrieval.interactions import Interactions
from llmrec.retrieval.item_table import Ids, ItemTable, to_table
from llmrec.retrieval.item_vectors import (
    check_inputs,
    embed_changed,
    fuse_items,
    join,
    listed,
    with_gaps,
)
from llmrec.retrieval.keywords import Postings
from llmrec.retrieval.prepared import Neighbours, Prepared
from llmrec.retrieval.saved_parts import read_parts
from llmrec.retrieval.search import EXACT_UP_TO, VectorSearch, check_faiss
from llmrec.retrieval.weights import check_weights

_BLOCK = 1 << 16
_nothing = partial(MappingProxyType[Any, Any], {})
_NAMED = 100_000  # ids among which the nearest to an unknown one is looked for


@dataclass(frozen=True, eq=False)
class Index:
    """Everything that retrieving, prompting and explaining need of a catalogue.

    Attributes:
        items: Items by id; their order is the row order of ``vectors``.
        vectors: float32 [n_items, d], rows of length 1, read-only.
        interactions: Who met what: histories and popularity. Build from training rows alone to
            keep held-out rows out of both.
        reviews: Reviews in file order.
        profiles: Profile columns by user id.
        friends: Friends' ids by user id.
        insights: Captions, opinions, facts and gaps of items, by id.
        encoder: Name of the encoder of texts.
        modalities: Encoder's name by modality of ``vectors``, text first.
        fusion: A trained fusion: it encodes histories.
        fused: float32 [n_items, d], the fusion's item vectors; None without one.
        fingerprint: The catalogue's.
        folder: The dataset folder, absolute: where paths of pictures and clips start.
        media_root: Another folder with pictures and clips.
        weights: Learned weights of the retriever's signals, by key.
        gates: Fitted gates as JSON, by `Reranker.weights_key` (`llmrec.reranking.keep_gate`).
        neutral_rating: The rating above which an item counts as liked, the catalogue's.
        prepared: Search structures already computed for these items, interactions and vectors.
    """

    items: Mapping[str, Item]
    vectors: np.ndarray
    interactions: Sequence[Interaction] = ()
    reviews: tuple[Review, ...] = ()
    profiles: Mapping[str, Mapping[str, AttributeValue]] = field(default_factory=_nothing)
    friends: Mapping[str, tuple[str, ...]] = field(default_factory=_nothing)
    insights: Mapping[str, Insight] = field(default_factory=_nothing)
    encoder: str = ""
    modalities: Mapping[str, str] = field(default_factory=_nothing)
    fusion: Fusion | None = None
    fused: np.ndarray | None = None
    fingerprint: str = ""
    folder: Path | None = None
    media_root: Path | None = None
    weights: Mapping[str, Mapping[str, float]] = field(default_factory=_nothing)
    gates: Mapping[str, Mapping[str, Any]] = field(default_factory=_nothing)
    neutral_rating: float | None = None
    prepared: Prepared | None = None

    def __post_init__(self) -> None:
        hint = "Index.build(Catalog.from_folder(DATA)) makes both."
        check_kind("items", self.items, Mapping, "a mapping of id to Item", hint)
        check_kind("vectors", self.vectors, np.ndarray, "an array of float32", hint)
        shape = self.vectors.shape
        if len(shape) != 2 or shape[0] != len(self.items) or not self.items:
            raise DataError(
                f"{len(self.items)} items and vectors of shape {shape} make no index.",
                hint="Give at least one item, and one row an item.",
            )
        if self.prepared and self.prepared.vectors is self.vectors:
            return  # finite when they were saved: not read here
        blocks = (self.vectors[at : at + _BLOCK] for at in range(0, shape[0], _BLOCK))
        finite = np.concatenate([np.isfinite(block).all(axis=1) for block in blocks])
        broken = np.flatnonzero(~finite)
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
        encoder: Encoder | None = None,
        *,
        modalities: Sequence[ModalityVectors] | None = None,
        weights: Mapping[str, float] = MODALITY_WEIGHTS,
        insights: Mapping[str, Insight] | None = None,
        fusion: Fusion | None = None,
        progress: bool = False,
    ) -> Index:
        """Understand and embed a catalogue's items.

        Args:
            catalog: The data. Rows it does not have are in no history and no popularity count.
            encoder: Text encoder; None loads the default one.
            modalities: Vectors by modality, text first, as from ``modalities_of``. None embeds
                every modality that the data has; ``()`` embeds the items' texts only.
            weights: Weight of each modality in ``vectors``; see ``llmrec.items.concatenate``.
            insights: As from ``understand_items``. None runs it; ``{}`` leaves it out.
            fusion: A trained fusion, for vectors that know who met what.
            progress: Show a bar on stderr while embedding.

        Raises:
            DataError: The catalogue has no items, or the encoder's values are not finite.
            ModelError: A model cannot be loaded, or the fusion was trained with other encoders.
            OptionError: A fusion with ``modalities=()``, or too many items without faiss.
        """
        check_inputs(catalog, encoder, modalities, weights, insights)
        if fusion is not None:
            check_kind("fusion", fusion, Fusion, "a Fusion", "Give Fusion.open(FOLDER).")
        check_faiss(len(catalog.items))
        encoder = encoder or TextEncoder.from_pretrained(progress=progress)
        if modalities is None:
            modalities = modalities_of(catalog, encoder, progress=progress)
        if insights is None:
            insights = understand_items(catalog, encoder, progress=progress)
        if fusion and not modalities:
            raise OptionError(
                f"{fusion.name} fuses {', '.join(fusion.modalities)}, and modalities is ().",
                hint="Leave modalities out, or give modalities_of(catalog, encoder).",
            )
        if modalities:
            vectors = join(modalities, weights)
        else:
            texts = [item_text(item) for item in catalog.items.values()]
            vectors = np.asarray(encoder.encode(texts, progress=progress), dtype=np.float32)
        ids = tuple(catalog.items)
        return cls(
            **_data_of(catalog),
            vectors=vectors,
            insights=with_gaps(insights, modalities, ids),
            encoder=encoder.name,
            modalities={given.name: given.encoder for given in modalities}
            or {"text": encoder.name},
            fusion=fusion,
            fused=fuse_items(fusion, modalities, ids) if fusion else None,
        )

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

        Only changed texts are embedded.

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
        check_inputs(catalog, encoder, modalities, weights, insights)
        if encoder is None:
            raise not_allowed("encoder", encoder, "an Encoder", "Give the one of the index.")
        given = {one.name: one.encoder for one in modalities} or {"text": encoder.name}
        if given != dict(self.modalities) or encoder.name != self.encoder:
            raise OptionError(
                f"The index holds vectors of {listed(self.modalities)}; given is {listed(given)}.",
                hint="Give the same modalities from the same encoders, or build the index again.",
            )
        if self.fusion and not modalities:
            raise OptionError(
                "The index holds a fusion.", hint="Give the modalities that it fuses."
            )
        ids = tuple(catalog.items)
        if modalities:
            vectors = join(modalities, weights)
        else:
            vectors = embed_changed(
                self.items, self.vectors, catalog.items, encoder, progress=progress
            )
        if insights is None:
            same = [name for name, item in catalog.items.items() if self.items.get(name) == item]
            insights = {name: self.insights[name] for name in same if name in self.insights}
        return replace(
            self,
            **_data_of(catalog),
            vectors=vectors,
            insights=with_gaps(insights, modalities, ids),
            fused=fuse_items(self.fusion, modalities, ids) if self.fusion else None,
        )

    def save(self, folder: str | Path) -> None:
        """Write the index to a folder, all of it or nothing; an index that is there is replaced.

        Raises:
            StorageError: The folder holds something else, or cannot be written.
            UnknownItemError: An interaction names an item that the index does not hold.
        """
        manifest = storage.Manifest(
            encoder=self.encoder,
            modalities=self.modalities,
            dimension=self.vectors.shape[1],
            fingerprint=self.fingerprint,
            folder=str(self.folder) if self.folder else None,
            media_root=str(self.media_root) if self.media_root else None,
            folder_mark=folder_mark(self.folder, self.media_root) if self.folder else "",
            weights=self.weights,
            gates=self.gates,
            neutral_rating=self.neutral_rating,
        )
        rows, users = self.interaction_columns.to_tables(self.interaction_rows)
        known = dict.fromkeys([*self.profiles, *self.friends])
        described = {u: (self.profiles.get(u, {}), self.friends.get(u, ())) for u in known}
        tables: dict[str, storage.Content] = {
            "vectors.npy": self.vectors,
            "items.arrow": to_table(self.items),
            "interactions.arrow": rows,
            "users.arrow": users,
            "profiles.json": storage.to_json(storage.USERS, described),
            "reviews.json": storage.to_json(storage.REVIEWS, tuple(self.reviews)),
            "insights.json": storage.to_json(storage.INSIGHTS, dict(self.insights)),
        }
        if self.fusion is not None and self.fused is not None:
            tables |= {"fusion.safetensors": self.fusion.to_bytes(), "fused.npy": self.fused}
        if len(self.items) > EXACT_UP_TO:
            tables |= Prepared(
                self.items,
                self.interactions,
                self.vectors,
                self.fused,
                self.neighbours,
                self.postings,
                self.content,
                self.sequence,
            ).to_tables()
        storage.save_folder(check_path("folder", folder), manifest, tables)

    @classmethod
    def open(
        cls, folder: str | Path, *, verify: bool = False, media_root: str | Path | None = None
    ) -> Index:
        """Open a saved index.

        Files up to 64 MiB are read and checked against the manifest. Larger ones are mapped into
        memory and their size is checked, with ``verify`` every byte too. ``media_root`` is another
        folder with pictures; the only one if another user or machine made the index.

        Raises:
            StorageError: There is no index, or the file that is named is missing or damaged.
        """
        opened = storage.open_folder(check_path("folder", folder), verify=verify)
        return cls(**read_parts(opened, media_root=media_root))

    def with_weights(self, key: str, weights: Mapping[str, float]) -> Index:
        """Return an index that also holds learned weights under ``key``; save it to keep them.

        Raises:
            OptionError: A weight is not a finite number from 0 on.
        """
        check_kind("key", key, str, "text", "Give WEIGHTS_KEY.")
        check_weights(weights, weights)
        return replace(self, weights={**self.weights, key: dict(weights)})

    @cached_property
    def ids(self) -> Ids:
        """Item ids in row order, and the row of each."""
        return self.items.ids if isinstance(self.items, ItemTable) else Ids.of(self.items)

    @cached_property
    def item_ids(self) -> Sequence[str]:
        """Item ids in row order."""
        return self.ids if isinstance(self.items, ItemTable) else tuple(self.items)

    @cached_property
    def interaction_columns(self) -> Interactions:
        """The interactions as columns."""
        return Interactions.of(self.interactions)

    @cached_property
    def interaction_rows(self) -> np.ndarray:
        """The row of each interaction's item: int32 [n_interactions].

        Raises:
            UnknownItemError: The index does not hold one of them.
        """
        rows = self.interaction_columns.item_rows(self.ids)
        if rows.min(initial=0) < 0:
            self.row(self.interaction_columns[int(np.argmin(rows))].item_id)
        return storage.check_rows(rows, len(self.items), "interactions")

    @cached_property
    def popularity(self) -> np.ndarray:
        """Interactions per item: float64 [n_items], read-only."""
        counts = np.bincount(self.interaction_rows, minlength=len(self.items)).astype(np.float64)
        counts.setflags(write=False)
        return counts

    @cached_property
    def attribute_columns(self) -> AttributeColumns:
        """Attributes of the items, to filter by."""
        return AttributeColumns(self.items)

    @cached_property
    def neighbours(self) -> Neighbours:
        """The items that are met together with each item."""
        done = self.prepared
        if done and done.items is self.items and done.interactions is self.interactions:
            return done.neighbours
        order, _ = self.interaction_columns.by_user
        table = neighbours(
            self.interaction_rows[order], self.interaction_columns.users[order], len(self.items)
        )
        likeness = table.data.astype(np.float32) if len(self.items) > EXACT_UP_TO else table.data
        return table.indptr, table.indices, likeness

    @cached_property
    def postings(self) -> Postings:
        """The words of the items' texts."""
        if self.prepared and self.prepared.items is self.items:
            return self.prepared.postings
        return Postings.of(item_text(item) for item in self.items.values())

    @cached_property
    def content(self) -> VectorSearch:
        """Search in ``vectors``, as seen from their mean."""
        if self.prepared and self.prepared.vectors is self.vectors:
            return self.prepared.content
        return VectorSearch(self.vectors, centred=True)

    @cached_property
    def sequence(self) -> VectorSearch | None:
        """Search in ``fused``."""
        if self.prepared and self.prepared.fused is self.fused:
            return self.prepared.sequence
        return None if self.fused is None else VectorSearch(self.fused, centred=False)

    def row(self, item_id: str | int) -> int:
        """Return an item's row in ``vectors``.

        Raises:
            DataError: The value is no id.
            UnknownItemError: The index does not hold the item.
        """
        item_id, row = self._find(item_id)
        if row is None:
            raise UnknownItemError(
                f"The index holds no item {item_id!r}.",
                hint=nearest(item_id, self.ids[:_NAMED]) or "Check the id.",
            )
        return row

    def item(self, item_id: str | int) -> Item:
        """Return an item; raises the errors of :meth:`row`."""
        return self.items[self.item_ids[self.row(item_id)]]

    def reviews_of(self, item_id: str | int) -> tuple[Review, ...]:
        """Return an item's reviews in file order; none for an item without."""
        return self._reviews_by_item.get(self._find(item_id)[0], ())

    def met_by(self, item_id: str | int) -> frozenset[str]:
        """Return the ids of the users who met an item."""
        row = self._find(item_id)[1]
        if row is None:
            return frozenset()
        order, starts = self._by_item
        columns, rows = self.interaction_columns, order[starts[row] : starts[row + 1]]
        return frozenset(columns.user_ids.take(columns.users[rows]))

    def insight_of(self, item_id: str | int) -> Insight:
        """Return the insight of an item; an empty one if there is none."""
        return self.insights.get(self._find(item_id)[0], Insight())

    def taste_of(self, user: str | int | User) -> Taste:
        """Describe a user's taste relative to all items of the index."""
        return self._tastes.of(read_user(user, self.user, self.neutral_rating))

    @cached_property
    def user_ids(self) -> tuple[str, ...]:
        """All known users, sorted."""
        return tuple(sorted({*self.interaction_columns.user_ids, *self._described}))

    def user(self, user_id: str | int) -> User:
        """Return a user, the history oldest first.

        Raises:
            DataError: The value is no id.
            UnknownUserError: Nothing is known of the user.
        """
        user_id = read_id(user_id, where="user_id")
        history = self.interaction_columns.of_user(user_id)
        if not history and user_id not in self._described:
            raise UnknownUserError(
                f"There is no user {user_id!r} among {len(self.user_ids):,} users.",
                hint=nearest(user_id, self.user_ids[:_NAMED]) or NEW_USER,
            )
        known = self.profiles.get(user_id, MappingProxyType({})), self.friends.get(user_id, ())
        return User(user_id, history, *known, neutral_rating=self.neutral_rating)

    def _find(self, item_id: str | int) -> tuple[str, int | None]:
        row = self.ids.find(item_id) if isinstance(item_id, str) else None
        name = read_id(item_id, where="item_id") if row is None else self.item_ids[row]
        return name, self.ids.find(name) if row is None else row

    @cached_property
    def _described(self) -> frozenset[str]:
        """The users with a profile or friends."""
        friends = (friend for names in self.friends.values() for friend in names)
        return frozenset((*self.profiles, *self.friends, *friends))

    @cached_property
    def _by_item(self) -> tuple[np.ndarray, np.ndarray]:
        counts = np.bincount(self.interaction_rows, minlength=len(self.items))
        order = np.argsort(self.interaction_rows, kind="stable")
        return order, np.concatenate([[0], np.cumsum(counts)])

    @cached_property
    def _tastes(self) -> Tastes:
        return Tastes(self, self.insights)

    @cached_property
    def _reviews_by_item(self) -> dict[str, tuple[Review, ...]]:
        grouped: defaultdict[str, list[Review]] = defaultdict(list)
        for review in self.reviews:
            grouped[review.item_id].append(review)
        return {item_id: tuple(rows) for item_id, rows in grouped.items()}


def _data_of(catalog: Catalog) -> dict[str, Any]:
    """Return what an index takes from a catalogue as it is."""
    return {
        "items": catalog.items,
        "interactions": catalog.interactions,
        "reviews": catalog.reviews,
        "profiles": catalog.profiles,
        "friends": catalog.friends,
        "fingerprint": catalog.fingerprint,
        "folder": catalog.folder.absolute() if catalog.folder else None,
        "media_root": catalog.media_root.absolute() if catalog.media_root else None,
        "neutral_rating": catalog.neutral,
    }
