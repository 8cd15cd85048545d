"""The vectors of a catalogue's items, and those of a changed catalogue: only what changed."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import NoneType

import numpy as np

from llmrec.catalog import Catalog
from llmrec.errors import check_kind, not_allowed
from llmrec.items import Encoder, ModalityVectors, concatenate, item_text
from llmrec.items.fusion import Fusion
from llmrec.records import Insight, Item

logger = logging.getLogger(__name__)


def embed_changed(
    old_items: Mapping[str, Item],
    old_vectors: np.ndarray,
    items: Mapping[str, Item],
    encoder: Encoder,
    *,
    progress: bool,
) -> np.ndarray:
    """Return the vectors of items; those whose text is known from before are not embedded."""
    rows = {item_id: row for row, item_id in enumerate(old_items)}
    vectors = np.empty((len(items), old_vectors.shape[1]), dtype=np.float32)
    changed: list[int] = []
    texts: list[str] = []
    for row, (item_id, item) in enumerate(items.items()):
        old, text = old_items.get(item_id), item_text(item)
        if old is not None and item_text(old) == text:
            vectors[row] = old_vectors[rows[item_id]]
        else:
            changed.append(row)
            texts.append(text)
    if changed:
        vectors[changed] = encoder.encode(texts, progress=progress)
    gone = len(old_items.keys() - items.keys())
    logger.info("%d of %d items are new or changed; %d are gone.", len(changed), len(items), gone)
    return vectors


def join(modalities: Sequence[ModalityVectors], weights: Mapping[str, float]) -> np.ndarray:
    """Put modalities side by side; one without a weight weighs 1."""
    named = {given.name: weights.get(given.name, 1.0) for given in modalities}
    return concatenate(modalities, named).vectors


def fuse_items(
    fusion: Fusion, modalities: Sequence[ModalityVectors], item_ids: Sequence[str]
) -> np.ndarray:
    """Fuse the modalities that the fusion was trained with; log the others."""
    known = [given for given in modalities if given.name in fusion.modalities]
    if len(known) < len(modalities):
        ignored = ", ".join(given.name for given in modalities if given not in known)
        logger.warning("%s was not trained with %s: not fused.", fusion.name, ignored)
    here = len(set(fusion.item_ids) & set(item_ids))
    if 2 * here < len(fusion.item_ids):
        logger.warning(
            "Of the %d items that %s was trained on, %d are in this catalogue. Check the training "
            "data: items are matched by id.",
            len(fusion.item_ids),
            fusion.name,
            here,
        )
    return fusion.item_vectors(known, item_ids)


def listed(modalities: Mapping[str, str]) -> str:
    """Name modalities and their encoders in an error."""
    return ", ".join(f"{name} ({encoder})" for name, encoder in modalities.items())


def with_gaps(
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


def check_inputs(
    catalog: Catalog, encoder: object, modalities: object, weights: object, insights: object
) -> None:
    """Refuse what is no catalogue, encoder, modalities, weights or insights (OptionError)."""
    hint = "Give Catalog.from_folder(DATA)."
    check_kind("catalog", catalog, Catalog, "a Catalog", hint)
    if encoder is not None and not hasattr(encoder, "encode"):
        hint = "Give TextEncoder.from_pretrained(...)."
        raise not_allowed("encoder", encoder, "an Encoder", hint)
    hint = "Give what llmrec.items.modalities_of returns."
    check_kind("modalities", modalities, (tuple, list, NoneType), "ModalityVectors", hint)
    check_kind("weights", weights, Mapping, "a mapping of modality to weight", "Leave it out.")
    hint = "Give what llmrec.items.understand_items returns."
    check_kind("insights", insights, (Mapping, NoneType), "a mapping of id to Insight", hint)
