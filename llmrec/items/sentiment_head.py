"""A small head that tells good reviews from bad by their words, their meaning and their tone.

Three logistic regressions, on TF-IDF of words and pairs of words, on the mean of the passages'
embeddings, and on what VADER says of the sentences, and a fourth on what the three say of rows they
were not fitted on (Wolpert 1992, "Stacked Generalization"). How strongly each is regularised, and
what each is worth, is found on inner folds in which an item's reviews stay together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmrec.items.readings import Reading
from llmrec.items.reviews import passages
from llmrec.items.vocabulary import Vocabulary

SOURCES = ("words", "meaning", "tone")

_STRENGTHS = (1.0, 10.0, 100.0)
"""Inverse strengths of regularisation that are tried."""
_INNER_FOLDS = 3
_TONE = 2.0
_SQUASH = 15.0
"""VADER squashes a sum s of word scores to s / sqrt(s^2 + 15)."""


@dataclass(frozen=True, eq=False)
class Material:
    """What a head reads of n reviews.

    Args:
        words: Sparse counts [n, words].
        meaning: float64 [n, d], the mean of a review's passages at length 1.
        tone: float64 [n, k], what VADER says of the sentences; zeros where it is not English.
    """

    words: Any
    meaning: NDArray[np.float64]
    tone: NDArray[np.float64]

    @classmethod
    def of(
        cls,
        texts: Sequence[str],
        readings: Sequence[Reading],
        vocabulary: Vocabulary,
        encode: Callable[[Sequence[str]], np.ndarray],
    ) -> Material:
        """Count the words of texts, embed their passages, and sum up their readings' tones."""
        tone = np.array([_tone_features(reading) for reading in readings]).reshape(len(texts), -1)
        return cls(vocabulary.counts(texts), _meaning(texts, encode), tone)

    def __getitem__(self, rows: NDArray[Any]) -> Material:
        """The same of some rows, given as a mask or as places."""
        return Material(self.words[rows], self.meaning[rows], self.tone[rows])


@dataclass(frozen=True, eq=False)
class Head:
    """A fitted head: a pipeline for each source, one on their log-odds, one on the words' alone."""

    sources: tuple[Any, ...]
    joint: Any
    words: Any

    def scores(self, material: Material) -> NDArray[np.float64]:
        """The probability that each review speaks well of its item, float64 [n]."""
        logits = [
            pipeline.decision_function(features)
            for pipeline, features in zip(self.sources, _features(material), strict=True)
        ]
        probabilities: NDArray[np.float64] = self.joint.predict_proba(np.stack(logits, axis=1))
        return probabilities[:, 1]

    def sentence_scores(self, counts: Any, tones: NDArray[np.float64]) -> NDArray[np.float64]:  # noqa: ANN401
        """Score sentences by their words and tone, 0 to 1: both kinds are taken for as frequent.

        There are no ratings of sentences. The words' log-odds are brought to the scale that suits
        rows they were not fitted on, which matters where few reviews speak ill: as they are, hardly
        any sentence would. VADER's tone, from -1 to 1, is added as log-odds from -2 to 2.
        """
        words = self.sources[0].decision_function(counts)
        logits = self.words.decision_function(words[:, None]) + _TONE * tones
        scores: NDArray[np.float64] = 1 / (1 + np.exp(-logits))
        return scores


