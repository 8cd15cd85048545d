"""Opinions: each item's share of positive reviews, its aspects and most typical sentences."""

from __future__ import annotations

import logging
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from llmrec.content_cache import ContentCache, content_key
from llmrec.items.aspects import AspectTerms, Judged, find_aspects, title_words
from llmrec.items.reviews import sentences
from llmrec.items.sentiment import Sentiment, choose_sentiment, spoken_well
from llmrec.items.text_encoder import Encoder
from llmrec.models import cache_folder
from llmrec.records import Aspect, Item, Opinion, Review

logger = logging.getLogger(__name__)

_REVIEWS_AN_ITEM = 100
_WELL = 0.6
"""A sentence counts as praise from here on, as a complaint from one less this down."""
_QUOTES = 2
_SHORTEST, _LONGEST = 30, 180
_CLEAR = 0.75
"""A sentence that contradicts the review it stands in must be clearer than one that does not."""
_ADDRESS = re.compile(r"https?:|www\.|\.com\b|@\w", re.IGNORECASE)
_LEANS = re.compile(
    r"(?:and|but|or|so|yet|then|also|however|although|though|because|which|who|if|when)\b", re.I
)
"""Beginnings that lean on the sentence before, in English."""
_ASPECTS_TOLD = 3
_CLEARLY = 2
"""Minimum ratio of positive to negative mentions for praise, and the reverse for criticism."""


def understand_reviews(
    reviews: Sequence[Review],
    items: Mapping[str, Item],
    encoder: Encoder,
    *,
    model: str | None = None,
    cache: ContentCache | None = None,
    progress: bool = False,
) -> tuple[dict[str, Opinion], dict[str, str]]:
    """Summarize what reviewers think of each item.

    Of an item with more than 100 reviews 100 are read, those whose hashes are lowest.

    Args:
        reviews: Those that may be known; reviews of held-out interactions are not among them
            (``evaluation.training_catalog`` leaves them out).
        items: By id; reviews of others are not read.
        encoder: Embeds the reviews.
        model: A text-classification model; see :func:`choose_sentiment`.
        cache: None takes ``insights.sqlite3`` in llmrec's cache folder.
        progress: Show bars on stderr, where that is a terminal.

    Returns:
        Opinions by item id, and for items with reviews that could not be judged what and why; an
        item may have both. Items without reviews are in neither.

    Raises:
        ModelError, HardwareError, OutOfMemoryError: The model or encoder cannot be used.
        StorageError: The cache cannot be used.
    """
    cache = cache or ContentCache(cache_folder() / "insights.sqlite3")
    known = [row for row in reviews if row.item_id in items]
    if not known:
        return {}, {}
    sentiment = choose_sentiment(known, encoder, cache, model=model, progress=progress)
    return opinions_by(sentiment, known, items)


def opinions_by(
    sentiment: Sentiment, reviews: Sequence[Review], items: Mapping[str, Item]
) -> tuple[dict[str, Opinion], dict[str, str]]:
    """Summarize what reviewers think of each item by one source of sentiment.

    See :func:`understand_reviews`.
    """
    chosen = _chosen(reviews)
    scores = sentiment.scores(chosen)
    # A clear rating decides the sentiment; a middling rating does not.
    rated = spoken_well(chosen)
    scores = np.where(np.isnan(rated), scores, rated)
    judged: list[Judged] = [
        list(zip(sentences(row.text), each.tolist(), strict=True))
        for row, each in zip(chosen, sentiment.sentence_scores(chosen), strict=True)
    ]
    terms = AspectTerms.of(judged)
    places: defaultdict[str, list[int]] = defaultdict(list)
    for place, row in enumerate(chosen):
        places[row.item_id].append(place)
    opinions: dict[str, Opinion] = {}
    gaps: dict[str, str] = {}
    for item_id, rows in places.items():
        known = [row for row in rows if np.isfinite(scores[row])]
        if len(known) < len(rows):
            gaps[item_id] = (
                f"{len(rows) - len(known)} of {len(rows)} reviews are empty or in a language that "
                f"the sentiment source ({sentiment.source}) does not know"
            )
        if not known:
            continue
        title = title_words(items[item_id].title)
        read = [judged[row] for row in known]
        reviewed = [float(scores[row]) for row in known]
        aspects = find_aspects(read, terms, title, well=_WELL)
        praise, complaints = (
            _quotes(read, reviewed, terms, title, aspects, good=good) for good in (True, False)
        )
        opinions[item_id] = Opinion(
            n=len(known),
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
    for word, aspects in (("praised", praised), ("criticised", criticised)):
        if aspects:
            parts.append(f"{word}: {', '.join(each.name for each in aspects[:_ASPECTS_TOLD])}")
    return "; ".join(parts)


def _chosen(reviews: Sequence[Review]) -> list[Review]:
    """The reviews that are read; the choice does not depend on the order of the file."""
    by_item: defaultdict[str, list[Review]] = defaultdict(list)
    for row in reviews:
        by_item[row.item_id].append(row)
    for rows in by_item.values():
        if len(rows) > _REVIEWS_AN_ITEM:
            rows.sort(key=lambda row: content_key(row.text, str(row.user_id)))
    return [row for rows in by_item.values() for row in rows[:_REVIEWS_AN_ITEM]]


def _quotes(
    reviews: Sequence[Judged],
    scores: Sequence[float],
    terms: AspectTerms,
    title: frozenset[str],
    aspects: Sequence[Aspect],
    *,
    good: bool,
) -> tuple[str, ...]:
    """Choose the two most telling sentences of a kind, each of another review.

    Only sentences that a reader understands by themselves. What a review says against its own
    verdict counts too, where it is clear and names an aspect: there are few bad reviews of what
    people like, and good ones say what is wrong. Preferred are sentences that the rest of their
    review bears out and that name what the item's reviews speak of most.
    """
    known = {aspect.name for aspect in aspects}
    found: list[tuple[float, str, int]] = []
    for number, (judged, review) in enumerate(zip(reviews, scores, strict=True)):
        agrees = (review > 0.5) == good
        for sentence, score in judged:
            sure = score if good else 1 - score
            names = terms.of_sentence(sentence, title)
            enough = sure >= _WELL if agrees else sure >= _CLEAR and bool(names)
            if enough and quotable(sentence):
                weight = 0.2 * agrees + 0.2 * bool(names) + 0.2 * bool(names & known)
                found.append((-sure - weight, sentence, number))
    chosen: dict[int, str] = {}
    for _, sentence, number in sorted(found):
        if number not in chosen and _plain(sentence) not in map(_plain, chosen.values()):
            chosen[number] = sentence
        if len(chosen) == _QUOTES:
            break
    return tuple(chosen.values())


def quotable(text: str) -> bool:
    """Whether a reader understands a review's sentence by itself."""
    if not _SHORTEST <= len(text) <= _LONGEST or _ADDRESS.search(text):
        return False
    begins = text[0].isalnum() or text[0] in "\"'“‘«「『"
    whole = text[-1] in ".!?…。！？\"'”’»」』" and not text.endswith(("?", "..."))
    balanced = text.count('"') % 2 == 0 and text.count("(") == text.count(")")
    leans = text[0].islower() or _LEANS.match(text)
    shouting = text.isupper() or text.count("!") > 2
    return begins and whole and balanced and not leans and not shouting


def _plain(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.lower()))
