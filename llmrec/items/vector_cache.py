"""Vectors on disk by key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from llmrec.content_cache import ContentCache


class VectorCache:
    """float32 vectors by string key in one file; see :class:`~llmrec.content_cache.ContentCache`.

    Args:
        path: The file. Its folder is made where it is missing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._contents = ContentCache(path)

    def get_many(self, keys: Sequence[str]) -> dict[str, np.ndarray]:
        """Read the vectors that are there; a key that the cache does not hold is left out.

        Raises:
            StorageError: The file cannot be opened or read.
        """
        found = self._contents.get_many(keys)
        return {key: np.frombuffer(blob, "<f4").astype(np.float32) for key, blob in found.items()}

    def put_many(self, vectors: Mapping[str, np.ndarray]) -> None:
        """Keep vectors, each under its key, all of them or (where interrupted) none.

        Raises:
            StorageError: The file cannot be opened or written.
        """
        self._contents.put_many(
            {key: np.asarray(vector, dtype="<f4").tobytes() for key, vector in vectors.items()}
        )
