"""What speaks for an item: one small file a signal, all fused by the retriever."""

from __future__ import annotations

from llmrec.retrieval.signals.co_occurrence import CoOccurrence
from llmrec.retrieval.signals.content import Content
from llmrec.retrieval.signals.friends import Friends
from llmrec.retrieval.signals.keywords import Keywords
from llmrec.retrieval.signals.popularity import Popularity
from llmrec.retrieval.signals.sequence import Sequential

__all__ = ["CoOccurrence", "Content", "Friends", "Keywords", "Popularity", "Sequential"]
