"""Sentiment of reviews: learned from ratings, or without any."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from llmrec.content_cache import ContentCache, content_key
from llmrec.documents import parse_json
from llmrec.errors import ModelNotFoundError
from llmrec.items.cached_results import compute_missing, unreadable
from llmrec.items.modality import unit
from llmrec.items.reviews import passage_vectors, sentences
from llmrec.items.sentiment_model import ModelSentiment
from llmrec.items.text_encoder import Encoder
from llmrec.records import Review, SentimentSource

logger = logging.getLogger(__name__)

DEFAULT_SENTIMENT_MODEL = "nlptown/bert-base-multilingual-uncased-sentiment"
"""One to five stars for product reviews in English, Dutch, German, French, Spanish and Italian."""

_VERSION = "rated sentiment 5"
_FOLDS = 5
_ENOUGH = 20
_STRENGTH = 10.0
"""Inverse strength of regularization."""
_MEANING = 0.3
"""Length of the embedding beside the words, which have length 1: more would drown them."""
_HAN_AND_KANA = r"\u3040-\u30ff\u3400-\u9fff"
WORD = rf"[{_HAN_AND_KANA}]|[^\W_{_HAN_AND_KANA}]+(?:['’][^\W_]+)?"
"""A word; Chinese and Japanese are written without spaces, so there each character counts."""
_RARE = 0.001
_FAMILIAR = 0.5

ANCHORS = (
    (
        "I love it.",
        "I loved it, it was excellent and I would recommend it.",
        "I am very happy with it and recommend it to everyone.",
        "It is excellent, one of the best.",
        "The best I have ever seen or bought.",
        "Great, wonderful, beautiful, enjoyable.",
        "Wonderful, well made and worth every penny.",
    ),
    (
        "I hate it.",
        "I hated it, it was terrible and I would not recommend it.",
        "I am very disappointed with it and would not recommend it to anyone.",
        "It is terrible, one of the worst.",
        "The worst I have ever seen or bought.",
        "Bad, awful, boring, disappointing.",
        "Awful, badly made and a waste of time and money.",
    ),
)
"""Sentences that praise and sentences that complain: what zero-shot sentiment compares with."""
_SHARPNESS = 4.0
"""Log-odds between where praise lies and where complaints lie."""


class Sentiment(Protocol):
    """Estimates the sentiment of reviews and their sentences."""

    @property
    def source(self) -> SentimentSource:
        """Where the estimates come from."""
        ...

    def scores(self, reviews: Sequence[Review]) -> NDArray[np.float64]:
        """The probability that each review is positive, float64 [n] in 0 to 1.

        NaN where it is unknown: the text is empty or in an unknown language.
        """
        ...

    def sentence_scores(self, reviews: Sequence[Review]) -> list[NDArray[np.float64]]:
        """The same for each of a review's :func:`~llmrec.items.reviews.sentences`."""
        ...


def spoken_well(reviews: Sequence[Review]) -> NDArray[np.float64]:
    """Label reviews by their ratings: positive (1) or negative (0).

    Ratings in the upper third of the data set's scale are positive, those in the lower third
    negative, others unlabelled. On 1 to 10 that is 7 and up against 4 and down (Maas et al. 2011,
    "Learning Word Vectors for Sentiment Analysis"), on 1 to 5 it is 4 and 5 against 1 and 2. The
    scale ends at the highest rating given and begins at 1 or at the lowest rating, whichever is
    less (at 0 where no rating is above 1): the best rating occurs in any data set, the worst may
    not.

    Returns:
        float64 [n] of 1, 0 and NaN for neither (no rating, a middling one, an empty text).
    """
    rated = [review.rating if review.text.strip() else None for review in reviews]
    ratings = np.array([np.nan if rating is None else rating for rating in rated], dtype=np.float64)
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
    """Say why ratings do not suffice to learn from; None where they do.

    Needed are 20 reviews of either kind, and 10 of them when any fold of the items is held out.
    """
    rated, labels = _labelled(reviews)
    kinds = np.bincount(labels, minlength=2)
    if kinds.min() < _ENOUGH:
        return (
            f"by their ratings {kinds[1]} reviews speak well of their item and {kinds[0]} ill, "
            f"needed are {_ENOUGH} of either kind"
        )
    left = [np.bincount(labels[rest], minlength=2).min() for rest, _ in _folds(rated, labels)]
    if len(left) < 2 or min(left) < _ENOUGH // 2:
        return (
            "the rated reviews of one kind are of too few items, or repeat the same texts, "
            "so that items cannot be held out"
        )
    return None


