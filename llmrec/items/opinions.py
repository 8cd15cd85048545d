"""What reviewers say of each item, in what a prompt can hold."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from llmrec.content_cache import ContentCache, content_key
from llmrec.items.aspects import AspectNames, find_aspects, title_words
from llmrec.items.quotes import choose_quotes
from llmrec.items.rated_sentiment import spoken_well
from llmrec.items.readings import read_texts
from llmrec.items.sentiment import Sentiment, choose_sentiment
from llmrec.items.text_encoder import Encoder
from llmrec.models import cache_folder
from llmrec.records import Aspect, Item, Opinion, Review

logger = logging.getLogger(__name__)

_REVIEWS_AN_ITEM = 100
_ASPECTS_TOLD = 3
_CLEARLY = 2
"""So many times as often must be spoken well of what is praised, and ill of what is criticised."""
_WELL = 0.6
"""A sentence counts as praise from here on, as a complaint from one less this down."""


def understand_reviews(
    reviews: Sequence[Review],
    items: Mapping[str, Item],
    encoder: Encoder,
    *,
    model: str | None = None,
    cache: ContentCache | None = None,
    before: int | None = None,
    progress: bool = False,
) -> tuple[dict[str, Opinion], dict[str, str]]:
    """Say what reviewers think of each item.

    Of an item with more than 100 different reviews 100 are read, those whose hashes are lowest.

    Args:
        reviews: Those that may be known; reviews of held-out interactions are not among them
            (``evaluation.training_catalog`` leaves them out).
        items: By id; reviews of others are not read.
        encoder: Embeds the reviews where sentiment is learned from the ratings.
        model: A text-classification model; see :func:`choose_sentiment`.
        cache: None takes ``insights.sqlite3`` in llmrec's cache folder.
        before: Seconds since 1970: later reviews and those of that second are neither told nor
            learned from. Reviews without a time stay: nothing says that they are later.
        progress: Show bars on stderr, where that is a terminal.

    Returns:
        Opinions by item id, and for items with reviews that could not be judged what and why; an
        item may have both. Items without reviews are in neither.

    Raises:
        ModelError, HardwareError, OutOfMemoryError: The model or encoder cannot be used.
        StorageError: The cache cannot be used.
    """
    cache = cache or ContentCache(cache_folder() / "insights.sqlite3")
    known = [
        row
        for row in reviews
        if row.item_id in items
        and (before is None or row.timestamp is None or row.timestamp < before)
    ]
    sentiment = choose_sentiment(known, encoder, cache, model=model, progress=progress)
    return opinions_by(sentiment, known, items, cache, progress=progress)


def opinions_by(
    sentiment: Sentiment,
    reviews: Sequence[Review],
    items: Mapping[str, Item],
    cache: ContentCache,
    *,
    progress: bool = False,
) -> tuple[dict[str, Opinion], dict[str, str]]:
    """Say what reviewers think of each item, as one source of sentiment judges.

    See :func:`understand_reviews`.
    """
    chosen = [row for rows in _by_item(reviews).values() for row in rows]
    readings = read_texts([row.text for row in chosen], cache, progress=progress)
    scores = sentiment.scores(chosen)
    # Who rates an item says themselves whether they speak well of it; the middle says neither.
    rated = spoken_well(chosen)
    scores = np.where(np.isnan(rated), scores, rated)
    sentence_scores = sentiment.sentence_scores(chosen)
    names = AspectNames.of([readings[row.text] for row in chosen])
    places: defaultdict[str, list[int]] = defaultdict(list)
    for place, row in enumerate(chosen):
        places[row.item_id].append(place)
    opinions: dict[str, Opinion] = {}
    gaps: dict[str, str] = {}
    for item_id, rows in places.items():
        told = [row for row in rows if np.isfinite(scores[row])]
        if len(told) < len(rows):
            gaps[item_id] = (
                f"{len(rows) - len(told)} of {len(rows)} reviews are empty or in a language that "
                f"the sentiment source ({sentiment.source}) does not know"
            )
        if not told:
            continue
        title = title_words(items[item_id].title)
        judged = [
            list(
                zip(
                    readings[chosen[row].text].sentences,
                    sentence_scores[row].tolist(),
                    strict=True,
                )
            )
            for row in told
        ]
        reviewed = [float(scores[row]) for row in told]
        aspects = find_aspects(judged, names, title, well=_WELL)
        praise, complaints = (
            choose_quotes(judged, reviewed, names, title, aspects, good=good, well=_WELL)
            for good in (True, False)
        )
        opinions[item_id] = Opinion(
            n=len(told),
            share_positive=float(np.mean([score > 0.5 for score in reviewed])),
            praise=praise,
            complaints=complaints,
            aspects=aspects,
            source=sentiment.source,
        )
    if gaps:
        logger.warning("%d items have reviews that could not be judged", len(gaps))
    return opinions, gaps


def opinion_line(opinion: Opinion) -> str:
    """Say what reviewers think; aspects on which they are divided are left out.

    >>> from llmrec.records import SentimentSource
    >>> aspects = (Aspect("plot", 5, 1), Aspect("length", 0, 2))
    >>> opinion_line(Opinion(12, 0.75, (), (), aspects, SentimentSource.RATINGS))
    '75 % of 12 reviews positive; praised: plot; criticised: length'
    """
    reviews = "1 review" if opinion.n == 1 else f"{opinion.n} reviews"
    praised = [each for each in opinion.aspects if each.positive >= _CLEARLY * each.negative]
    criticised = [each for each in opinion.aspects if each.negative >= _CLEARLY * each.positive]
    parts = [f"{100 * opinion.share_positive:.0f} % of {reviews} positive"]
    parts += _aspects("praised", praised) + _aspects("criticised", criticised)
    return "; ".join(parts)


def _aspects(word: str, aspects: list[Aspect]) -> list[str]:
    names = ", ".join(each.name for each in aspects[:_ASPECTS_TOLD])
    return [f"{word}: {names}"] if names else []


def _by_item(reviews: Sequence[Review]) -> dict[str, list[Review]]:
    """The reviews that are read, by item; the choice does not depend on the order of the file."""
    by_item: defaultdict[str, list[Review]] = defaultdict(list)
    for row in reviews:
        by_item[row.item_id].append(row)
    return {
        item_id: rows
        if len(rows) <= _REVIEWS_AN_ITEM
        else sorted(rows, key=lambda row: content_key(row.text, str(row.user_id)))[
            :_REVIEWS_AN_ITEM
        ]
        for item_id, rows in by_item.items()
    }
