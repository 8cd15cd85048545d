"""Causal language models: one protocol, and the transformers model with its prefix tree.

``TransformersModel`` loads on first use: ranking without a language model loads no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmrec.language_models.labels import MOST_LABELS, labels_for
from llmrec.language_models.protocol import (
    ContinuationRequest,
    Generated,
    GenerationRequest,
    LabelRequest,
    LanguageModel,
    LogProbs,
)
from llmrec.language_models.scored_sequence import ScoredSequence

if TYPE_CHECKING:
    from llmrec.language_models.transformers_model import TransformersModel

__all__ = [
    "MOST_LABELS",
    "ContinuationRequest",
    "Generated",
    "GenerationRequest",
    "LabelRequest",
    "LanguageModel",
    "LogProbs",
    "ScoredSequence",
    "TransformersModel",
    "labels_for",
]


def __getattr__(name: str) -> type[TransformersModel]:
    """Load the transformers model (PEP 562)."""
    if name != "TransformersModel":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from llmrec.language_models.transformers_model import TransformersModel  # noqa: PLC0415

    return TransformersModel
