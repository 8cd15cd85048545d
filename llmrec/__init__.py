"""Rerank a user's candidates with a language model, explain them, benchmark the prompts.

The names below are the public ones. They load on first use: importing llmrec loads no torch.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import Any

_WHERE = {
    "Candidate": "records",
    "Catalog": "catalog",
    "ColumnMap": "catalog",
    "Evidence": "records",
    "Explainer": "explaining",
    "Explanation": "records",
    "Index": "retrieval",
    "Interaction": "records",
    "Item": "records",
    "LlmrecError": "errors",
    "RankedItem": "records",
    "Ranking": "records",
    "Recommendation": "recommender",
    "Recommender": "recommender",
    "Request": "reranking",
    "Reranker": "reranking",
    "Retriever": "retrieval",
    "Review": "records",
    "Status": "records",
    "TextEncoder": "items",
    "TransformersModel": "models",
    "Usage": "records",
    "User": "records",
    "bench": "benchmarking",
    "load_model": "models",
}

__version__ = version("llmrec")
__all__ = sorted(_WHERE)  # noqa: PLE0605


def __getattr__(name: str) -> Any:  # noqa: ANN401
    """Load a public name from its package (PEP 562)."""
    if name not in _WHERE:
        raise AttributeError(f"module 'llmrec' has no attribute {name!r}")
    return getattr(import_module(f"llmrec.{_WHERE[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
