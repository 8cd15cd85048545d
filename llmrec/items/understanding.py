"""All that is understood of a catalogue's items: captions, opinions, facts, and the gaps."""

from __future__ import annotations

import logging
from collections.abc import Collection

from llmrec.catalog import Catalog
from llmrec.content_cache import ContentCache
from llmrec.errors import OptionError, nearest
from llmrec.items.captions import Captions, PictureReader, caption_pictures
from llmrec.items.clips import caption_clips
from llmrec.items.facts import item_facts
from llmrec.items.opinions import understand_reviews
from llmrec.items.rated_sentiment import Encoder, why_not_fitted
from llmrec.items.sentiment import DEFAULT_SENTIMENT_MODEL
from llmrec.models import OFFLINE_IMAGE_MODEL, cache_folder
from llmrec.records import Insight, Opinion

logger = logging.getLogger(__name__)

PARTS = ("reviews", "image", "clip", "audio")
"""What an item may have beside its text: the names that ``without`` takes."""


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
    """Understand every item; what was understood before comes from the cache.

    Args:
        catalog: Training rows only, where something is held out: reviews are learned from.
        encoder: Embeds reviews, where sentiment is learned from ratings.
        without: Names of ``PARTS`` that are left out.
        captioner: What says what pictures and clips show: a model of transformers'
            ``image-text-to-text`` by hub id or folder, or ``efficientnet-lite0``, which names
            classes with their probabilities and takes milliseconds a picture on a CPU.
        sentiment: A text-classification model, or ``"lexicon"`` for the English word list. None
            learns from the data set's rated reviews, and takes ``DEFAULT_SENTIMENT_MODEL`` where
            there are too few.
        cache: None takes ``insights.sqlite3`` in llmrec's cache folder.
        progress: Show bars on stderr while computing, where that is a terminal.

    Returns:
        Insights by item id; an item of which nothing was understood is left out.

    Raises:
        OptionError: ``without`` names something else.
        ModelError: A model cannot be had, loaded or run.
        StorageError: The cache cannot be used.
    """
    check_parts(without)
    cache = cache or ContentCache(cache_folder() / "insights.sqlite3")
    items = list(catalog.items.values())
    folder = catalog.folder
    pictures, clips = Captions({}, {}), Captions({}, {})
    seen = [item for item in items if item.image and "image" not in without]
    shown = [item for item in items if item.video and "clip" not in without]
    if folder and (seen or shown):
        reader = _reader(captioner, progress=progress)
        pictures = caption_pictures(reader, seen, folder, cache=cache, progress=progress)
        clips = caption_clips(reader, shown, folder, cache=cache, progress=progress)
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


def _reader(ref: str, *, progress: bool) -> PictureReader:
    from llmrec.items.captioner import load_captioner  # noqa: PLC0415 (loads models)

    return load_captioner(ref, progress=progress)
