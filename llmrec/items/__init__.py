"""What is understood of items, and the vectors made of it.

Captions of pictures and clips, opinions of reviewers, facts and tastes, all of it in words;
embeddings of every modality, cached on disk by the content they were made from.
"""

from __future__ import annotations

from llmrec.items.clip_vectors import embed_clips
from llmrec.items.facts import item_facts
from llmrec.items.modality import ModalityVectors
from llmrec.items.opinions import understand_reviews
from llmrec.items.picture_encoders import PictureEncoder, embed_pictures
from llmrec.items.review_vectors import embed_reviews
from llmrec.items.sentiment import DEFAULT_SENTIMENT_MODEL
from llmrec.items.sound_encoder import SoundEncoder, embed_sounds
from llmrec.items.taste import Taste, Tastes
from llmrec.items.text_encoder import Encoded, SentenceEncoder, TextEncoder, item_text
from llmrec.items.vector_cache import VectorCache
from llmrec.items.wording import opinion_line, taste_line

__all__ = [
    "DEFAULT_SENTIMENT_MODEL",
    "Encoded",
    "ModalityVectors",
    "PictureEncoder",
    "SentenceEncoder",
    "SoundEncoder",
    "Taste",
    "Tastes",
    "TextEncoder",
    "VectorCache",
    "embed_clips",
    "embed_pictures",
    "embed_reviews",
    "embed_sounds",
    "item_facts",
    "item_text",
    "opinion_line",
    "taste_line",
    "understand_reviews",
]
