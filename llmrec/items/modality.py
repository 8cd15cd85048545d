"""The vectors of one modality, with the items that have none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from llmrec.errors import DataError


@dataclass(frozen=True, eq=False)
class ModalityVectors:
    """What one modality (``text``, ``reviews``, ``image``, ``clip``, ``audio``) says of each item.

    Args:
        name: The modality.
        encoder: Name of the model that made the vectors, with its revision.
        vectors: float32 [n_items, d], rows of length 1; zeros where an item lacks the modality.
        present: bool [n_items], whether an item has it.
        gaps: Row to reason, where an item should have it but it could not be read.

    Raises:
        DataError: The shapes do not fit together.
    """

    name: str
    encoder: str
    vectors: np.ndarray
    present: np.ndarray
    gaps: Mapping[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.vectors.ndim != 2 or self.present.shape != self.vectors.shape[:1]:
            raise DataError(
                f"Vectors of shape {self.vectors.shape} and a mask of shape {self.present.shape} "
                f"are no modality {self.name!r}.",
                hint="Give float [n_items, d] and bool [n_items].",
            )

    @property
    def coverage(self) -> float:
        """The share of items that have it, 0 to 1."""
        return float(self.present.mean()) if self.present.size else 0.0
