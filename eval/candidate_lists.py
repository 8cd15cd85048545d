"""Lists of candidates with a held-out target, and a language model's scores of them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from data_sets import SEED, Held, Kept
from numpy.typing import NDArray

from llmrec import Reranker, Retriever, User
from llmrec.evaluation import discrimination_lists, ndcg_at, recall_at, reciprocal_rank
from llmrec.records import Usage
from llmrec.reranking import Judgement

TOP = 20
"""Candidates in a list."""
MOST = 300
"""Users of the discrimination tables."""


@dataclass(frozen=True)
class Asked:
    """A user, the candidates, and the target's place among them, from 0."""

    user: User
    item_ids: tuple[str, ...]
    target: int


def sampled_lists(data: Held, which: Any = "test", candidates: int = TOP) -> list[Asked]:  # noqa: ANN401
    """The target among random unseen items, shuffled, for every user that qualifies."""
    lists = discrimination_lists(
        data.catalog, data.split, which=which, negatives=candidates - 1, seed=SEED
    )
    return [Asked(c.user, c.item_ids, c.item_ids.index(c.target)) for c in lists]


def thinned(asked: Sequence[Asked], n: int) -> list[Asked]:
    """At most n of the lists, evenly spaced."""
    places = np.linspace(0, len(asked) - 1, min(n, len(asked))).round().astype(int)
    return [asked[place] for place in places]


def discrimination(data: Held) -> list[Asked]:
    """The target among 19 random unseen items, for 300 evenly spaced users."""
    return thinned(sampled_lists(data), MOST)


def retriever_of(data: Held, popularity: float = 1.0) -> Retriever:
    """The retriever of these tables: content and popularity."""
    return Retriever(data.index, weights={"content": 1.0, "popularity": popularity})


def retrieval_signals(
    retriever: Retriever, asked: Sequence[Asked]
) -> dict[str, NDArray[np.float64]]:
    """Content, popularity and the retriever's own score: float64 [users, items]."""
    table: dict[str, list[list[float]]] = {"content": [], "popularity": [], "score": []}
    for entry in asked:
        found = {c.item_id: c for c in retriever.candidates(entry.user, entry.item_ids)}
        ordered = [found[item_id] for item_id in entry.item_ids]
        table["score"].append([candidate.score for candidate in ordered])
        for name in ("content", "popularity"):
            table[name].append([candidate.signals[name] for candidate in ordered])
    return {name: np.array(rows) for name, rows in table.items()}


def rank_metrics(
    ranks: NDArray[np.float64], *, recall: bool = False
) -> dict[str, NDArray[np.float64]]:
    """Metrics of one row, a value a user."""
    metrics = {"ndcg@10": ndcg_at(ranks, 10), "mrr": reciprocal_rank(ranks)}
    return {"recall@20": recall_at(ranks, TOP), **metrics} if recall else metrics


def judgement(reranker: Reranker, retriever: Retriever, asked: Asked) -> Judgement:
    """The language model's scores in the order of the list."""
    found = {c.item_id: c for c in retriever.candidates(asked.user, asked.item_ids)}
    judged: Judgement
    (judged,) = reranker.judge(asked.user, [found[i] for i in asked.item_ids]).values()
    return judged


def judged_scores(
    kept: Kept, reranker: Reranker, retriever: Retriever, asked: Asked
) -> tuple[list[float], Usage]:
    """The scores and their cost; asked of the model only where they are not in the log."""

    def ask() -> dict[str, Any]:
        judged = judgement(reranker, retriever, asked)
        scores = [None if np.isnan(score) else score for score in judged.scores.tolist()]
        return {"scores": scores, "usage": asdict(judged.usage)}

    entry = kept(score_key(reranker, asked), ask)
    return [np.nan if s is None else s for s in entry["scores"]], Usage(**entry["usage"])


def score_key(reranker: Reranker, asked: Asked) -> str:
    """What a list's scores depend on: strategy, template, budget, model, data, history, items."""
    history = [f"{row.item_id}={row.rating}" for row in asked.user.history]
    content = [reranker.weights_key, reranker.index.fingerprint, asked.user.user_id]
    content = [*content, *history, "candidates", *asked.item_ids]
    return hashlib.sha256("\0".join(content).encode()).hexdigest()