def choose_sentiment(
    reviews: Sequence[Review],
    encoder: Encoder,
    cache: ContentCache,
    *,
    model: str | None = None,
    progress: bool = False,
) -> Sentiment:
    """Choose the source of sentiment: a model if named, else the ratings, else zero-shot.

    Args:
        reviews: Those that may be learned from: none that a split holds out.
        encoder: Embeds the reviews.
        cache: Where scores are kept between runs.
        model: A text-classification model by hub id, folder or packaged name; ``"zero_shot"``
            compares with anchor sentences. If the model cannot be found, a warning says so and it
            is left out.
        progress: Show bars on stderr, where that is a terminal.

    Raises:
        ModelError: The model was found and is no sentiment classifier.
    """
    if model == SentimentSource.ZERO_SHOT:
        return ZeroShotSentiment(encoder, progress)
    if model is not None:
        try:
            return ModelSentiment.from_pretrained(model, cache=cache, progress=progress)
        except ModelNotFoundError as error:
            logger.warning("%s Reviews are judged without it.", error.message)
    why = why_not_fitted(reviews)
    if why is None:
        return RatedSentiment(tuple(reviews), encoder, cache, progress)
    if any(review.text.strip() for review in reviews):
        logger.warning("Sentiment is estimated zero-shot by the text encoder: %s.", why)
    return ZeroShotSentiment(encoder, progress)


@dataclass(frozen=True)
class ZeroShotSentiment:
    """Compares reviews with sentences that praise and sentences that complain (``ANCHORS``).

    It has seen no rating, so its scores order reviews and are no calibrated probabilities. It reads
    the languages that the encoder reads.
    """

    encoder: Encoder
    progress: bool = False
    source: SentimentSource = field(default=SentimentSource.ZERO_SHOT, init=False)

    def scores(self, reviews: Sequence[Review]) -> NDArray[np.float64]:
        """See :class:`Sentiment`."""
        means = [each.mean() if each.size else np.nan for each in self.sentence_scores(reviews)]
        return np.array(means, dtype=np.float64)

    def sentence_scores(self, reviews: Sequence[Review]) -> list[NDArray[np.float64]]:
        """See :class:`Sentiment`."""
        parts = [sentences(review.text) for review in reviews]
        distinct = list(dict.fromkeys(part for each in parts for part in each))
        vectors = self.encoder.encode(distinct, progress=self.progress)
        scores = dict(zip(distinct, _logistic(vectors @ self._direction), strict=True))
        return [np.array([scores[part] for part in each], dtype=np.float64) for each in parts]

    @cached_property
    def _direction(self) -> np.ndarray:
        good, bad = (self.encoder.encode(anchors).mean(axis=0) for anchors in ANCHORS)
        direction: np.ndarray = good - bad
        return direction * (_SHARPNESS / max(float(direction @ direction), 1e-9))


