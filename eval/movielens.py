"""What the MovieLens evaluations share: the data, the split, and scores kept as they come."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from data_sets import columns_of
from kept import read_kept
from numpy.typing import NDArray

from llmrec import Catalog, Index, Reranker, Retriever, TextEncoder, User
from llmrec.catalog import Split, leave_one_out
from llmrec.evaluation import ndcg_at, recall_at, reciprocal_rank, training_catalog
from llmrec.prompting import context_of
from llmrec.records import Usage
from llmrec.reranking import Judgement, Request
from llmrec.retrieval import FittedWeights

TOP = 20
"""Candidates that the retriever proposes end to end."""


@dataclass(frozen=True)
class MovieLens:
    """The catalogue, its leave-one-out split by time, and an index of the training rows alone."""

    catalog: Catalog
    split: Split
    index: Index


def load(folder: Path) -> MovieLens:
    """Read, split and embed; popularity, histories and reviews of the index are training rows."""
    catalog = Catalog.from_folder(folder, columns=columns_of(folder))
    split = leave_one_out(catalog)
    encoder = TextEncoder.from_pretrained()
    index = Index.build(
        training_catalog(catalog, split), encoder, modalities=(), insights={}, progress=True
    )
    return MovieLens(catalog, split, index)


def retriever_of(data: MovieLens) -> Retriever:
    """Content and popularity, which the older tables call the retriever."""
    return Retriever(data.index, weights={"content": 1.0, "popularity": 1.0})


@dataclass(frozen=True)
class Asked:
    """A user, the items to order, and where among them the target stands."""

    user: User
    item_ids: tuple[str, ...]
    target: int


def retrieval_signals(
    retriever: Retriever, asked: Sequence[Asked]
) -> dict[str, NDArray[np.float64]]:
    """Each signal and the retriever's own score, float64 [users, items], in the lists' order."""
    table: dict[str, list[list[float]]] = {"content": [], "popularity": [], "score": []}
    for entry in asked:
        found = {c.item_id: c for c in retriever.candidates(entry.user, entry.item_ids)}
        ordered = [found[item_id] for item_id in entry.item_ids]
        table["score"].append([candidate.score for candidate in ordered])
        for name in ("content", "popularity"):
            table[name].append([candidate.signals[name] for candidate in ordered])
    return {name: np.array(rows) for name, rows in table.items()}


class KeptScores:
    """A language model's scores, one JSON line a list, so that a killed run goes on."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.known = read_kept(path)

    def judge(
        self, reranker: Reranker, retriever: Retriever, asked: Asked
    ) -> tuple[list[float], Usage]:
        """Scores in the order of ``asked.item_ids``; asked of the model only where not kept."""
        judged = self.judgement(reranker, retriever, asked)
        return judged.scores.tolist(), judged.usage

    def judgement(self, reranker: Reranker, retriever: Retriever, asked: Asked) -> Judgement:
        """The same with what did not go as asked."""
        return self.judgements(reranker, retriever, [asked])[0]

    def judgements(
        self, reranker: Reranker, retriever: Retriever, asked: Sequence[Asked]
    ) -> list[Judgement]:
        """The same for several lists, which are asked together where they are not kept."""
        keys = [score_key(reranker, entry) for entry in asked]
        new = [row for row, key in enumerate(keys) if key not in self.known]
        lists = []
        context = context_of(reranker.index)
        for row in new:
            user, ids = asked[row].user, asked[row].item_ids
            found = {c.item_id: c for c in retriever.candidates(user, ids)}
            lists.append(Request(user, tuple(found[item_id] for item_id in ids), context))
        for row, judgements in zip(new, reranker.judge_many(lists) if lists else (), strict=True):
            (judged,) = judgements.values()
            usage = judged.usage
            entry = {
                "key": keys[row],
                "scores": judged.scores.tolist(),
                "usage": [usage.tokens_given, usage.tokens_forwarded, usage.forwards],
                "more": [usage.tokens_generated, usage.prompts],
                "seconds": usage.seconds,
                "fallbacks": dict(judged.fallbacks),
            }
            with self.path.open("a") as file:
                file.write(json.dumps(entry) + "\n")
            self.known[keys[row]] = entry
        return [_judgement(self.known[key]) for key in keys]


def _judgement(entry: dict[str, Any]) -> Judgement:
    given, forwarded, forwards = entry["usage"]
    generated, prompts = entry.get("more", (0, 0))
    return Judgement(
        np.array(entry["scores"], dtype=np.float64),
        Usage(given, forwarded, generated, forwards, entry["seconds"], prompts),
        entry.get("fallbacks", {}),
    )


def score_key(reranker: Reranker, asked: Asked) -> str:
    """What a list's scores depend on: strategy, template, budget, model, data, history, items."""
    history = [f"{row.item_id}={row.rating}" for row in asked.user.history]
    content = [reranker.weights_key, reranker.index.fingerprint, asked.user.user_id]
    content = [*content, *history, "candidates", *asked.item_ids]
    return hashlib.sha256("\0".join(content).encode()).hexdigest()


def rank_metrics(
    ranks: NDArray[np.float64], *, recall: bool = False
) -> dict[str, NDArray[np.float64]]:
    """Metrics of one row, a value a user."""
    metrics = {"ndcg@10": ndcg_at(ranks, 10), "mrr": reciprocal_rank(ranks)}
    return {"recall@20": recall_at(ranks, TOP), **metrics} if recall else metrics


def weights_table(fits: Mapping[str, FittedWeights]) -> str:
    """Fitted weights with the p-value of leaving each signal out."""
    lines = ["Weights fitted on validation users, with the p-value of leaving the signal out:", ""]
    for name, found in fits.items():
        parts = [f"{s} {w:.2f} (p {found.p_values[s]:.1g})" for s, w in found.weights.items()]
        lines.append(f"- {name}, {found.lists} lists: {', '.join(parts)}")
    return "\n".join(lines) + "\n"


def cost_line(name: str, usage: Usage, users: int) -> str:
    """What the scores of a table took."""
    return (
        f"{name}: {usage.tokens_forwarded / users:.0f} tokens forwarded a user where whole prompts "
        f"have {usage.tokens_given / users:.0f}."
    )
