"""Ways to rank with a language model, and their fusion with what the retriever knows."""

from __future__ import annotations

from llmrec.reranking.likelihood import Likelihood
from llmrec.reranking.pointwise import Pointwise
from llmrec.reranking.reranker import (
    STRATEGIES,
    Reranker,
    make_strategy,
    retrieval_ranking,
    signal_table,
)
from llmrec.reranking.score_fusion import (
    ZERO_SHOT_WEIGHTS,
    FittedWeights,
    SignalList,
    fit_weights,
    fuse,
)
from llmrec.reranking.strategy import Judgement, Question, Strategy

__all__ = [
    "STRATEGIES",
    "ZERO_SHOT_WEIGHTS",
    "FittedWeights",
    "Judgement",
    "Likelihood",
    "Pointwise",
    "Question",
    "Reranker",
    "SignalList",
    "Strategy",
    "fit_weights",
    "fuse",
    "make_strategy",
    "retrieval_ranking",
    "signal_table",
]