@dataclass(frozen=True, eq=False)
class RatedSentiment:
    """Logistic regressions on words and embeddings of rated reviews, cross-fitted by item.

    The items are dealt into five folds. The reviews of a fold are judged by a regression that was
    fitted on those of the other four, less any whose text stands in the fold too (copied reviews).
    Items without a rated review are judged by the first one. Scores are cached under the reviews
    that were learned from: nothing is fitted unless a score is missing.

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
        """See :class:`Sentiment`."""
        return np.array([scores[0] for scores in self._judged(reviews)], dtype=np.float64)

    def sentence_scores(self, reviews: Sequence[Review]) -> list[NDArray[np.float64]]:
        """See :class:`Sentiment`; a sentence is judged by its words alone, not its embedding."""
        return [np.array(scores[1:], dtype=np.float64) for scores in self._judged(reviews)]

    def fold(self, item_id: str) -> int:
        """The fold of the item: the regression that has not seen its reviews."""
        folds = (at for at, (_, items) in enumerate(self.fitted) if item_id in items)
        return next(folds, 0)

    @cached_property
    def fitted(self) -> tuple[tuple[Any, frozenset[str]], ...]:
        """The regressions, each with the items that were held out."""
        from sklearn.linear_model import LogisticRegression  # noqa: PLC0415

        rated, labels = _labelled(self.reviews)
        features = self.features(rated)
        items = np.array([row.item_id for row in rated])
        found = []
        folds = tqdm(
            list(_folds(rated, labels)),
            desc="Fitting sentiment",
            unit="fold",
            disable=None if self.progress else True,
        )
        for rest, held in folds:
            # Balanced: a sentence without any telling word lies in the middle.
            regression = LogisticRegression(
                C=_STRENGTH, class_weight="balanced", solver="liblinear", random_state=0
            )
            regression.fit(features[rest], labels[rest])
            found.append((regression, frozenset(items[held].tolist())))
        logger.info("sentiment: %d regressions on %d rated reviews", len(found), len(rated))
        return tuple(found)

    @cached_property
    def vocabulary(self) -> Any:  # noqa: ANN401 - scikit-learn has no types
        """TF-IDF of the words, and pairs of words, that at least two reviews have."""
        from sklearn.feature_extraction.text import TfidfVectorizer  # noqa: PLC0415

        vectorizer = TfidfVectorizer(
            token_pattern=WORD, ngram_range=(1, 2), min_df=2, sublinear_tf=True
        )
        return vectorizer.fit([review.text for review in self.reviews])

    def features(self, reviews: Sequence[Review]) -> Any:  # noqa: ANN401 - scipy has no types
        """Words and embedding of each review: a sparse matrix [n, words + d]."""
        from scipy.sparse import csr_matrix, hstack  # noqa: PLC0415

        texts = [review.text for review in reviews]
        parts = passage_vectors(texts, self.encoder, progress=self.progress)
        # An empty text has no passage: a row of zeros.
        means = np.array([each.sum(axis=0) / max(len(each), 1) for each in parts])
        words = self.vocabulary.transform(texts)
        return hstack([words, csr_matrix(_MEANING * unit(means))]).tocsr()

    @cached_property
    def _fingerprint(self) -> str:
        rows = (f"{row.item_id}\0{row.rating}\0{row.text}" for row in self.reviews)
        return content_key(_VERSION, self.encoder.name, *rows)

    def _judged(self, reviews: Sequence[Review]) -> list[list[float]]:
        """Each review's score, then those of its sentences."""
        keys = [content_key(self._fingerprint, row.item_id, row.text) for row in reviews]
        by_key = dict(zip(keys, reviews, strict=True))

        def compute(batch: Mapping[str, Review]) -> Mapping[str, bytes]:
            judged = self._judge(list(batch.values()))
            return {k: json.dumps(row).encode() for k, row in zip(batch, judged, strict=True)}

        def damaged(known: Mapping[str, bytes]) -> list[str]:
            broken = set(unreadable(known, _unpack))
            parts = {key: 1 + len(sentences(by_key[key].text)) for key in known.keys() - broken}
            return [*broken, *(key for key, n in parts.items() if len(_unpack(known[key])) != n)]

        known, _ = compute_missing(
            by_key,
            compute,
            cache=self.cache,
            batch_size=max(1, len(by_key)),
            damaged=damaged,
            doing="Judging reviews",
            unit="review",
        )
        return [_unpack(known[key]) for key in keys]

    def _judge(self, reviews: Sequence[Review]) -> list[list[float]]:
        features = self.features(reviews)
        folds = np.array([self.fold(review.item_id) for review in reviews])
        scores = np.full(len(reviews), np.nan)
        for fold in np.unique(folds):
            regression, _ = self.fitted[fold]
            scores[folds == fold] = regression.predict_proba(features[folds == fold])[:, 1]
        judged = []
        for fold, score, review in zip(folds, scores, reviews, strict=True):
            parts = sentences(review.text)
            if not self._knows(review.text):
                judged.append([float("nan")] * (1 + len(parts)))
                continue
            words = self.vocabulary.transform(parts)
            weights = self.fitted[fold][0].coef_[0][: words.shape[1]]
            judged.append([float(score), *_logistic(words @ weights).tolist()])
        return judged

    @cached_property
    def _familiar(self) -> frozenset[str]:
        """The words that one review in a thousand has, and at least two."""
        n = len(self.reviews)
        rarest = np.log((1 + n) / (1 + max(2.0, _RARE * n))) + 1
        words = self.vocabulary.get_feature_names_out()
        return frozenset(words[self.vocabulary.idf_ <= rarest + 1e-9].tolist())

    def _knows(self, text: str) -> bool:
        """Whether half of a text's words are familiar: one in another language is not judged."""
        words = self.vocabulary.build_tokenizer()(text.lower())
        known = sum(word in self._familiar for word in words)
        return bool(words) and known >= _FAMILIAR * len(words)


def _unpack(blob: bytes) -> list[float]:
    """Read cached scores, each NaN or 0 to 1 (ValueError: it is something else)."""
    scores = parse_json(blob, finite=False)
    if not isinstance(scores, list) or not all(isinstance(score, float) for score in scores):
        raise ValueError("it is no list of scores")
    if any(score < 0 or score > 1 for score in scores):
        raise ValueError("it is no score")
    return scores


def _logistic(logits: NDArray[Any]) -> NDArray[np.float64]:
    return 1 / (1 + np.exp(-np.asarray(logits, dtype=np.float64)))


def _labelled(reviews: Sequence[Review]) -> tuple[list[Review], NDArray[np.int64]]:
    well = spoken_well(reviews)
    rated = [row for row, each in zip(reviews, well, strict=True) if each in (0, 1)]
    return rated, well[np.isfinite(well)].astype(np.int64)


def _folds(
    rated: Sequence[Review], labels: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.bool_], NDArray[np.bool_]]]:
    """For each fold the rows to fit on and those held out: no item and no text is in both."""
    from sklearn.model_selection import StratifiedGroupKFold  # noqa: PLC0415

    items = np.array([row.item_id for row in rated])
    texts = np.array([content_key(" ".join(row.text.lower().split())) for row in rated])
    number = min(_FOLDS, len(set(items.tolist())), *np.bincount(labels, minlength=2).tolist())
    if number < 2:
        return
    for _, rows in StratifiedGroupKFold(number).split(labels, labels, items):
        held = np.zeros(len(labels), dtype=bool)
        held[rows] = True
        yield ~held & ~np.isin(texts, texts[held]), held
