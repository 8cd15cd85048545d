"""All that is understood of a catalog's items, and their vectors in every modality."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator

import numpy as np

from llmrec.catalog import Catalog
from llmrec.catalog.media_files import MediaPath, media_paths
from llmrec.content_cache import ContentCache
from llmrec.errors import ModelNotFoundError, OptionError, nearest
from llmrec.items.captions import Captions, caption_pictures, given_captions, load_captioner
from llmrec.items.clips import caption_clips, embed_clips
from llmrec.items.facts import item_facts
from llmrec.items.modality import ModalityVectors
from llmrec.items.opinions import understand_reviews
from llmrec.items.pictures import PictureEncoder, embed_pictures
from llmrec.items.reviews import embed_reviews
from llmrec.items.sentiment import DEFAULT_SENTIMENT_MODEL, why_not_fitted
from llmrec.items.sounds import SoundEncoder, embed_sounds
from llmrec.items.text_encoder import Encoder, item_text
from llmrec.models import (
    DEFAULT_IMAGE_ENCODER,
    DEFAULT_SOUND_ENCODER,
    OFFLINE_IMAGE_MODEL,
    cache_folder,
)
from llmrec.records import Insight, Opinion

logger = logging.getLogger(__name__)

PARTS = ("reviews", "image", "clip", "audio")
"""Parts of an item besides its text, as ``without`` names them."""


def understand_items(
    catalog: Catalog,
    encoder: Encoder,
    *,
    without: Collection[str] = (),
    captioner: str = OFFLINE_IMAGE_MODEL,
    sentiment: str | None = None,
    cache: ContentCache | None = None,
    progress: bool = False,
) -> dict[str, Insight]:
    """Compute the insights of every item; unchanged items come from the cache.

    A caption that the data set brings (the attribute ``caption``) is taken as it is, with or
    without a picture. The captioner is loaded if other pictures or any clips are left.

    Args:
        catalog: Training rows only, where something is held out: reviews are learned from.
        encoder: Embeds reviews, where sentiment is learned from ratings.
        without: Names of ``PARTS`` that are left out.
        captioner: What says what pictures and clips show: a model of transformers'
            ``image-text-to-text`` by hub id or folder, or ``efficientnet-lite0``, which names
            classes with their probabilities and takes milliseconds a picture on a CPU.
        sentiment: A text-classification model, or ``"zero_shot"`` for the text encoder alone. None
            learns from the data set's rated reviews, and takes ``DEFAULT_SENTIMENT_MODEL`` where
            there are too few.
        cache: None takes ``insights.sqlite3`` in llmrec's cache folder.
        progress: Show a progress bar on stderr while computing if it is a terminal.

    Returns:
        Insights by item id; an item of which nothing was understood is left out.

    Raises:
        OptionError: ``without`` names something else.
        ModelError: A model cannot be found, loaded or run.
        StorageError: The cache cannot be used.
    """
    check_parts(without)
    cache = cache or ContentCache(cache_folder() / "insights.sqlite3")
    items = list(catalog.items.values())
    folder = catalog.folder
    seen = items if "image" not in without else []
    shown = [item for item in items if item.video and "clip" not in without]
    pictures, clips = Captions(given_captions(seen), {}), Captions({}, {})
    unread = [item for item in seen if item.image and item.item_id not in pictures.by_item]
    if folder and (unread or shown):
        reader = load_captioner(captioner, progress=progress)
        root = catalog.media_root
        pictures = caption_pictures(
            reader, seen, folder, media_root=root, cache=cache, progress=progress
        )
        clips = caption_clips(
            reader, shown, folder, media_root=root, cache=cache, progress=progress
        )
    opinions: dict[str, Opinion] = {}
    silent: dict[str, str] = {}
    if catalog.reviews and "reviews" not in without:
        too_few = sentiment is None and why_not_fitted(catalog.reviews) is not None
        opinions, silent = understand_reviews(
            catalog.reviews,
            catalog.items,
            encoder,
            model=DEFAULT_SENTIMENT_MODEL if too_few else sentiment,
            cache=cache,
            progress=progress,
        )
    facts = item_facts(catalog.facts, catalog.items)
    insights = {}
    for item in items:
        name = item.item_id
        reasons = (("image", pictures.gaps), ("clip", clips.gaps), ("reviews", silent))
        gaps = {part: found[name] for part, found in reasons if name in found}
        insight = Insight(
            pictures.by_item.get(name),
            clips.by_item.get(name),
            opinions.get(name),
            facts.get(name, ()),
            gaps,
        )
        if insight != Insight():
            insights[name] = insight
    return insights


def check_parts(without: Collection[str]) -> None:
    """Refuse a name that is none of ``PARTS`` (OptionError)."""
    for name in without:
        if name not in PARTS:
            raise OptionError(
                f"{name!r} cannot be left out; there are {', '.join(PARTS)}.",
                hint=nearest(name, PARTS),
            )


def modalities_of(
    catalog: Catalog,
    encoder: Encoder,
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
        sound_encoder: Of sounds. If the default one is not available, sounds are left out, and a
            warning says so.
        progress: Show a progress bar on stderr while computing if it is a terminal.

    Returns:
        Those that any item has; text always.

    Raises:
        OptionError: ``without`` names something else.
        ModelError: A model cannot be found, loaded or run.
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


def _texts(catalog: Catalog, encoder: Encoder, *, progress: bool) -> ModalityVectors:
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
    try:
        encoder = SoundEncoder.from_pretrained(ref, progress=progress)
    except ModelNotFoundError as error:
        if ref != DEFAULT_SOUND_ENCODER:
            raise
        logger.warning("%d sounds are left out: %s", sum(map(bool, sounds)), error.message)
        return
    yield embed_sounds(encoder, sounds, progress=progress)


def _paths(catalog: Catalog, field: str) -> list[MediaPath]:
    """The file of each item; None where it has none, or the data came without a folder."""
    if catalog.folder is None:
        return []
    names: list[str | None] = [getattr(item, field) for item in catalog.items.values()]
    return media_paths(catalog.folder, names, root=catalog.media_root)
