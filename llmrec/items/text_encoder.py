"""From texts to unit vectors: what an item's text is, and the encoder with its cache."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from tqdm import tqdm

from llmrec.catalog.values import readable_attributes
from llmrec.errors import ModelError
from llmrec.items.modality import VectorCache, unit_rows
from llmrec.models import DEFAULT_TEXT_ENCODER, cache_folder, resolve_model
from llmrec.models.hardware import halve_until_it_fits
from llmrec.records import Item

logger = logging.getLogger(__name__)

_BATCHES_PER_WRITE = 8


class SentenceEncoder(Protocol):
    """What an encoder needs to offer; a ``SentenceTransformer`` does."""

    def encode(
        self, inputs: Sequence[str], *, batch_size: int, show_progress_bar: bool | None
    ) -> np.ndarray:
        """Return one float row [d] for each text."""
        ...


class Encoder(Protocol):
    """What turns texts into vectors; a :class:`TextEncoder` does."""

    @property
    def name(self) -> str:
        """The model's name with its revision."""
        ...

    def encode(self, texts: Sequence[str], *, progress: bool = False) -> np.ndarray:
        """Embed texts: float32 [n, d], rows of length 1."""
        ...


@dataclass(frozen=True)
class Encoded:
    """Vectors and where they came from.

    ``vectors`` is float32 [n, d] with rows of length 1, in the order of the texts. ``computed`` and
    ``cached`` count distinct texts.
    """

    vectors: np.ndarray
    computed: int
    cached: int


@dataclass(frozen=True)
class TextEncoder:
    """Texts to unit vectors, each distinct text computed once.

    Args:
        model: A ``SentenceTransformer``, or anything with its ``encode``.
        name: The model's name with its revision: vectors are cached under it.
        cache: Where vectors are kept between runs; None keeps none.
        batch_size: Texts a forward pass.
    """

    model: SentenceEncoder
    name: str
    cache: VectorCache | None = None
    batch_size: int = 32

    @classmethod
    def from_pretrained(
        cls,
        ref: str = DEFAULT_TEXT_ENCODER,
        *,
        device: str | None = None,
        cache: VectorCache | None = None,
        progress: bool = False,
    ) -> TextEncoder:
        """Load a sentence-transformers model, in float32.

        Args:
            ref: A hub id, a local folder or the name of a packaged model.
            device: ``cpu``, ``cuda``...; None takes the best that is there.
            cache: None takes ``vectors.sqlite3`` in llmrec's cache folder.
            progress: Show bars on stderr while fetching and loading, where that is a terminal.

        Raises:
            ModelNotFoundError: ``ref`` names nothing that can be had.
            HardwareError: The device is not there.
            ModelError: The folder holds no text encoder.
        """
        folder = resolve_model(ref, progress=progress)
        # These load torch, which reading an index does not need.
        from sentence_transformers import SentenceTransformer  # noqa: PLC0415

        from llmrec.models.hardware import choose_placement  # noqa: PLC0415
        from llmrec.models.hub import progress_bars  # noqa: PLC0415

        # float32 on every device: a cached vector must not depend on where it was made.
        placement = choose_placement(device, "float32")
        try:
            with progress_bars(shown=progress):
                model = SentenceTransformer(
                    str(folder.path),
                    device=placement.device,
                    local_files_only=True,
                    trust_remote_code=False,
                    model_kwargs={"dtype": placement.dtype},
                )
        except (OSError, ValueError) as error:
            raise ModelError(
                f"{ref!r} is no text encoder that sentence-transformers can load: {error}",
                hint=f"Name one that it can, for example {DEFAULT_TEXT_ENCODER}.",
            ) from error
        return cls(
            model,
            f"{folder.name}@{folder.revision}",
            cache=cache or VectorCache(cache_folder() / "vectors.sqlite3"),
        )

    @cached_property
    def dimension(self) -> int:
        """The length d of a vector."""
        return int(self._compute(["dimension"]).shape[1])

    def encode(self, texts: Sequence[str], *, progress: bool = False) -> np.ndarray:
        """Embed texts: float32 [n, d], rows of length 1. See :meth:`encode_counted`."""
        return self.encode_counted(texts, progress=progress).vectors

    def encode_counted(self, texts: Sequence[str], *, progress: bool = False) -> Encoded:
        """Embed texts and say how many were computed and how many the cache held.

        What is computed is kept batch by batch, so an interrupted run continues where it stopped.

        Args:
            texts: Any texts; the encoder itself cuts those that are too long for it.
            progress: Show a bar on stderr while computing, where that is a terminal.

        Raises:
            ModelError: The model returned something else than one finite row a text.
            OutOfMemoryError: Not even one text fits.
            StorageError: The cache file cannot be read or written.
        """
        by_key = {self._key(text): text for text in texts}
        known = self.cache.get_many(list(by_key)) if self.cache else {}
        cached = len(known)
        # By length, so that the texts of a batch need little padding.
        missing = sorted(by_key.keys() - known.keys(), key=lambda key: (len(by_key[key]), key))
        with tqdm(
            total=len(missing), desc="Embedding", unit="text", disable=None if progress else True
        ) as bar:
            for start in range(0, len(missing), self.batch_size * _BATCHES_PER_WRITE):
                keys = missing[start : start + self.batch_size * _BATCHES_PER_WRITE]
                new = dict(zip(keys, self._compute([by_key[key] for key in keys]), strict=True))
                if self.cache:
                    self.cache.put_many(new)
                known.update(new)
                bar.update(len(keys))
        logger.info("%s: %d texts embedded, %d from the cache", self.name, len(missing), cached)
        rows = [known[self._key(text)] for text in texts]
        vectors = np.stack(rows) if rows else np.zeros((0, self.dimension), dtype=np.float32)
        return Encoded(vectors, computed=len(missing), cached=cached)

    def _key(self, text: str) -> str:
        content = f"{self.name}\0{text}".encode(errors="surrogatepass")
        return hashlib.sha256(content).hexdigest()

    def _compute(self, texts: Sequence[str]) -> np.ndarray:
        return halve_until_it_fits(
            lambda size: self._vectors(texts, size), self.batch_size, unit="text", name=self.name
        )

    def _vectors(self, texts: Sequence[str], batch_size: int) -> np.ndarray:
        # Tokenizers refuse a lone surrogate, half a character that a cut text may end in.
        whole = [text.encode(errors="replace").decode() for text in texts]
        made = self.model.encode(whole, batch_size=batch_size, show_progress_bar=False)
        return unit_rows(made, len(texts), kind="text", name=self.name)


def item_text(item: Item) -> str:
    """Write an item as the text that is embedded: title, attributes, description, a line each.

    Attributes worth reading are written ``name: a, b`` in the order of the file. An encoder reads
    only so many tokens, so the short fields stand before the long one.
    """
    attributes = [
        f"{name}: {', '.join(values)}"
        for name, values in readable_attributes(item.attributes).items()
    ]
    return "\n".join(part for part in (item.title, *attributes, item.description) if part)
