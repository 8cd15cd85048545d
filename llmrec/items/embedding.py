"""The vectors of a catalogue's items in every modality that its data has."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np

from llmrec.catalog import Catalog
from llmrec.errors import ModelNotFoundError
from llmrec.items.modality import ModalityVectors
from llmrec.items.review_vectors import embed_reviews
from llmrec.items.text_encoder import TextEncoder, item_text
from llmrec.items.understanding import check_parts
from llmrec.models import DEFAULT_IMAGE_ENCODER, DEFAULT_SOUND_ENCODER

logger = logging.getLogger(__name__)


def modalities_of(
    catalog: Catalog,
    encoder: TextEncoder,
    *,
    without: Collection[str] = (),
    image_encoder: str = DEFAULT_IMAGE_ENCODER,
    sound_encoder: str = DEFAULT_SOUND_ENCODER,
    progress: bool = False,
) -> tuple[ModalityVectors, ...]:
    """Embed items in the modalities that the data has: text first, then what else there is.

    Args:
        catalog: Its items are the rows. Pictures, clips and sounds are read from its folder.
        encoder: Of texts and reviews.
        without: Modalities to leave out: ``reviews``, ``image``, ``clip``, ``audio``.
        image_encoder: Of pictures and of the key frames of clips.
        sound_encoder: Of sounds. Where the default one cannot be had, sounds are left out, and a
            warning says so.
        progress: Show bars on stderr while computing, where that is a terminal.

    Returns:
        Those that any item has; text always.

    Raises:
        OptionError: ``without`` names something else.
        ModelError: A model cannot be had, loaded or run.
        StorageError: The cache file cannot be read or written.
    """
    check_parts(without)
    found = [_texts(catalog, encoder, progress=progress)]
    if catalog.reviews and "reviews" not in without:
        ids = list(catalog.items)
        found.append(embed_reviews(catalog.reviews, ids, encoder, progress=progress))
    found += _seen(catalog, image_encoder, without, progress=progress)
    found += _heard(catalog, sound_encoder, without, progress=progress)
    return (found[0], *(given for given in found[1:] if given.present.any()))


def _texts(catalog: Catalog, encoder: TextEncoder, *, progress: bool) -> ModalityVectors:
    texts = [item_text(item) for item in catalog.items.values()]
    vectors = encoder.encode(texts, progress=progress)
    present = np.array([bool(text.strip()) for text in texts], dtype=bool)
    rows = np.where(present[:, None], vectors, 0).astype(np.float32)
    return ModalityVectors("text", encoder.name, rows, present)


def _seen(
    catalog: Catalog, ref: str, without: Collection[str], *, progress: bool
) -> Iterator[ModalityVectors]:
    pictures = _paths(catalog, "image") if "image" not in without else []
    clips = _paths(catalog, "video") if "clip" not in without else []
    if not any(pictures) and not any(clips):
        return
    # They load an image model, which data without pictures does not need.
    from llmrec.items.clip_vectors import embed_clips  # noqa: PLC0415
    from llmrec.items.picture_encoders import PictureEncoder, embed_pictures  # noqa: PLC0415

    encoder = PictureEncoder.from_pretrained(ref, progress=progress)
    if any(pictures):
        yield embed_pictures(encoder, pictures, progress=progress)
    if any(clips):
        yield embed_clips(encoder, clips, progress=progress)


def _heard(
    catalog: Catalog, ref: str, without: Collection[str], *, progress: bool
) -> Iterator[ModalityVectors]:
    sounds = _paths(catalog, "audio") if "audio" not in without else []
    if not any(sounds):
        return
    from llmrec.items.sound_encoder import SoundEncoder, embed_sounds  # noqa: PLC0415

    try:
        encoder = SoundEncoder.from_pretrained(ref, progress=progress)
    except ModelNotFoundError as error:
        if ref != DEFAULT_SOUND_ENCODER:
            raise
        logger.warning("%d sounds are left out: %s", sum(map(bool, sounds)), error.message)
        return
    yield embed_sounds(encoder, sounds, progress=progress)


def _paths(catalog: Catalog, field: str) -> list[Path | None]:
    """The file of each item; None where it has none, or the data came without a folder."""
    if catalog.folder is None:
        return []
    names: list[str | None] = [getattr(item, field) for item in catalog.items.values()]
    return [catalog.folder / name if name else None for name in names]
