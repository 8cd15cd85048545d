"""Ranking strategies for language models, and fusion with the retriever's scores."""

from __future__ import annotations

from llmrec.reranking.calibration import Calibrated
from llmrec.reranking.driver import judge
from llmrec.reranking.likelihood import Likelihood
from llmrec.reranking.listwise import Listwise, ListwiseGenerated, Tournament
from llmrec.reranking.pairwise import Pairwise
from llmrec.reranking.pointwise import Graded, Pointwise
from llmrec.reranking.requests import Request, items_context, make_request, read_request
from llmrec.reranking.reranker import (
    ZERO_SHOT_WEIGHTS,
    Reranker,
    retrieval_ranking,
    retrieval_signal,
)
from llmrec.reranking.setwise import Setwise
from llmrec.reranking.shuffling import Shuffled
from llmrec.reranking.strategies import STRATEGIES, make_strategy
from llmrec.reranking.strategy import Judgement, Question, Strategy

__all__ = [
    "STRATEGIES",
    "ZERO_SHOT_WEIGHTS",
    "Calibrated",
    "Graded",
    "Judgement",
    "Likelihood",
    "Listwise",
    "ListwiseGenerated",
    "Pairwise",
    "Pointwise",
    "Question",
    "Request",
    "Reranker",
    "Setwise",
    "Shuffled",
    "Strategy",
    "Tournament",
    "items_context",
    "judge",
    "make_request",
    "make_strategy",
    "read_request",
    "retrieval_ranking",
    "retrieval_signal",
]
