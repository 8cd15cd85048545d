"""What a vector store may be given."""

from __future__ import annotations

from collections import Counter

import numpy as np

from llmrec.errors import DataError, OptionError


def check_shape(vectors: np.ndarray) -> None:
    """Check that vectors are [n, d], d at least 1.

    Raises:
        DataError: They are not.
    """
    if vectors.ndim != 2 or vectors.shape[1] < 1:
        raise DataError(
            f"Vectors of shape {vectors.shape} make no store.", hint="Give float [n, d]."
        )


def check_vectors(ids: tuple[str, ...], vectors: np.ndarray, dimension: int) -> None:
    """Check that there is one vector an id, and each id once.

    Raises:
        DataError: The shapes do not fit, or an id comes twice.
    """
    if vectors.shape != (len(ids), dimension):
        raise DataError(
            f"{len(ids)} ids and vectors of shape {vectors.shape} do not fit into a store of "
            f"{dimension} numbers a vector.",
            hint="Give one row an id, from the encoder that made the others.",
        )
    twice = [item_id for item_id, count in Counter(ids).items() if count > 1]
    if twice:
        raise DataError(
            f"Ids are given more than once: {', '.join(map(repr, twice[:5]))}.",
            hint="Give each item one vector.",
        )


def usable_queries(
    queries: np.ndarray, k: int, allowed: np.ndarray | None, shape: tuple[int, int]
) -> np.ndarray:
    """Return queries as float32 [m, d] for a store of shape [n, d].

    Raises:
        OptionError: k is below 1, a query is not finite or of another dimension, or the mask of
            another shape or type.
    """
    n, dimension = shape
    if k < 1:
        raise OptionError(f"k is {k}.", hint="Ask for at least one row.")
    if queries.ndim != 2 or queries.shape[1] != dimension:
        raise OptionError(
            f"Queries of shape {queries.shape} do not fit vectors of {dimension} numbers.",
            hint=f"Give float [m, {dimension}].",
        )
    queries = np.ascontiguousarray(queries, dtype=np.float32)
    if not np.isfinite(np.einsum("ij,ij->i", queries, queries)).all():
        raise OptionError("A query is not finite.", hint="Check what made it.")
    if allowed is not None and (allowed.shape != (n,) or allowed.dtype != bool):
        raise OptionError(
            f"The mask is {allowed.dtype} of shape {allowed.shape}.",
            hint=f"Give bool [{n}], one a row.",
        )
    return queries
