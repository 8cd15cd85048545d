"""Where models come from and what they will run on: the hub, folders, GGUF files, wheels; devices.

``llmrec.models.hardware`` is imported by its own name, because it loads torch.
"""

from __future__ import annotations

from llmrec.models.kept import cache_folder
from llmrec.models.packaged import PACKAGED, PackagedModel
from llmrec.models.sources import (
    DEFAULT_CAPTIONER,
    DEFAULT_IMAGE_ENCODER,
    DEFAULT_LANGUAGE_MODEL,
    DEFAULT_SOUND_ENCODER,
    DEFAULT_TEXT_ENCODER,
    OFFLINE_IMAGE_MODEL,
    ModelFolder,
    resolve_model,
)

__all__ = [
    "DEFAULT_CAPTIONER",
    "DEFAULT_IMAGE_ENCODER",
    "DEFAULT_LANGUAGE_MODEL",
    "DEFAULT_SOUND_ENCODER",
    "DEFAULT_TEXT_ENCODER",
    "OFFLINE_IMAGE_MODEL",
    "PACKAGED",
    "ModelFolder",
    "PackagedModel",
    "cache_folder",
    "resolve_model",
]
