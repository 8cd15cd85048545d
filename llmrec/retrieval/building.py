"""An index from a catalogue, and from a changed one: only what changed is embedded again."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from llmrec.catalog import Catalog
from llmrec.errors import OptionError
from llmrec.items import ModalityVectors, concatenate, item_text
from llmrec.items.fusion import Fusion
from llmrec.records import Insight
from llmrec.retrieval.encoder import Encoder
from llmrec.retrieval.index import Index
from llmrec.retrieval.vectors import EXACT_BELOW, VectorStore

logger = logging.getLogger(__name__)


def build_index(
    catalog: Catalog,
    encoder: Encoder,
    *,
    modalities: Sequence[ModalityVectors],
    weights: Mapping[str, float],
    insights: Mapping[str, Insight],
    fusion: Fusion | None,
    progress: bool,
) -> Index:
    """Embed a catalogue's items; see :meth:`Index.build`."""
    if fusion and not modalities:
        raise OptionError(
            f"{fusion.name} fuses {', '.join(fusion.modalities)}, and no modalities are given.",
            hint="Give modalities=modalities_of(catalog, encoder).",
        )
    if modalities:
        vectors = _joint(modalities, weights)
    else:
        texts = [item_text(item) for item in catalog.items.values()]
        vectors = np.array(encoder.encode(texts, progress=progress), dtype=np.float32)
    large = len(vectors) > EXACT_BELOW  # sorted into lists now, not at the first search
    store = VectorStore.of(catalog.items, vectors).prepare(progress=progress) if large else None
    return Index(
        items=catalog.items,
        vectors=vectors if store is None else store,
        interactions=catalog.interactions,
        reviews=catalog.reviews,
        profiles=catalog.profiles,
        friends=catalog.friends,
        insights=_with_gaps(insights, modalities, tuple(catalog.items)),
        encoder=encoder.name,
        modalities={given.name: given.encoder for given in modalities} or {"text": encoder.name},
        fusion=fusion,
        fused=_fused(fusion, modalities, tuple(catalog.items)) if fusion else None,
        fingerprint=catalog.fingerprint,
        folder=catalog.folder.absolute() if catalog.folder else None,
    )


def updated_index(
    index: Index,
    catalog: Catalog,
    encoder: Encoder,
    *,
    modalities: Sequence[ModalityVectors],
    weights: Mapping[str, float],
    insights: Mapping[str, Insight] | None,
    progress: bool,
) -> Index:
    """Return an index of other data; see :meth:`Index.updated`."""
    named = {given.name: given.encoder for given in modalities} or {"text": encoder.name}
    if named != dict(index.modalities) or encoder.name != index.encoder:
        raise OptionError(
            f"The index holds vectors of {_listed(index.modalities)}; given is {_listed(named)}.",
            hint="Give the same modalities from the same encoders, or build the index again.",
        )
    if index.fusion and not modalities:
        raise OptionError("The index holds a fusion.", hint="Give the modalities that it fuses.")
    ids = tuple(catalog.items)
    if modalities:
        rows = _joint(modalities, weights)
        changed = _changed_rows(index, ids, rows)
        vectors = rows[changed]
    else:
        texts = [item_text(item) for item in catalog.items.values()]
        old = {name: item_text(index.items[name]) for name in ids if name in index.items}
        changed = [row for row, name in enumerate(ids) if old.get(name) != texts[row]]
        vectors = np.empty((0, index.store.dimension), dtype=np.float32)
        if changed:
            new = encoder.encode([texts[row] for row in changed], progress=progress)
            vectors = np.array(new, dtype=np.float32)
    logger.info(
        "Of %d items %d are new or changed; %d are gone.",
        len(ids),
        len(changed),
        len(index.items.keys() - catalog.items.keys()),
    )
    store = index.store.put([ids[row] for row in changed], vectors).take(ids)
    if insights is None:
        same = [name for name, item in catalog.items.items() if index.items.get(name) == item]
        insights = {name: index.insights[name] for name in same if name in index.insights}
    return replace(
        index,
        items=catalog.items,
        vectors=store.prepare(progress=progress),
        interactions=catalog.interactions,
        reviews=catalog.reviews,
        profiles=catalog.profiles,
        friends=catalog.friends,
        insights=_with_gaps(insights, modalities, ids),
        fused=_fused(index.fusion, modalities, ids) if index.fusion else None,
        fingerprint=catalog.fingerprint,
        folder=catalog.folder.absolute() if catalog.folder else None,
    )


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


def _changed_rows(index: Index, ids: Sequence[str], rows: np.ndarray) -> list[int]:
    """Return the rows of items that the index has not, or has with another vector."""
    if rows.shape[1] != index.store.dimension:
        return list(range(len(ids)))
    known = [row for row, name in enumerate(ids) if name in index.items]
    old = index.store[np.array([index.row(ids[row]) for row in known], dtype=np.int64)]
    same = np.zeros(len(ids), dtype=bool)
    same[known] = (old == rows[known]).all(axis=1)
    return np.flatnonzero(~same).tolist()


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
