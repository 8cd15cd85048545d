"""Understanding of items (captions, opinions, facts, taste) and their vectors.

Captions of pictures and clips, opinions of reviewers, facts and tastes, all of it in words;
embeddings of every modality, cached on disk by the content they were made from.
"""

from __future__ import annotations

from llmrec.items.cached_results import VectorCache
from llmrec.items.captions import caption_pictures, load_captioner
from llmrec.items.clips import embed_clips
from llmrec.items.facts import item_facts
from llmrec.items.modality import (
    MODALITY_WEIGHTS,
    ModalityVectors,
    concatenate,
    unit,
)
from llmrec.items.opinions import opinion_line, understand_reviews
from llmrec.items.pictures import (
    PictureEncoder,
    PictureError,
    embed_pictures,
    open_picture,
    picture_path,
    picture_uri,
)
from llmrec.items.reviews import embed_reviews
from llmrec.items.sentiment import DEFAULT_SENTIMENT_MODEL
from llmrec.items.sounds import SoundEncoder, embed_sounds
from llmrec.items.taste import Taste, Tastes, taste_line
from llmrec.items.text_encoder import Encoded, Encoder, SentenceEncoder, TextEncoder, item_text
from llmrec.items.understanding import check_parts, modalities_of, understand_items

__all__ = [
    "DEFAULT_SENTIMENT_MODEL",
    "MODALITY_WEIGHTS",
    "Encoded",
    "Encoder",
    "ModalityVectors",
    "PictureEncoder",
    "PictureError",
    "SentenceEncoder",
    "SoundEncoder",
    "Taste",
    "Tastes",
    "TextEncoder",
    "VectorCache",
    "caption_pictures",
    "check_parts",
    "concatenate",
    "embed_clips",
    "embed_pictures",
    "embed_reviews",
    "embed_sounds",
    "item_facts",
    "item_text",
    "load_captioner",
    "modalities_of",
    "open_picture",
    "opinion_line",
    "picture_path",
    "picture_uri",
    "taste_line",
    "understand_items",
    "understand_reviews",
    "unit",
]
