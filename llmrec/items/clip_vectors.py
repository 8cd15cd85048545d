"""From clips to unit vectors: the mean of their key frames'."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from llmrec.items.clips import MOST_FRAMES, KeyFrame, key_frames
from llmrec.items.media_files import Reading
from llmrec.items.media_vectors import embed_files
from llmrec.items.modality import ModalityVectors
from llmrec.items.picture_encoders import PictureEncoder
from llmrec.items.unit import unit


def embed_clips(
    encoder: PictureEncoder,
    paths: Sequence[Path | None],
    *,
    most: int = MOST_FRAMES,
    progress: bool = False,
) -> ModalityVectors:
    """Embed the clip of each item: the mean of its key frames' unit vectors, at length 1.

    Args:
        encoder: Its cache keeps what is computed.
        paths: The clip of each item, None where it has none.
        most: Key frames of a clip at most.
        progress: Show a bar on stderr while computing, where that is a terminal.

    Returns:
        The modality ``clip``: float32 [n_items, d]. A clip that cannot be read is a gap.

    Raises:
        ModelError: PyAV is not installed, or the encoder cannot be run.
        StorageError: The cache file cannot be read or written.
    """

    def compute(clips: Sequence[tuple[KeyFrame, ...]]) -> list[np.ndarray]:
        each = [encoder.encode([frame.picture for frame in clip]).mean(axis=0) for clip in clips]
        return list(unit(np.stack(each)))

    by = Reading(
        unit="clip",
        doing="Embedding clips",
        recipe=(encoder.name, "clip", str(most)),
        read=lambda path: key_frames(path, most=most),
        compute=compute,
        batch_size=4,
        cache=encoder.cache,
    )
    return embed_files(encoder.name, lambda: encoder.dimension, paths, by, progress=progress)
