"""A user's candidates: an index, signals, filters, rules, and the search over them."""

from __future__ import annotations

from llmrec.retrieval.filters import (
    AttributeColumns,
    Dates,
    Equals,
    Filter,
    Not,
    OneOf,
    Range,
    parse_filter,
    read_filters,
)
from llmrec.retrieval.index import Index
from llmrec.retrieval.interactions import Interactions
from llmrec.retrieval.learning import hold_out, learn_weights
from llmrec.retrieval.retriever import DEFAULT_WEIGHTS, WEIGHTS_KEY, Retriever, Signal
from llmrec.retrieval.rules import Rules
from llmrec.retrieval.saved_parts import FileCheck, IndexCheck, verify_index
from llmrec.retrieval.search import EXACT_UP_TO, check_faiss
from llmrec.retrieval.weights import (
    FittedWeights,
    SignalList,
    check_weights,
    fit_weights,
    fuse,
    standardise,
)

__all__ = [
    "DEFAULT_WEIGHTS",
    "EXACT_UP_TO",
    "WEIGHTS_KEY",
    "AttributeColumns",
    "Dates",
    "Equals",
    "FileCheck",
    "Filter",
    "FittedWeights",
    "Index",
    "IndexCheck",
    "Interactions",
    "Not",
    "OneOf",
    "Range",
    "Retriever",
    "Rules",
    "Signal",
    "SignalList",
    "check_faiss",
    "check_weights",
    "fit_weights",
    "fuse",
    "hold_out",
    "learn_weights",
    "parse_filter",
    "read_filters",
    "standardise",
    "verify_index",
]
