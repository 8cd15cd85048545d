"""Metrics of ranked lists, significance, the two protocols and the report of results."""

from __future__ import annotations

from llmrec.evaluation.metrics import (
    listed_ranks,
    ndcg_at,
    recall_at,
    reciprocal_rank,
    target_ranks,
)
from llmrec.evaluation.protocols import (
    CandidateList,
    HeldOut,
    discrimination_lists,
    end_to_end_users,
    training_catalog,
)
from llmrec.evaluation.report import Contrast, Row, compare_rows, json_document, markdown_table
from llmrec.evaluation.significance import (
    Comparison,
    Estimate,
    compare,
    estimate,
    holm,
    smallest_difference,
)

__all__ = [
    "CandidateList",
    "Comparison",
    "Contrast",
    "Estimate",
    "HeldOut",
    "Row",
    "compare",
    "compare_rows",
    "discrimination_lists",
    "end_to_end_users",
    "estimate",
    "holm",
    "json_document",
    "listed_ranks",
    "markdown_table",
    "ndcg_at",
    "recall_at",
    "reciprocal_rank",
    "smallest_difference",
    "target_ranks",
    "training_catalog",
]
