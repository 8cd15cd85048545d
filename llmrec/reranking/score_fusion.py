"""What the language model's score weighs beside the retriever's."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from llmrec.reranking.strategies import STRATEGIES
from llmrec.retrieval import FittedWeights, SignalList, fit_weights, fuse

__all__ = ["ZERO_SHOT_WEIGHTS", "FittedWeights", "SignalList", "fit_weights", "fuse"]

ZERO_SHOT_WEIGHTS: Mapping[str, float] = MappingProxyType(
    {"retrieval": 1.0, **dict.fromkeys(STRATEGIES, 0.2)}
)
"""Weights where nothing was fitted: one for the retriever, a fifth for each strategy.

A small model zero-shot adds to what the retriever knows, but at full weight it would drown a
retriever that knows more than texts. Fit weights (`fit_weights`, ``llmrec fit``) where there are
validation users.
"""
