"""From files to the vectors of a modality."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from llmrec.items.media_files import Reading, from_files
from llmrec.items.modality import ModalityVectors

T = TypeVar("T")


def embed_files(
    encoder: str,
    dimension: Callable[[], int],
    paths: Sequence[Path | None],
    by: Reading[T, np.ndarray],
    *,
    progress: bool,
) -> ModalityVectors:
    """Embed one file an item: see :func:`~llmrec.items.media_files.from_files`.

    Args:
        encoder: The model's name with its revision.
        dimension: Finds the length d of a vector, where no file gives one.
        paths: The file of each item, None where it has none.
        by: How; its results are rows of length 1, its unit is the modality's name.
        progress: Show a bar on stderr while computing, where that is a terminal.

    Returns:
        float32 [n_items, d]. A file that cannot be read, or in which the encoder finds nothing, is
        a gap.
    """
    found = from_files(paths, by, progress=progress)
    first = next(iter(found.results.values()), None)
    d = dimension() if first is None else len(first)
    vectors = np.zeros((len(paths), d), dtype=np.float32)
    gaps = dict(found.gaps)
    for row, vector in found.results.items():
        vectors[row] = vector
        if not vector.any():
            gaps[row] = f"{encoder} finds nothing in {str(paths[row])!r}."
    return ModalityVectors(by.unit, encoder, vectors, np.any(vectors != 0, axis=1), gaps)
