"""Rows of the joint representation's tables: untrained, with popularity and friends, trained.

A row holds the rank of each user's target among all items but those of the user's history, or among
some of them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import combinations, product

import numpy as np
from data_sets import SEED, Kept
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from llmrec import Catalog, TextEncoder
from llmrec.catalog import Split
from llmrec.evaluation import (
    HeldOut,
    end_to_end_users,
    ndcg_at,
    recall_at,
    target_ranks,
    training_catalog,
)
from llmrec.items import ModalityVectors, concatenate, modalities_of, unit
from llmrec.items.fusion import FusionConfig
from llmrec.retrieval import standardise
from llmrec.retrieval.signals import history_weights
from llmrec.training import train_fusion

PARTS = ("validation", "test")
HALF_LIVES = (3.0, 10.0, 30.0)
WEIGHTS = (0.1, 0.3, 1.0)
POPULARITY_WEIGHTS = (0.25, 0.5, 1.0, 2.0)
Ranks = NDArray[np.float64]  # [users], the best is 1
Scores = NDArray[np.float64]  # [users, items], higher is better


@dataclass(frozen=True, eq=False)
class Case:
    """A data set, its split, and the vectors of its items, made of what training rows allow."""

    catalog: Catalog
    split: Split
    modalities: Mapping[str, ModalityVectors]

    @cached_property
    def training(self) -> Catalog:
        """The catalogue without what is held out."""
        return training_catalog(self.catalog, self.split)

    @cached_property
    def item_ids(self) -> tuple[str, ...]:
        """Items in the order of the columns."""
        return tuple(self.catalog.items)

    @cached_property
    def columns(self) -> Mapping[str, int]:
        """Column by item id."""
        return {item_id: column for column, item_id in enumerate(self.item_ids)}

    @cached_property
    def held(self) -> Mapping[str, tuple[HeldOut, ...]]:
        """Users with their targets, by part."""
        return {
            "validation": end_to_end_users(self.catalog, self.split, which="validation"),
            "test": end_to_end_users(self.catalog, self.split),
        }

    @cached_property
    def popularity(self) -> NDArray[np.float64]:
        """Log of 1 + training rows: [items]."""
        rows = [self.columns[row.item_id] for row in self.training.interactions]
        return np.log1p(np.bincount(rows, minlength=len(self.item_ids)).astype(np.float64))

    def history(self, held: HeldOut) -> list[int]:
        """Columns of the items that a user met, oldest first."""
        return [self.columns[row.item_id] for row in held.user.history]

    def rank(self, scores: Scores, which: str, among: NDArray[np.bool_] | None = None) -> Ranks:
        """Rank targets among all items, or those of ``among``, but the history's."""
        users = self.held[which]
        table = np.array(scores, dtype=np.float64)
        targets = np.array([self.columns[held.target] for held in users])
        for row, held in enumerate(users):
            table[row, self.history(held)] = -np.inf
        if among is not None:
            table, targets = table[:, among], np.cumsum(among)[targets] - 1
        return target_ranks(table, targets, seed=SEED)


def load_case(catalog: Catalog, split: Split) -> Case:
    """Embed the data set's texts, the reviews that training may know, and pictures."""
    encoder = TextEncoder.from_pretrained()
    given = modalities_of(training_catalog(catalog, split), encoder, progress=True)
    return Case(catalog, split, {modality.name: modality for modality in given})


def subsets(names: Sequence[str]) -> list[tuple[str, ...]]:
    """Each modality, each pair, all."""
    sizes = sorted({1, min(2, len(names)), len(names)})
    return [some for size in sizes for some in combinations(names, size)]


def centred(given: ModalityVectors) -> ModalityVectors:
    """Subtract the mean of the items that have the modality, as the retriever does."""
    rows = np.where(
        given.present[:, None], given.vectors - given.vectors[given.present].mean(axis=0), 0
    )
    return replace(given, vectors=unit(rows).astype(np.float32))


