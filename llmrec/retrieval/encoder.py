"""What an index needs of the model that embeds texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np


class Encoder(Protocol):
    """What turns texts into vectors; a ``TextEncoder`` does."""

    @property
    def name(self) -> str:
        """The model's name with its revision."""
        ...

    def encode(self, texts: Sequence[str], *, progress: bool = False) -> np.ndarray:
        """Return float32 [n, d], rows of length 1."""
        ...
