"""The vectors of one modality, and of several put side by side without training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np

from llmrec.errors import DataError, ModelError, OptionError, nearest


def unit(vectors: np.ndarray) -> np.ndarray:
    """Scale vectors [..., d] to length 1; a zero vector stays zero."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    units: np.ndarray = vectors / np.maximum(lengths, np.finfo(np.float32).tiny)
    return units


def unit_rows(made: object, n: int, *, kind: str, name: str) -> np.ndarray:
    """Take what an encoder returned for n inputs, scaled: float32 [n, d], rows of length 1.

    Args:
        made: The encoder's output.
        n: How many inputs it was given.
        kind: Kind of the inputs: ``text``, ``picture``.
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


@dataclass(frozen=True, eq=False)
class ModalityVectors:
    """Vectors of one modality (``text``, ``reviews``, ``image``, ``clip``, ``audio``) by item.

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


MODALITY_WEIGHTS: Mapping[str, float] = MappingProxyType(
    {"text": 1.0, "reviews": 0.1, "image": 0.1, "clip": 0.1, "audio": 0.1}
)
"""Weights without training, chosen on validation targets (eval/choose_modality_weights.py).

Of clips and sounds no data was at hand: they weigh what pictures do.
"""


def concatenate(
    modalities: Sequence[ModalityVectors], weights: Mapping[str, float] | None = None
) -> ModalityVectors:
    """Put the vectors of an item side by side, each scaled by the root of its weight.

    The cosine of two items that have the same modalities is then the weighted mean of their
    cosines. A modality that an item lacks is a block of zeros; the row is scaled to length 1.

    Args:
        modalities: At least one; rows of the same items.
        weights: Modality -> weight, 0 or more; one that is not named weighs 1.

    Returns:
        The modality ``joint``: float32 [n_items, sum of d]. An item without any is absent.

    Raises:
        DataError: The modalities have different numbers of items.
        OptionError: There is no modality, one is given twice, or a weight is not allowed.
    """
    scales = np.sqrt(_weights(modalities, weights))
    blocks = [_rows(given) * scale for given, scale in zip(modalities, scales, strict=True)]
    return _joint("concatenate", np.concatenate(blocks, axis=1), modalities, scales**2)


def _rows(given: ModalityVectors) -> np.ndarray:
    rows: np.ndarray = np.where(given.present[:, None], given.vectors, 0).astype(np.float64)
    return rows


def _weights(
    modalities: Sequence[ModalityVectors], weights: Mapping[str, float] | None
) -> np.ndarray:
    names = [given.name for given in modalities]
    if not names or len(set(names)) < len(names):
        raise OptionError(f"Modalities are {names}; allowed is at least one, each once.")
    counts = {given.name: len(given.vectors) for given in modalities}
    if len(set(counts.values())) > 1:
        raise DataError(
            f"The modalities have different numbers of items: {counts}.",
            hint="Give one row an item, in one order.",
        )
    for name, weight in (weights or {}).items():
        if name not in names:
            raise OptionError(
                f"There is a weight for {name!r}, but the modalities are {', '.join(names)}.",
                hint=nearest(name, names),
            )
        if not (np.isfinite(weight) and weight >= 0):
            raise OptionError(f"The weight of {name!r} is {weight}; allowed is 0 or more.")
    found = np.array([(weights or {}).get(name, 1.0) for name in names])
    if not found.any():
        raise OptionError("All weights are 0; allowed is more than 0 for at least one.")
    return found


def _joint(
    how: str, rows: np.ndarray, modalities: Sequence[ModalityVectors], weights: np.ndarray
) -> ModalityVectors:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    present = lengths[:, 0] > 1e-9
    parts = (f"{m.name}={m.encoder}*{w:g}" for m, w in zip(modalities, weights, strict=True))
    return ModalityVectors(
        name="joint",
        encoder=f"{how}({', '.join(parts)})",
        vectors=np.where(present[:, None], rows / np.maximum(lengths, 1e-9), 0).astype(np.float32),
        present=present,
    )
