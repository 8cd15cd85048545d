"""Language models: references, hardware, and one interface for all backends.

Importing this package loads no torch: `TransformersModel` loads on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmrec.models.build_cache import cache_folder
from llmrec.models.hardware import choose_placement, halve_until_it_fits
from llmrec.models.labels import MOST_LABELS, labels_for
from llmrec.models.packaged import PACKAGED, PackagedModel
from llmrec.models.prefix_tree import ScoredSequence
from llmrec.models.protocol import (
    ContinuationRequest,
    Generated,
    GenerationRequest,
    LabelRequest,
    LanguageModel,
    LogProbs,
    TextTokenizer,
)
from llmrec.models.references import load_model, load_reader, parse_reference
from llmrec.models.resolve import (
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
    "DEFAULT_CAPTIONER", "DEFAULT_IMAGE_ENCODER", "DEFAULT_LANGUAGE_MODEL", "DEFAULT_SOUND_ENCODER",
    "DEFAULT_TEXT_ENCODER", "MOST_LABELS", "OFFLINE_IMAGE_MODEL", "PACKAGED", "ContinuationRequest",
    "Generated", "GenerationRequest", "LabelRequest", "LanguageModel", "LogProbs", "ModelFolder",
    "PackagedModel", "ScoredSequence", "TextTokenizer", "TransformersModel", "cache_folder",
    "choose_placement", "halve_until_it_fits", "labels_for", "load_model", "load_reader",
    "parse_reference", "resolve_model",
]  # fmt: skip


def __getattr__(name: str) -> type[TransformersModel]:
    """Load the transformers model (PEP 562)."""
    if name != "TransformersModel":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from llmrec.models.transformers_model import TransformersModel  # noqa: PLC0415

    return TransformersModel
