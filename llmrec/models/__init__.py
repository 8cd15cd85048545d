"""Models: where they come from, what they run on, and the one protocol that rerankers ask.

``TransformersModel`` loads on first use, and ``llmrec.models.hardware`` is imported by its own
name: both load torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmrec.models.build_cache import cache_folder
from llmrec.models.labels import MOST_LABELS, labels_for
from llmrec.models.packaged import PACKAGED, PackagedModel
from llmrec.models.protocol import (
    ContinuationRequest,
    Generated,
    GenerationRequest,
    LabelRequest,
    LanguageModel,
    LogProbs,
    TextTokenizer,
)
from llmrec.models.scored_sequence import ScoredSequence
from llmrec.models.sources import (
    DEFAULT_CAPTIONER,
    DEFAULT_IMAGE_ENCODER,
    DEFAULT_LANGUAGE_MODEL,
    DEFAULT_SOUND_ENCODER,
    DEFAULT_TEXT_ENCODER,
    OFFLINE_IMAGE_MODEL,
    ModelFolder,
    resolve_model,
)

if TYPE_CHECKING:
    from llmrec.models.transformers_model import TransformersModel

__all__ = [
    "DEFAULT_CAPTIONER",
    "DEFAULT_IMAGE_ENCODER",
    "DEFAULT_LANGUAGE_MODEL",
    "DEFAULT_SOUND_ENCODER",
    "DEFAULT_TEXT_ENCODER",
    "MOST_LABELS",
    "OFFLINE_IMAGE_MODEL",
    "PACKAGED",
    "ContinuationRequest",
    "Generated",
    "GenerationRequest",
    "LabelRequest",
    "LanguageModel",
    "LogProbs",
    "ModelFolder",
    "PackagedModel",
    "ScoredSequence",
    "TextTokenizer",
    "TransformersModel",
    "cache_folder",
    "labels_for",
    "resolve_model",
]


def __getattr__(name: str) -> type[TransformersModel]:
    """Load the transformers model (PEP 562)."""
    if name != "TransformersModel":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from llmrec.models.transformers_model import TransformersModel  # noqa: PLC0415

    return TransformersModel
