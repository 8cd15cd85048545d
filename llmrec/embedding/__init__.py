"""Text embeddings of items and profiles, cached on disk by the content they were made from."""

from __future__ import annotations

from llmrec.embedding.cache import VectorCache
from llmrec.embedding.modality import ModalityVectors
from llmrec.embedding.text import Encoded, SentenceEncoder, TextEncoder, item_text

__all__ = [
    "Encoded",
    "ModalityVectors",
    "SentenceEncoder",
    "TextEncoder",
    "VectorCache",
    "item_text",
]
