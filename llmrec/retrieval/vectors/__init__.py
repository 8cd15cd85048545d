"""Vectors by item id with inner-product search: exact, and approximate where there are many."""

from __future__ import annotations

from llmrec.retrieval.vectors.store import EXACT_BELOW, VectorStore

__all__ = ["EXACT_BELOW", "VectorStore"]
