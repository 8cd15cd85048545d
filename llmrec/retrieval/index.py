"""The index: a catalogue's vectors with all that a prompt needs, opened again without the data."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType

import numpy as np

from llmrec.catalog import Catalog
from llmrec.errors import DataError, OptionError, UnknownItemError, nearest
from llmrec.items import (
    MODALITY_WEIGHTS,
    Encoder,
    ModalityVectors,
    Taste,
    Tastes,
    TextEncoder,
    concatenate,
    item_text,
    modalities_of,
    understand_items,
)
from llmrec.items.fusion import Fusion
from llmrec.records import AttributeValue, Insight, Interaction, Item, Review, User
from llmrec.retrieval import storage

logger = logging.getLogger(__name__)


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
    vectors: np.ndarray
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
            insights: What was understood of items, as from ``understand_items``. None runs it;
                ``{}`` leaves it out.
            fusion: A trained fusion, for vectors that know who met what.
            progress: Show a bar on stderr while embedding.

        Raises:
            DataError: The catalogue has no items, or the encoder's values are not finite.
            ModelError: A model cannot be loaded, or the fusion was trained with other encoders.
            OptionError: A fusion is given with ``modalities=()``.
        """
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
            vectors = _joint(modalities, weights)
        else:
            texts = [item_text(item) for item in catalog.items.values()]
            vectors = np.array(encoder.encode(texts, progress=progress), dtype=np.float32)
        ids = tuple(catalog.items)
        return cls(
            items=catalog.items,
            vectors=vectors,
            interactions=catalog.interactions,
            reviews=catalog.reviews,
            profiles=catalog.profiles,
            friends=catalog.friends,
            insights=_with_gaps(insights, modalities, ids),
            encoder=encoder.name,
            modalities={given.name: given.encoder for given in modalities}
            or {"text": encoder.name},
            fusion=fusion,
            fused=_fused(fusion, modalities, ids) if fusion else None,
            fingerprint=catalog.fingerprint,
            folder=catalog.folder.absolute() if catalog.folder else None,
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
        given = {one.name: one.encoder for one in modalities} or {"text": encoder.name}
        if given != dict(self.modalities) or encoder.name != self.encoder:
            raise OptionError(
                f"The index holds vectors of {_listed(self.modalities)}; "
                f"given is {_listed(given)}.",
                hint="Give the same modalities from the same encoders, or build the index again.",
            )
        if self.fusion and not modalities:
            raise OptionError(
                "The index holds a fusion.", hint="Give the modalities that it fuses."
            )
        ids = tuple(catalog.items)
        if modalities:
            vectors = _joint(modalities, weights)
        else:
            vectors = self._embedded_again(catalog.items, encoder, progress=progress)
        if insights is None:
            same = [name for name, item in catalog.items.items() if self.items.get(name) == item]
            insights = {name: self.insights[name] for name in same if name in self.insights}
        return replace(
            self,
            items=catalog.items,
            vectors=vectors,
            interactions=catalog.interactions,
            reviews=catalog.reviews,
            profiles=catalog.profiles,
            friends=catalog.friends,
            insights=_with_gaps(insights, modalities, ids),
            fused=_fused(self.fusion, modalities, ids) if self.fusion else None,
            fingerprint=catalog.fingerprint,
            folder=catalog.folder.absolute() if catalog.folder else None,
        )

    def _embedded_again(
        self, items: Mapping[str, Item], encoder: Encoder, *, progress: bool
    ) -> np.ndarray:
        """Return the vectors of items: of unchanged texts those of the index."""
        vectors = np.empty((len(items), self.vectors.shape[1]), dtype=np.float32)
        changed: list[int] = []
        texts: list[str] = []
        for row, (item_id, item) in enumerate(items.items()):
            old, text = self.items.get(item_id), item_text(item)
            if old is not None and item_text(old) == text:
                vectors[row] = self.vectors[self.row(item_id)]
            else:
                changed.append(row)
                texts.append(text)
        if changed:
            vectors[changed] = encoder.encode(texts, progress=progress)
        gone = len(self.items.keys() - items.keys())
        logger.info(
            "%d of %d items are new or changed; %d are gone.", len(changed), len(items), gone
        )
        return vectors

    def save(self, folder: str | Path) -> None:
        """Write the index to a folder, all of it or nothing; an index that is there is replaced.

        Raises:
            StorageError: The folder holds something else, or cannot be written.
        """
        manifest = storage.Manifest(
            encoder=self.encoder,
            modalities=self.modalities,
            dimension=self.vectors.shape[1],
            fingerprint=self.fingerprint,
            folder=str(self.folder) if self.folder else None,
            weights=self.weights,
        )
        tables: dict[str, storage.Content] = {
            "vectors.npy": self.vectors,
            "items.json": storage.to_json(storage.ITEMS, tuple(self.items.values())),
            "interactions.parquet": storage.interactions_to_bytes(self.interactions),
            "reviews.json": storage.to_json(storage.REVIEWS, self.reviews),
            "users.json": storage.to_json(
                storage.USERS, storage.Users(self.profiles, self.friends)
            ),
            "insights.json": storage.to_json(storage.INSIGHTS, dict(self.insights)),
        }
        if self.fusion is not None and self.fused is not None:
            tables |= {"fusion.safetensors": self.fusion.to_bytes(), "fused.npy": self.fused}
        storage.save_folder(Path(folder), manifest, tables)

    @classmethod
    def open(cls, folder: str | Path, *, verify: bool = False) -> Index:
        """Open a saved index.

        Files up to 64 MiB are checked against the manifest byte by byte. Larger ones are mapped
        into memory and their size is checked, with ``verify`` every byte too.

        Raises:
            StorageError: There is no index, or a file is missing, damaged, of another index or of
                another format; the file is named.
        """
        opened = storage.open_folder(Path(folder), verify=verify)
        manifest, tables = opened.manifest, opened.tables
        users = storage.USERS.validate_json(tables["users.json"].tobytes())
        items = storage.ITEMS.validate_json(tables["items.json"].tobytes())
        fusion = fused = None
        if "fusion.safetensors" in tables:
            fusion = Fusion.from_bytes(
                tables["fusion.safetensors"].tobytes(), opened.paths["fusion.safetensors"]
            )
            fused = storage.array_of(opened, "fused.npy")
        return cls(
            items={item.item_id: item for item in items},
            vectors=storage.array_of(opened, "vectors.npy"),
            interactions=storage.interactions_from_bytes(tables["interactions.parquet"]),
            reviews=storage.REVIEWS.validate_json(tables["reviews.json"].tobytes()),
            profiles=users.profiles,
            friends=users.friends,
            insights=storage.INSIGHTS.validate_json(tables["insights.json"].tobytes()),
            encoder=manifest.encoder,
            modalities=manifest.modalities,
            fusion=fusion,
            fused=fused,
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


def _joint(modalities: Sequence[ModalityVectors], weights: Mapping[str, float]) -> np.ndarray:
    """Put modalities side by side; one without a weight weighs 1."""
    named = {given.name: weights.get(given.name, 1.0) for given in modalities}
    return concatenate(modalities, named).vectors


def _fused(
    fusion: Fusion, modalities: Sequence[ModalityVectors], item_ids: Sequence[str]
) -> np.ndarray:
    """Fuse what the fusion was trained with, and say what it was not."""
    known = [given for given in modalities if given.name in fusion.modalities]
    if len(known) < len(modalities):
        ignored = ", ".join(given.name for given in modalities if given not in known)
        logger.warning("%s was not trained with %s: not fused.", fusion.name, ignored)
    here = len(set(fusion.item_ids) & set(item_ids))
    if 2 * here < len(fusion.item_ids):
        logger.warning(
            "Of the %d items that %s was trained on %d are here: was it trained on other data? An "
            "item that shares its id with one of them is taken for it.",
            len(fusion.item_ids),
            fusion.name,
            here,
        )
    return fusion.item_vectors(known, item_ids)


def _listed(modalities: Mapping[str, str]) -> str:
    return ", ".join(f"{name} ({encoder})" for name, encoder in modalities.items())


def _with_gaps(
    insights: Mapping[str, Insight], modalities: Sequence[ModalityVectors], item_ids: Sequence[str]
) -> Mapping[str, Insight]:
    """Note with each item also which of its files could not be embedded."""
    noted = dict(insights)
    for given in modalities:
        for row, reason in given.gaps.items():
            insight = noted.get(item_ids[row], Insight())
            gaps = {given.name: reason, **insight.gaps}
            noted[item_ids[row]] = replace(insight, gaps=gaps)
    return noted