def content_scores(
    case: Case, names: Sequence[str], which: str, half_life: float, weights: Sequence[float] = ()
) -> Scores:
    """Cosine of an item's concatenated vectors and the weighted mean of the history's."""
    weigh = dict(zip(names, weights, strict=False))
    together = concatenate([centred(case.modalities[name]) for name in names], weigh).vectors
    tastes = [
        history_weights(held.user, half_life) @ together[case.history(held)]
        for held in case.held[which]
    ]
    return np.asarray(unit(np.array(tastes)) @ together.T, dtype=np.float64)


@dataclass(frozen=True)
class Untrained:
    """The settings of a concatenation: half-life of the history, weight of each modality."""

    half_life: float
    weights: tuple[float, ...]

    def about(self, names: Sequence[str]) -> dict[str, str | int | float]:
        """For a table."""
        weights = {f"weight {n}": w for n, w in zip(names, self.weights, strict=True)}
        return {"half_life": self.half_life, **(weights if len(names) > 1 else {})}


def untrained(
    case: Case, names: Sequence[str], ranked: Callable[[Scores, str], Ranks]
) -> tuple[dict[str, Ranks], Untrained]:
    """Ranks by part of the concatenation with the best half-life and weights on validation."""
    grid = [
        Untrained(half_life, (1.0, *others))
        for half_life in HALF_LIVES
        for others in product(WEIGHTS, repeat=len(names) - 1)
    ]

    def by(some: Untrained, which: str) -> Ranks:
        scores = content_scores(case, names, which, some.half_life, some.weights)
        return ranked(scores, which)

    best = max(grid, key=lambda some: quality(by(some, "validation")))
    return {which: by(best, which) for which in PARTS}, best


def with_popularity(
    case: Case, names: Sequence[str], how: Untrained, ranked: Callable[[Scores, str], Ranks]
) -> tuple[dict[str, Ranks], dict[str, float]]:
    """The same plus popularity, both standardised; its weight is the best of four on validation."""
    scores = {}
    for which in PARTS:
        content = content_scores(case, names, which, how.half_life, how.weights)
        scores[which] = np.array([standardise(row) for row in content])
    popular = standardise(case.popularity)

    def by(weight: float, which: str) -> Ranks:
        return ranked(scores[which] + weight * popular, which)

    best = max(POPULARITY_WEIGHTS, key=lambda weight: quality(by(weight, "validation")))
    return {which: by(best, which) for which in PARTS}, {"popularity_weight": best}


def quality(ranks: Ranks) -> float:
    """The metric that settings are chosen by: recall@20, ties broken by nDCG@10."""
    return float(recall_at(ranks, 20).mean() + 1e-3 * ndcg_at(ranks, 10).mean())


def rank_metrics(seeds: Sequence[Ranks]) -> dict[str, NDArray[np.float64]]:
    """Metrics a user: of several seeds, each user's mean."""
    return {
        "recall@20": np.mean([recall_at(ranks, 20) for ranks in seeds], axis=0),
        "recall@10": np.mean([recall_at(ranks, 10) for ranks in seeds], axis=0),
        "ndcg@10": np.mean([ndcg_at(ranks, 10) for ranks in seeds], axis=0),
    }


def kept_ranks(
    kept: Kept, about: Mapping[str, object], make: Callable[[], Mapping[str, Ranks]]
) -> dict[str, Ranks]:
    """Ranks by part and by the items ranked, made only where they are not in the log."""
    plain = json.dumps(about, sort_keys=True)
    entry = kept(
        hashlib.sha256(plain.encode()).hexdigest(),
        lambda: {
            "about": json.loads(plain),
            "ranks": {name: found.tolist() for name, found in make().items()},
        },
    )
    return {name: np.array(found) for name, found in entry["ranks"].items()}


