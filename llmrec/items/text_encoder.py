"""Texts of items, embedded as unit vectors."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from llmrec.catalog.values import readable_attributes
from llmrec.errors import ModelError, naming
from llmrec.items.cached_results import (
    VectorCache,
    compute_missing,
    damaged_vectors,
    default_vector_cache,
)
from llmrec.items.modality import unit_rows
from llmrec.models import DEFAULT_TEXT_ENCODER, ModelFolder, resolve_model
from llmrec.models.hardware import halve_until_it_fits
from llmrec.records import Item

logger = logging.getLogger(__name__)

_BATCHES_PER_WRITE = 8


class Encoder(Protocol):
    """Turns texts into vectors; a ``TextEncoder`` does."""

    @property
    def name(self) -> str:
        """The model's name with its revision."""
        ...

    def encode(self, texts: Sequence[str], *, progress: bool = False) -> np.ndarray:
        """Embed texts: float32 [n, d], rows of length 1."""
        ...


class SentenceEncoder(Protocol):
    """A model of texts; a ``SentenceTransformer`` is one."""

    def encode(
        self, inputs: Sequence[str], *, batch_size: int, show_progress_bar: bool | None
    ) -> np.ndarray:
        """Return one float row [d] for each text."""
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
        batch_size: Texts per forward pass.
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
            device: ``cpu``, ``cuda``...; None takes the best available.
            cache: None takes ``vectors.sqlite3`` in llmrec's cache folder.
            progress: Show a progress bar on stderr while fetching and loading if it is a terminal.

        Raises:
            ModelNotFoundError: ``ref`` is neither on the hub nor on the disk.
            HardwareError: The device is not available.
            ModelError: The folder holds no text encoder.
        """
        folder = resolve_model(ref, progress=progress)
        model = load_sentence_transformer(
            folder, ref, "text", DEFAULT_TEXT_ENCODER, device=device, progress=progress
        )
        name = f"{folder.name}@{folder.revision}"
        return cls(model, name, cache=cache or default_vector_cache())

    @cached_property
    def dimension(self) -> int:
        """The length d of a vector."""
        return int(self._compute(["dimension"]).shape[1])

    def encode(self, texts: Sequence[str], *, progress: bool = False) -> np.ndarray:
        """Embed texts: float32 [n, d], rows of length 1. See :meth:`encode_counted`."""
        return self.encode_counted(texts, progress=progress).vectors

    def encode_counted(self, texts: Sequence[str], *, progress: bool = False) -> Encoded:
        """Embed texts and say how many were computed and how many the cache held.

        Args:
            texts: Any texts; the encoder itself truncates those that are too long for it.
            progress: Show a progress bar on stderr while computing if it is a terminal.

        Raises:
            ModelError: The model returned something else than one finite row per text.
            OutOfMemoryError: Not even one text fits.
            StorageError: The cache file cannot be read or written.
        """

        def compute(batch: Mapping[str, str]) -> Mapping[str, np.ndarray]:
            return dict(zip(batch, self._compute(list(batch.values())), strict=True))

        keys = [self._key(text) for text in texts]
        by_key = dict(zip(keys, texts, strict=True))
        known, cached = compute_missing(
            # By length, so that the texts of a batch need little padding.
            dict(sorted(by_key.items(), key=lambda entry: (len(entry[1]), entry[0]))),
            compute,
            cache=self.cache,
            batch_size=self.batch_size * _BATCHES_PER_WRITE,
            damaged=lambda known: damaged_vectors(known, lambda: self.dimension),
            doing="Embedding",
            unit="text",
            progress=progress,
        )
        rows = [known[key] for key in keys]
        vectors = np.stack(rows) if rows else np.zeros((0, self.dimension), dtype=np.float32)
        return Encoded(vectors, computed=len(known) - cached, cached=cached)

    def _key(self, text: str) -> str:
        content = f"{self.name}\0{text}".encode(errors="surrogatepass")
        return hashlib.sha256(content).hexdigest()

    def _compute(self, texts: Sequence[str]) -> np.ndarray:
        # Tokenizers refuse a lone surrogate, half a character that a cut text may end in.
        whole = [text.encode(errors="replace").decode() for text in texts]

        def compute(size: int) -> np.ndarray:
            made = self.model.encode(whole, batch_size=size, show_progress_bar=False)
            return unit_rows(made, len(texts), kind="text", name=self.name)

        return halve_until_it_fits(compute, self.batch_size, unit="text", name=self.name)[0]


def load_sentence_transformer(
    folder: ModelFolder,
    ref: str,
    kind: str,
    default: str,
    *,
    device: str | None,
    progress: bool,
) -> Any:  # noqa: ANN401 - a SentenceTransformer
    """Load a model with sentence-transformers, in float32: vectors depend on no device.

    Args:
        folder: Where it is.
        ref: The user's name for the model.
        kind: Required input: ``text`` or ``image``.
        default: The model to name in an error.
        device: ``cpu``, ``cuda``...; None takes the best available.
        progress: Show a progress bar on stderr while loading if it is a terminal.

    Raises:
        HardwareError: The device is not available.
        ModelError: It cannot be loaded, or reads something else.
    """
    # These load torch, which reading an index does not need.
    from sentence_transformers import SentenceTransformer  # noqa: PLC0415

    from llmrec.models.hardware import choose_placement  # noqa: PLC0415
    from llmrec.models.hub import progress_bars  # noqa: PLC0415

    placement = choose_placement(device, "float32")
    with (
        naming(
            f"sentence-transformers cannot load {ref!r} as {kind} encoder",
            ModelError,
            hint=f"Name one that it can load, for example {default}.",
        ),
        progress_bars(shown=progress),
    ):
        model = SentenceTransformer(
            str(folder.path),
            device=placement.device,
            local_files_only=True,
            trust_remote_code=False,
            model_kwargs={"dtype": placement.dtype, "use_safetensors": True},
        )
        reads = model.modalities
    if kind not in reads:
        raise ModelError(
            f"{ref!r} does not read {kind}s but {', '.join(map(str, reads))}s.",
            hint=f"Name an encoder of {kind}s, for example {default}.",
        )
    return model


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
