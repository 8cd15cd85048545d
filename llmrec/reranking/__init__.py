"""Ranking strategies for language models, and fusion with the retriever's scores."""

from __future__ import annotations

from llmrec.reranking.calibration import Calibrated
from llmrec.reranking.driver import judge
from llmrec.reranking.gate import Gate, GateLists, catalogue_scale, keep_gate
from llmrec.reranking.gate_defaults import DEFAULT_GATES
from llmrec.reranking.gate_fit import GateFit, choose_gate, fit_gate
from llmrec.reranking.likelihood import Likelihood
from llmrec.reranking.listwise import Listwise, ListwiseGenerated, Tournament
from llmrec.reranking.pairwise import Pairwise
from llmrec.reranking.pointwise import Graded, Pointwise
from llmrec.reranking.rankings import retrieval_ranking, retrieval_signal
from llmrec.reranking.requests import Request, items_context, make_request, read_request
from llmrec.reranking.reranker import ZERO_SHOT_WEIGHTS, Reranker
from llmrec.reranking.setwise import Setwise
from llmrec.reranking.shuffling import Shuffled
from llmrec.reranking.strategies import STRATEGIES, make_strategy
from llmrec.reranking.strategy import Judgement, Question, Strategy

__all__ = [
    "DEFAULT_GATES",
    "STRATEGIES",
    "ZERO_SHOT_WEIGHTS",
    "Calibrated",
    "Gate",
    "GateFit",
    "GateLists",
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
    "catalogue_scale",
    "choose_gate",
    "fit_gate",
    "items_context",
    "judge",
    "keep_gate",
    "make_request",
    "make_strategy",
    "read_request",
    "retrieval_ranking",
    "retrieval_signal",
]
