"""A user's candidates: the saved index of a catalogue, filters, and the exact search over both."""

from __future__ import annotations

from llmrec.retrieval.filters import Equals, Filter, OneOf, Range, filter_mask, parse_filter
from llmrec.retrieval.index import Index
from llmrec.retrieval.retriever import Retriever
from llmrec.retrieval.standardise import standardise
from llmrec.retrieval.taste import liked

__all__ = [
    "Equals",
    "Filter",
    "Index",
    "OneOf",
    "Range",
    "Retriever",
    "filter_mask",
    "liked",
    "parse_filter",
    "standardise",
]