def trained(
    case: Case,
    names: Sequence[str],
    kept: Kept,
    rank_all: Callable[[Callable[[str], Scores]], Mapping[str, Ranks]],
    *,
    config: FusionConfig,
    split: str,
) -> dict[str, Ranks]:
    """Ranks of a fusion of some modalities, trained on training rows, stopped by validation.

    Args:
        case: The data.
        names: The modalities.
        kept: The log of ranks.
        rank_all: Given the scores a part, returns the ranks that are logged.
        config: Settings with the seed.
        split: A name of the split and of what is ranked, for the key.
    """
    chosen = [case.modalities[name] for name in names]
    digest = hashlib.sha256(b"".join(given.vectors.tobytes() for given in chosen)).hexdigest()
    about = {
        "row": list(names),
        "data": case.catalog.fingerprint,
        "split": split,
        "vectors": digest,
        "config": asdict(config),
    }

    def make() -> Mapping[str, Ranks]:
        fusion = train_fusion(
            case.training, chosen, case.split.validation, config, progress=True
        ).fusion
        items = fusion.item_vectors(chosen, case.item_ids)

        def score(which: str) -> Scores:
            users = fusion.user_vectors(
                [items[case.history(held)] for held in case.held[which]],
                [held.user for held in case.held[which]],
            )
            return np.asarray(users @ items.T, dtype=np.float64)

        return rank_all(score)

    return kept_ranks(kept, about, make)


def simple_rows(
    case: Case, ranked: Callable[[Scores, str], Ranks]
) -> tuple[dict[str, list[Ranks]], dict[str, dict[str, str | int | float]]]:
    """All rows without training."""
    shape = (len(case.held["test"]), len(case.item_ids))
    rows = {
        "random": [ranked(np.zeros(shape), "test")],
        "popularity": [ranked(np.tile(case.popularity, (shape[0], 1)), "test")],
    }
    about: dict[str, dict[str, str | int | float]] = {}
    for names in subsets(tuple(case.modalities)):
        ranks, how = untrained(case, names, ranked)
        whole = len(names) == len(case.modalities)
        name = "concatenation, all" if whole else f"untrained, {' + '.join(names)}"
        rows[name], about[name] = [ranks["test"]], how.about(names)
    ranks, more = with_popularity(case, names, how, ranked)
    rows["concatenation, all + popularity"] = [ranks["test"]]
    about["concatenation, all + popularity"] = {**how.about(names), **more}
    return rows, about


def with_friends(case: Case, settings: dict[str, str | int | float]) -> tuple[Ranks, float]:
    """Content, popularity and friends: test ranks, and the weight chosen on validation."""
    popular = float(settings["popularity_weight"]) * standardise(case.popularity)

    def scores(which: str) -> tuple[Scores, Scores]:
        content = content_scores(case, tuple(case.modalities), which, float(settings["half_life"]))
        met = friends_met(case, which)
        base = np.array([standardise(row) for row in content]) + popular
        return base, np.array([standardise(row) for row in met])

    base, friends = scores("validation")
    weights = (0.0, *POPULARITY_WEIGHTS)
    best = max(weights, key=lambda w: quality(case.rank(base + w * friends, "validation")))
    base, friends = scores("test")
    return case.rank(base + best * friends, "test"), best


def friends_met(case: Case, which: str) -> Scores:
    """Log of 1 + how many of a user's friends met an item in a training row."""
    users = {user_id: row for row, user_id in enumerate(case.catalog.user_ids)}
    train = case.training.interactions
    met = csr_matrix(
        (
            np.ones(len(train)),
            ([users[row.user_id] for row in train], [case.columns[row.item_id] for row in train]),
        ),
        shape=(len(users), len(case.item_ids)),
    )
    edges = [
        (row, users[friend])
        for row, held in enumerate(case.held[which])
        for friend in case.catalog.friends.get(held.user.user_id, ())
        if friend in users
    ]
    rows, columns = np.array(edges).T
    known = csr_matrix((np.ones(len(edges)), (rows, columns)), (len(case.held[which]), len(users)))
    return np.asarray(np.log1p((known @ met).toarray()), dtype=np.float64)
