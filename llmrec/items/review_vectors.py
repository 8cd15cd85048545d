"""What reviewers say of an item, as one vector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from llmrec.content_cache import content_key
from llmrec.items.modality import ModalityVectors
from llmrec.items.passages import passages
from llmrec.items.text_encoder import TextEncoder
from llmrec.records import Review

_REVIEWS_AN_ITEM = 20


def embed_reviews(
    reviews: Sequence[Review],
    item_ids: Sequence[str],
    encoder: TextEncoder,
    *,
    progress: bool = False,
) -> ModalityVectors:
    """Embed items by their reviews: the mean of the reviews' vectors, at length 1.

    A long review is read at both ends (:func:`~llmrec.items.passages.passages`) and its
    vector is the mean of the two, so that every review weighs the same. Of an item with more than
    20 different texts 20 are read: those whose hashes are lowest, which is a random sample that
    depends neither on the order of the file nor on anything else in the data set.

    Args:
        reviews: Reviews of any items; those of other items are not read.
        item_ids: The rows of the result.
        encoder: Its cache keeps what is read.
        progress: Show a bar on stderr while computing, where that is a terminal.

    Returns:
        The modality ``reviews``: float32 [n_items, d]. An item without a readable review is
        absent, which is no gap.

    Raises:
        ModelError, OutOfMemoryError, StorageError: As :meth:`TextEncoder.encode_counted`.
    """
    read = _sample(reviews, frozenset(item_ids))
    texts = list(dict.fromkeys(part for parts in read.values() for ps in parts for part in ps))
    rows = {text: row for row, text in enumerate(texts)}
    known = encoder.encode(texts, progress=progress)
    vectors = np.zeros((len(item_ids), known.shape[1]), dtype=np.float32)
    for row, item_id in enumerate(item_ids):
        if item_id in read:
            each = [_unit(known[[rows[p] for p in ps]].mean(axis=0)) for ps in read[item_id]]
            vectors[row] = _unit(np.mean(each, axis=0))
    return ModalityVectors("reviews", encoder.name, vectors, np.any(vectors != 0, axis=1))


def _sample(
    reviews: Sequence[Review], item_ids: frozenset[str]
) -> Mapping[str, list[tuple[str, ...]]]:
    """Choose the reviews that are read, as passages by item."""
    texts: dict[str, dict[str, str]] = {}
    for review in reviews:
        if review.item_id in item_ids:
            texts.setdefault(review.item_id, {})[content_key(review.text)] = review.text
    chosen = {
        item_id: [passages(by_key[key]) for key in sorted(by_key)[:_REVIEWS_AN_ITEM]]
        for item_id, by_key in texts.items()
    }
    read = {item_id: [parts for parts in each if parts] for item_id, each in chosen.items()}
    return {item_id: each for item_id, each in read.items() if each}


def _unit(vector: np.ndarray) -> np.ndarray:
    unit: np.ndarray = vector / max(float(np.linalg.norm(vector)), np.finfo(np.float32).tiny)
    return unit
