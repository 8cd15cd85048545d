"""Causal language models: one protocol, and the transformers model with its prefix tree."""

from __future__ import annotations

from llmrec.language_models.protocol import Generated, LanguageModel, LogProbs, ScoredSequence
from llmrec.language_models.transformers_model import TransformersModel

__all__ = ["Generated", "LanguageModel", "LogProbs", "ScoredSequence", "TransformersModel"]
