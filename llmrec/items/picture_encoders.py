"""From pictures to unit vectors: an image model of the hub, or a small network from a wheel."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from llmrec.errors import ModelError, ModelNotFoundError
from llmrec.items.media_files import Reading
from llmrec.items.media_vectors import embed_files
from llmrec.items.modality import ModalityVectors
from llmrec.items.pictures import open_picture
from llmrec.items.unit import unit_rows
from llmrec.items.vector_cache import VectorCache
from llmrec.models import (
    DEFAULT_IMAGE_ENCODER,
    OFFLINE_IMAGE_MODEL,
    ModelFolder,
    cache_folder,
    resolve_model,
)
from llmrec.models.memory import halve_until_it_fits

if TYPE_CHECKING:
    from PIL import Image

logger = logging.getLogger(__name__)


class ImageModel(Protocol):
    """What an encoder of pictures needs to offer; a ``SentenceTransformer`` does."""

    def encode(
        self, inputs: Sequence[Image.Image], *, batch_size: int, show_progress_bar: bool | None
    ) -> np.ndarray:
        """Return one float row [d] for each RGB picture."""
        ...


@dataclass(frozen=True)
class PictureEncoder:
    """Pictures to unit vectors.

    Args:
        model: A ``SentenceTransformer`` that reads pictures, or anything with its ``encode``.
        name: The model's name with its revision: vectors are cached under it.
        cache: Where vectors are kept between runs; None keeps none.
        batch_size: Pictures a forward pass.
    """

    model: ImageModel
    name: str
    cache: VectorCache | None = None
    batch_size: int = 32

    @classmethod
    def from_pretrained(
        cls,
        ref: str = DEFAULT_IMAGE_ENCODER,
        *,
        device: str | None = None,
        cache: VectorCache | None = None,
        progress: bool = False,
    ) -> PictureEncoder:
        """Load an image model, in float32.

        Args:
            ref: A hub id, a local folder or ``efficientnet-lite0``, which is also what is taken,
                with a warning, where the default model cannot be had.
            device: ``cpu``, ``cuda``...; None takes the best that is there.
            cache: None takes ``vectors.sqlite3`` in llmrec's cache folder.
            progress: Show bars on stderr while fetching and loading, where that is a terminal.

        Raises:
            ModelNotFoundError: ``ref`` names nothing that can be had.
            HardwareError: The device is not there.
            ModelError: The folder holds no encoder of pictures.
        """
        folder = _resolve(ref, progress=progress)
        from llmrec.models.hardware import choose_placement  # noqa: PLC0415 - loads torch

        # float32 on every device: a cached vector must not depend on where it was made.
        placed = choose_placement(device, "float32").device
        return cls(
            _load(folder, ref, placed, progress=progress),
            f"{folder.name}@{folder.revision}",
            cache=cache or VectorCache(cache_folder() / "vectors.sqlite3"),
        )

    @cached_property
    def dimension(self) -> int:
        """The length d of a vector."""
        from PIL import Image  # noqa: PLC0415

        return int(self.encode([Image.new("RGB", (64, 64))]).shape[1])

    def encode(self, pictures: Sequence[Image.Image]) -> np.ndarray:
        """Embed RGB pictures, at least one: float32 [n, d], rows of length 1; nothing is cached.

        Raises:
            ModelError: The model returned something else than one finite row a picture.
            OutOfMemoryError: Not even one picture fits.
        """

        def compute(size: int) -> np.ndarray:
            return np.asarray(
                self.model.encode(list(pictures), batch_size=size, show_progress_bar=False),
                dtype=np.float32,
            )

        vectors = halve_until_it_fits(compute, self.batch_size, unit="picture", name=self.name)
        return unit_rows(vectors, len(pictures), kind="picture", name=self.name)


def embed_pictures(
    encoder: PictureEncoder, paths: Sequence[Path | None], *, progress: bool = False
) -> ModalityVectors:
    """Embed the picture of each item, identical files once.

    What is computed is kept batch by batch under the encoder's name and the SHA-256 of the file,
    so an interrupted run continues where it stopped and a changed file is embedded again.

    Args:
        encoder: Its cache keeps what is computed.
        paths: The picture file of each item, None where it has none.
        progress: Show a bar on stderr while computing, where that is a terminal.

    Returns:
        The modality ``image``: float32 [n_items, d]. A picture that cannot be read is a gap.

    Raises:
        ModelError, OutOfMemoryError: As :meth:`PictureEncoder.encode`.
        StorageError: The cache file cannot be read or written.
    """
    by = Reading(
        unit="image",
        doing="Embedding pictures",
        recipe=(encoder.name,),
        read=open_picture,
        compute=lambda pictures: list(encoder.encode(pictures)),
        batch_size=encoder.batch_size,
        cache=encoder.cache,
    )
    return embed_files(encoder.name, lambda: encoder.dimension, paths, by, progress=progress)


def _resolve(ref: str, *, progress: bool) -> ModelFolder:
    try:
        return resolve_model(ref, progress=progress)
    except ModelNotFoundError as error:
        if ref != DEFAULT_IMAGE_ENCODER:
            raise
        logger.warning(
            "Pictures are embedded by %s instead: %s", OFFLINE_IMAGE_MODEL, error.message
        )
        return resolve_model(OFFLINE_IMAGE_MODEL, progress=progress)


def _load(folder: ModelFolder, ref: str, device: str, *, progress: bool) -> ImageModel:
    # These load torch, which reading vectors does not need.
    from llmrec.items.efficientnet import WEIGHTS, EfficientNetLite0  # noqa: PLC0415

    if (folder.path / WEIGHTS).is_file():
        return EfficientNetLite0(folder.path, device)
    import torch  # noqa: PLC0415
    from sentence_transformers import SentenceTransformer  # noqa: PLC0415

    from llmrec.models.progress import transformers_bars  # noqa: PLC0415

    try:
        with transformers_bars(shown=progress):
            model = SentenceTransformer(
                str(folder.path),
                device=device,
                local_files_only=True,
                trust_remote_code=False,
                model_kwargs={"dtype": torch.float32},
            )
        reads = model.modalities
    except (OSError, ValueError, ImportError) as error:
        raise ModelError(
            f"{ref!r} is no picture encoder that sentence-transformers can load: {error}",
            hint=f"Name one that it can, for example {DEFAULT_IMAGE_ENCODER}.",
        ) from error
    if "image" not in reads:
        raise ModelError(
            f"{ref!r} does not read pictures but {', '.join(map(str, reads))}.",
            hint=f"Name a model of the CLIP or SigLIP family, for example {DEFAULT_IMAGE_ENCODER}.",
        )
    return model
