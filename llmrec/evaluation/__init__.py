"""Metrics of ranked lists, significance, the two protocols and tables of results."""

from __future__ import annotations

from llmrec.evaluation.metrics import (
    average_precision,
    hit_at,
    ndcg_at,
    rarity_classes,
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
from llmrec.evaluation.result_tables import (
    Contrast,
    Row,
    compare_rows,
    markdown_table,
)
from llmrec.evaluation.statistics import (
    Comparison,
    Estimate,
    compare,
    comparisons,
    estimate,
    estimates,
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
    "average_precision",
    "compare",
    "compare_rows",
    "comparisons",
    "discrimination_lists",
    "end_to_end_users",
    "estimate",
    "estimates",
    "hit_at",
    "holm",
    "markdown_table",
    "ndcg_at",
    "rarity_classes",
    "recall_at",
    "reciprocal_rank",
    "smallest_difference",
    "target_ranks",
    "training_catalog",
]
