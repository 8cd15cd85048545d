"""Vectors of length 1."""

from __future__ import annotations

import numpy as np

from llmrec.errors import ModelError


def unit(vectors: np.ndarray) -> np.ndarray:
    """Scale vectors [..., d] to length 1; a zero vector stays zero."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    units: np.ndarray = vectors / np.maximum(lengths, np.finfo(np.float32).tiny)
    return units


def unit_rows(made: object, n: int, *, kind: str, name: str) -> np.ndarray:
    """Take what an encoder returned for n inputs, scaled: float32 [n, d], rows of length 1.

    Args:
        made: What it returned.
        n: How many inputs it was given.
        kind: What they are: ``text``, ``picture``.
        name: The encoder's name.

    Raises:
        ModelError: It is something else than one finite row an input.
    """
    vectors = np.asarray(made, dtype=np.float32)
    if vectors.ndim != 2 or len(vectors) != n or not np.isfinite(vectors).all():
        raise ModelError(
            f"The {kind} encoder {name} returned an array of shape {vectors.shape} for "
            f"{n} {kind}s, or values that are not finite.",
            hint=f"Use another {kind} encoder.",
        )
    return unit(vectors)
