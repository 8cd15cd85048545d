"""What is understood of items and users beside the text their files give.

Captions of pictures and clips, opinions of reviewers, facts, tastes: all of it in words.
"""

from __future__ import annotations

from llmrec.understanding.facts import item_facts
from llmrec.understanding.opinions import understand_reviews
from llmrec.understanding.sentiment import DEFAULT_SENTIMENT_MODEL
from llmrec.understanding.taste import Taste, Tastes
from llmrec.understanding.wording import opinion_line, taste_line

__all__ = [
    "DEFAULT_SENTIMENT_MODEL",
    "Taste",
    "Tastes",
    "item_facts",
    "opinion_line",
    "taste_line",
    "understand_reviews",
]
