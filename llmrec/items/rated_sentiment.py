"""Sentiment learned from a data set's own rated reviews, never from an item's own."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from llmrec.content_cache import ContentCache, content_key
from llmrec.items.readings import Reading, is_short, read_texts
from llmrec.items.sentiment_head import Head, Material, deal, fit_head
from llmrec.items.text_encoder import Encoder
from llmrec.items.vocabulary import Vocabulary
from llmrec.records import Review, SentimentSource

logger = logging.getLogger(__name__)

_VERSION = "rated sentiment 3"
_FOLDS = 5
_ENOUGH = 20


def spoken_well(reviews: Sequence[Review]) -> NDArray[np.float64]:
    """Tell by their ratings which reviews speak well of their item (1) and which ill (0).

    Ratings in the upper third of the data set's scale speak well, those in the lower third ill, and
    what lies between is left out, as a text to a middling rating says neither. On 1 to 10 that is 7
    and up against 4 and down (Maas et al. 2011, "Learning Word Vectors for Sentiment Analysis"), on
    1 to 5 it is 4 and 5 against 1 and 2. The scale ends at the highest rating that was given and
    begins at 1 or at the lowest, whichever is less (at 0 where no rating is above 1): people give
    the best rating in any data set, the worst they may not have given.

    Returns:
        float64 [n] of 1, 0 and NaN, which is neither (no rating, a middling one, an empty text).
    """
    told = [review.rating if review.text.strip() else None for review in reviews]
    ratings = np.array([np.nan if rating is None else rating for rating in told], dtype=np.float64)
    given = ratings[np.isfinite(ratings)]
    if not given.size:
        return np.full(len(reviews), np.nan)
    high = given.max()
    low = min(given.min(), 1.0 if high > 1 else 0.0)
    place = (ratings - low) / (high - low if high > low else 1.0)
    with np.errstate(invalid="ignore"):
        well = np.where(place >= 2 / 3 - 1e-9, 1.0, np.where(place <= 1 / 3 + 1e-9, 0.0, np.nan))
    return np.where(np.isfinite(ratings), well, np.nan)


def why_not_fitted(reviews: Sequence[Review]) -> str | None:
    """Say why no head can be fitted on these reviews; None where one can.

    It takes 20 of either kind, and 10 still when any fold of the items is held out.
    """
    rated, labels = _labelled(reviews)
    kinds = np.bincount(labels, minlength=2)
    if kinds.min() < _ENOUGH:
        return (
            f"by their ratings {kinds[1]} reviews speak well of their item and {kinds[0]} ill, "
            f"a fit takes {_ENOUGH} of either kind"
        )
    left = [np.bincount(labels[rest], minlength=2).min() for rest, _ in _folds(rated, labels)]
    if len(left) < 2 or min(left) < _ENOUGH // 2:
        return (
            "the rated reviews of one kind are of too few items, or repeat the same texts, "
            "so that items cannot be held out"
        )
    return None


def _labelled(reviews: Sequence[Review]) -> tuple[list[Review], NDArray[np.int64]]:
    well = spoken_well(reviews)
    rated = [row for row, each in zip(reviews, well, strict=True) if each in (0, 1)]
    return rated, well[np.isfinite(well)].astype(np.int64)


def _folds(
    rated: Sequence[Review], labels: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.bool_], NDArray[np.bool_]]]:
    """For each fold the rows to fit on and those held out: no item and no text is in both."""
    items = np.array([row.item_id for row in rated])
    texts = np.array([content_key(" ".join(row.text.lower().split())) for row in rated])
    for rest, held in deal(labels, items, _FOLDS):
        yield rest & ~np.isin(texts, texts[held]), held


@dataclass(frozen=True, eq=False)
class RatedSentiment:
    """Heads fitted on rated reviews, cross-fitted by item.

    The items are dealt into five folds, and the reviews of a fold are judged by a head that was
    fitted on those of the other four, less any whose text stands in the fold too (copied reviews).
    Items without a rated review are judged by the first head. Scores are cached under the reviews
    that the heads were fitted on: heads are fitted only where a score is missing.

    Args:
        reviews: The reviews to learn from; ``why_not_fitted(reviews)`` is None.
        encoder: Embeds their passages.
        cache: Where scores are kept between runs.
        progress: Show bars on stderr, where that is a terminal.
    """

    reviews: tuple[Review, ...]
    encoder: Encoder
    cache: ContentCache
    progress: bool = False
    source: SentimentSource = field(default=SentimentSource.RATINGS, init=False)

    def scores(self, reviews: Sequence[Review]) -> NDArray[np.float64]:
        """See :class:`~llmrec.items.sentiment.Sentiment`."""
        return np.array([scores[0] for scores in self._judged(reviews)], dtype=np.float64)

    def sentence_scores(self, reviews: Sequence[Review]) -> list[NDArray[np.float64]]:
        """See :class:`~llmrec.items.sentiment.Sentiment`.

        A sentence is judged by its words and, in English, its tone.
        """
        return [np.array(scores[1:], dtype=np.float64) for scores in self._judged(reviews)]

    @cached_property
    def heads(self) -> tuple[Head, ...]:
        """The fitted heads, a fold each."""
        return tuple(head for head, _ in self._fitted)

    def fold(self, item_id: str) -> int:
        """The number of the head that judges the item: one that has not seen its reviews."""
        folds = (at for at, (_, items) in enumerate(self._fitted) if item_id in items)
        return next(folds, 0)

    @cached_property
    def _fitted(self) -> tuple[tuple[Head, frozenset[str]], ...]:
        rated, labels = _labelled(self.reviews)
        material = self._material(rated)
        items = np.array([row.item_id for row in rated])
        fitted = []
        parts = tqdm(
            list(_folds(rated, labels)),
            desc="Fitting sentiment",
            unit="fold",
            disable=None if self.progress else True,
        )
        for rest, held in parts:
            head = fit_head(material[rest], labels[rest], items[rest])
            fitted.append((head, frozenset(items[held].tolist())))
        logger.info("sentiment: %d heads fitted on %d rated reviews", len(fitted), len(rated))
        return tuple(fitted)

    @cached_property
    def _vocabulary(self) -> Vocabulary:
        return Vocabulary.of([review.text for review in self.reviews])

    @cached_property
    def _fingerprint(self) -> str:
        rows = (f"{row.item_id}\0{row.rating}\0{row.text}" for row in self.reviews)
        return content_key(_VERSION, self.encoder.name, *rows)

    def _judged(self, reviews: Sequence[Review]) -> list[list[float]]:
        """Each review's score, then those of its sentences."""
        keys = [content_key(self._fingerprint, row.item_id, row.text) for row in reviews]
        known = {key: json.loads(blob) for key, blob in self.cache.get_many(keys).items()}
        missing = {key: row for key, row in zip(keys, reviews, strict=True) if key not in known}
        if missing:
            judged = self._judge(list(missing.values()))
            new = dict(zip(missing, judged, strict=True))
            self.cache.put_many({key: json.dumps(row).encode() for key, row in new.items()})
            known.update(new)
        return [known[key] for key in keys]

    def _judge(self, reviews: Sequence[Review]) -> list[list[float]]:
        texts = [review.text for review in reviews]
        readings = self._read(texts)
        material = self._material(reviews)
        folds = np.array([self.fold(review.item_id) for review in reviews])
        scores = np.full(len(reviews), np.nan)
        for fold in np.unique(folds):
            scores[folds == fold] = self.heads[fold].scores(material[folds == fold])
        judged = []
        for fold, score, text in zip(folds, scores, texts, strict=True):
            sentences = readings[text].sentences
            if not self._knows(text, readings[text]):
                judged.append([float("nan")] * (1 + len(sentences)))
                continue
            counts = self._vocabulary.counts([each.text for each in sentences])
            tones = np.array([each.tone for each in sentences])
            parts = self.heads[fold].sentence_scores(counts, tones)
            judged.append([float(score), *parts.tolist()])
        return judged

    def _knows(self, text: str, reading: Reading) -> bool:
        short = is_short(text) and reading.english
        return short or self._vocabulary.knows(text)

    def _read(self, texts: Sequence[str]) -> Mapping[str, Reading]:
        """Read texts among all reviews, which tell whether the short ones are English."""
        every = [review.text for review in self.reviews]
        return read_texts([*every, *texts], self.cache, progress=self.progress)

    def _material(self, reviews: Sequence[Review]) -> Material:
        texts = [review.text for review in reviews]
        readings = self._read(texts)
        return Material.of(
            texts,
            [readings[text] for text in texts],
            self._vocabulary,
            lambda parts: self.encoder.encode(parts, progress=self.progress),
        )
