"""Text embeddings of items and profiles, cached on disk by the content they were made from."""

from __future__ import annotations

from llmrec.embedding.cache import VectorCache
from llmrec.embedding.clips import embed_clips
from llmrec.embedding.modality import ModalityVectors
from llmrec.embedding.pictures import PictureEncoder, embed_pictures
from llmrec.embedding.reviews import embed_reviews
from llmrec.embedding.sounds import SoundEncoder, embed_sounds
from llmrec.embedding.text import Encoded, SentenceEncoder, TextEncoder, item_text

__all__ = [
    "Encoded",
    "ModalityVectors",
    "PictureEncoder",
    "SentenceEncoder",
    "SoundEncoder",
    "TextEncoder",
    "VectorCache",
    "embed_clips",
    "embed_pictures",
    "embed_reviews",
    "embed_sounds",
    "item_text",
]
