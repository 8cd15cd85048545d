"""Reviews as an encoder reads them: sentences, passages, and one vector per item."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import accumulate
from textwrap import wrap

import numpy as np

from llmrec.content_cache import content_key
from llmrec.items.modality import ModalityVectors, unit
from llmrec.items.text_encoder import Encoder
from llmrec.records import LONGEST_READ, Review

_LONGEST = 1_000
_REVIEWS_AN_ITEM = 20
_MARKUP = re.compile(r"<[a-zA-Z/][^<>]{0,80}>")
# Each run of marks or spaces is looked at once, from its beginning: linear in any text.
_END = re.compile(
    r"(?:(?<![.!?…؟।])[.!?…؟।]++[\"'”’»)\]]*+(?=\s)|[。！？]+[”’」』》）]*|(?<!\s)\s*\n)"
)
_ABBREVIATION = re.compile(
    r"(?:\b(?:[^\W\d_]|Mr|Mrs|Ms|Dr|St|Jr|Sr|Prof|vs|Vol|etc|e\.g|i\.e)\.)\Z"
)


def sentences(text: str) -> list[str]:
    """Cut a review into sentences, without markup, each on one line.

    Reviewers forget capitals and full stops, so a small letter may begin a sentence and a line
    break ends one. An abbreviation or an initial ends none. Of a text longer than ``LONGEST_READ``
    only the opening and the ending are read.

    >>> sentences("Dr. No is great!! loved it<br />Not the end")
    ['Dr. No is great!!', 'loved it', 'Not the end']
    """
    if len(text) > LONGEST_READ:
        text = f"{text[: LONGEST_READ // 2]}\n{text[-LONGEST_READ // 2 :]}"
    plain = _MARKUP.sub("\n", text)
    pieces, start = [], 0
    for match in _END.finditer(plain):
        if not _ABBREVIATION.search(plain[max(start, match.end() - 8) : match.end()]):
            pieces.append(plain[start : match.end()])
            start = match.end()
    pieces.append(plain[start:])
    whole = (" ".join(piece.split()) for piece in pieces)
    return [piece for piece in whole if piece]


def passages(text: str) -> tuple[str, ...]:
    """Cut a review into what an encoder is to read of it: the whole, or its opening and its ending.

    An encoder cuts at some 256 tokens, in the middle of most long reviews, and the verdict often
    stands at the end. So a review of more than 1,000 bytes is read as two passages of whole
    sentences: its halves, and where they are longer, 1,000 bytes from either end; what lies between
    is left out. Bytes, as a Chinese character has three and is about a token, a Latin letter has
    one and is a quarter of a token.

    Returns:
        One or two passages, the opening first; an empty tuple for an empty text.
    """
    pieces = [part for sentence in sentences(text) for part in _split(sentence)]
    size = sum(map(_size, pieces))
    if size <= _LONGEST:
        return (" ".join(pieces),) if pieces else ()
    # Halves where they fit: an ending of three words would weigh as much as all before it.
    opening = _fitting(pieces, min(_LONGEST, size // 2))
    ending = _fitting(pieces[: len(opening) - 1 : -1], _LONGEST)
    return " ".join(opening), " ".join(reversed(ending))


def _fitting(pieces: list[str], most: int) -> list[str]:
    sizes = accumulate(map(_size, pieces))
    return [piece for piece, size in zip(pieces, sizes, strict=True) if size <= most] or pieces[:1]


def _split(sentence: str) -> list[str]:
    """Cut a sentence that does not fit by itself (a review without any full stop)."""
    return [sentence] if _size(sentence) <= _LONGEST else wrap(sentence, _LONGEST // 4)


def _size(piece: str) -> int:
    return len(piece.encode(errors="replace")) + 1


def passage_vectors(
    texts: Sequence[str], encoder: Encoder, *, progress: bool = False
) -> list[np.ndarray]:
    """Embed the :func:`passages` of texts, each distinct one once: float32 [passages, d] a text."""
    parts = [passages(text) for text in texts]
    distinct = list(dict.fromkeys(part for each in parts for part in each))
    rows = {part: row for row, part in enumerate(distinct)}
    vectors = encoder.encode(distinct, progress=progress)
    return [vectors[[rows[part] for part in each]] for each in parts]


def embed_reviews(
    reviews: Sequence[Review],
    item_ids: Sequence[str],
    encoder: Encoder,
    *,
    progress: bool = False,
) -> ModalityVectors:
    """Embed items by their reviews: the mean of the reviews' vectors, at length 1.

    A long review is read at both ends (:func:`~llmrec.items.reviews.passages`) and its
    vector is the mean of the two, so that every review weighs the same. Of an item with more than
    20 different texts 20 are read: those whose hashes are lowest, which is a random sample that
    depends neither on the order of the file nor on anything else in the data set.

    Args:
        reviews: Reviews of any items; those of other items are not read.
        item_ids: The rows of the result.
        encoder: The encoder; its cache stores the vectors.
        progress: Show a progress bar on stderr while computing if it is a terminal.

    Returns:
        The modality ``reviews``: float32 [n_items, d]. An item without a readable review is
        absent, which is no gap.

    Raises:
        ModelError, OutOfMemoryError, StorageError: As :meth:`TextEncoder.encode`.
    """
    texts: dict[str, dict[str, str]] = {item_id: {} for item_id in item_ids}
    for review in reviews:
        if review.item_id in texts:
            texts[review.item_id][content_key(review.text)] = review.text
    read = [[by[key] for key in sorted(by)[:_REVIEWS_AN_ITEM]] for by in texts.values()]
    found = passage_vectors([text for each in read for text in each], encoder, progress=progress)
    width = (found or [encoder.encode([])])[0].shape[1]
    vectors = np.zeros((len(item_ids), width), dtype=np.float32)
    parts = iter(found)
    for row, each in enumerate(read):
        means = [unit(part.mean(axis=0)) for _ in each if len(part := next(parts))]
        if means:
            vectors[row] = unit(np.mean(means, axis=0))
    return ModalityVectors("reviews", encoder.name, vectors, np.any(vectors != 0, axis=1))
