from __future__ import annotations

from dataclasses import dataclass

from llmrec.catalog import Catalog, Split
from llmrec.items import ModalityVectors


@dataclass(frozen=True)
class World:
    """Users who stay with one kind of item; text shows the kind, the picture is on half."""

    training: Catalog
    split: Split
    modalities: tuple[ModalityVectors, ...]
