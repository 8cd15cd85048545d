"""Ways to rank with a language model, and their fusion with what the retriever knows."""

from __future__ import annotations

from llmrec.reranking.calibration import Calibrated
from llmrec.reranking.driver import judge
from llmrec.reranking.generated import ListwiseGenerated
from llmrec.reranking.graded import Graded
from llmrec.reranking.likelihood import Likelihood
from llmrec.reranking.listwise import Listwise
from llmrec.reranking.pairwise import Pairwise
from llmrec.reranking.pointwise import Pointwise
from llmrec.reranking.reranker import Reranker, retrieval_ranking, signal_table
from llmrec.reranking.score_fusion import (
    ZERO_SHOT_WEIGHTS,
    FittedWeights,
    SignalList,
    fit_weights,
    fuse,
)
from llmrec.reranking.setwise import Setwise
from llmrec.reranking.shuffling import Shuffled
from llmrec.reranking.strategies import STRATEGIES, make_strategy
from llmrec.reranking.strategy import Judgement, Question, Strategy
from llmrec.reranking.tournament import Tournament

__all__ = [
    "STRATEGIES",
    "ZERO_SHOT_WEIGHTS",
    "Calibrated",
    "FittedWeights",
    "Graded",
    "Judgement",
    "Likelihood",
    "Listwise",
    "ListwiseGenerated",
    "Pairwise",
    "Pointwise",
    "Question",
    "Reranker",
    "Setwise",
    "Shuffled",
    "SignalList",
    "Strategy",
    "Tournament",
    "fit_weights",
    "fuse",
    "judge",
    "make_strategy",
    "retrieval_ranking",
    "signal_table",
]