def fit_head(material: Material, labels: NDArray[np.int64], items: NDArray[np.str_]) -> Head:
    """Fit a head.

    Args:
        material: What it reads of n reviews.
        labels: int [n], 1 for a review that speaks well of its item, 0 for one that speaks ill;
            both must occur.
        items: The items' ids, [n].
    """
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415
    from sklearn.metrics import roc_auc_score  # noqa: PLC0415

    inner = [
        (rest, held)
        for rest, held in deal(labels, items, _INNER_FOLDS)
        if len(set(labels[rest].tolist())) == 2
    ]
    seen = np.zeros(len(labels), dtype=bool)
    for _, held in inner:
        seen |= held
    if len(set(labels[seen].tolist())) < 2:
        # Too few items for inner folds: the weakest fit of each source, all worth the same.
        inner, seen = [(np.ones(len(labels), bool),) * 2], np.ones(len(labels), bool)
    sources, logits = [], []
    for name, features in zip(SOURCES, _features(material), strict=True):
        foretold = {}
        for strength in _STRENGTHS:
            values = np.zeros(len(labels))
            for rest, held in inner:
                pipeline = _pipeline(name, strength).fit(features[rest], labels[rest])
                values[held] = pipeline.decision_function(features[held])
            foretold[strength] = values
        aucs = {s: roc_auc_score(labels[seen], each[seen]) for s, each in foretold.items()}
        best = max(_STRENGTHS, key=lambda strength: (aucs[strength], -strength))
        sources.append(_pipeline(name, best).fit(features, labels))
        logits.append(foretold[best])
    joint = LogisticRegression(max_iter=1_000)
    joint.fit(np.stack(logits, axis=1)[seen], labels[seen])
    words = LogisticRegression(class_weight="balanced", max_iter=1_000)
    words.fit(logits[0][seen, None], labels[seen])
    return Head(tuple(sources), joint, words)


def deal(
    labels: NDArray[np.int64], items: NDArray[np.str_], folds: int
) -> Iterator[tuple[NDArray[np.bool_], NDArray[np.bool_]]]:
    """Deal rows into folds so that an item's rows stay together, both kinds spread over the folds.

    Yields:
        For each fold bool [n] of the rows outside and bool [n] of those in it.
    """
    from sklearn.model_selection import StratifiedGroupKFold  # noqa: PLC0415

    number = min(folds, len(set(items.tolist())), *np.bincount(labels, minlength=2).tolist())
    if number < 2:
        return
    for _, rows in StratifiedGroupKFold(number).split(labels, labels, items):
        held = np.zeros(len(labels), dtype=bool)
        held[rows] = True
        yield ~held, held


def _features(material: Material) -> tuple[Any, ...]:
    return material.words, material.meaning, material.tone


def _pipeline(name: str, strength: float) -> Any:  # noqa: ANN401 - scikit-learn has no types
    from sklearn.feature_extraction.text import TfidfTransformer  # noqa: PLC0415
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415
    from sklearn.pipeline import make_pipeline  # noqa: PLC0415
    from sklearn.preprocessing import StandardScaler  # noqa: PLC0415

    # Balanced, so that a sentence without any telling word lies in the middle; the joint
    # regression, which is not, makes probabilities of it.
    regression = LogisticRegression(
        C=strength if name != "tone" else strength / 100,
        class_weight="balanced",
        solver="liblinear" if name == "words" else "lbfgs",
        max_iter=1_000,
        random_state=0,
    )
    steps = {"words": [TfidfTransformer(sublinear_tf=True)], "tone": [StandardScaler()]}
    return make_pipeline(*steps.get(name, []), regression)


def _meaning(
    texts: Sequence[str], encode: Callable[[Sequence[str]], np.ndarray]
) -> NDArray[np.float64]:
    parts = [passages(text) or ("",) for text in texts]
    distinct = list(dict.fromkeys(part for each in parts for part in each))
    rows = {part: row for row, part in enumerate(distinct)}
    known = encode(distinct)
    means = np.zeros((len(texts), known.shape[1]))
    for row, each in enumerate(parts):
        means[row] = known[[rows[part] for part in each]].mean(axis=0)
    lengths = np.linalg.norm(means, axis=1, keepdims=True)
    units: NDArray[np.float64] = means / np.maximum(lengths, 1e-12)
    return units


def _tone_features(reading: Reading) -> list[float]:
    """Level, extremes, opening, ending and balance of a review's tones; zeros where none is told.

    The verdict of a review often stands at its end, and a long one holds both praise and blame.
    """
    if not reading.english or not reading.sentences:
        return [0.0] * 10
    tones = np.array([each.tone for each in reading.sentences])
    sums = tones * np.sqrt(_SQUASH / np.maximum(1 - tones**2, 1e-4))
    return [
        1.0,
        tones.mean(),
        tones.min(),
        tones.max(),
        tones[-1],
        tones[-3:].mean(),
        tones[:3].mean(),
        (tones > 0.05).mean(),
        (tones < -0.05).mean(),
        sums.sum() / np.sqrt(sums.sum() ** 2 + _SQUASH),
    ]
