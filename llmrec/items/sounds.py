"""Sounds of items: decoded to one channel, and embedded by wav2vec2 and CLAP models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from llmrec.catalog.media_files import MediaError, MediaPath, open_media
from llmrec.errors import ModelError, naming
from llmrec.items.cached_results import (
    FileTask,
    VectorCache,
    damaged_vectors,
    default_vector_cache,
    embed_files,
)
from llmrec.items.clips import load_av, open_container
from llmrec.items.modality import ModalityVectors, unit
from llmrec.models import DEFAULT_SOUND_ENCODER, resolve_model
from llmrec.models.hardware import halve_until_it_fits

MOST_SECONDS = 30.0
_LEAST_SECONDS = 0.1


class SoundError(MediaError):
    """A sound cannot be decoded, or holds next to nothing."""


def open_sound(path: Path, rate: int, *, seconds: float = MOST_SECONDS) -> np.ndarray:
    """Decode the beginning of a sound: float32 [n_samples] in -1 to 1, one channel.

    Args:
        path: Any file with an audio stream, a clip too.
        rate: Samples per second.
        seconds: Maximum length to decode.

    Raises:
        MediaError: There is no such file.
        SoundError: The file is empty, truncated, no sound, or too short.
        ModelError: PyAV is not installed.
    """
    av = load_av("Sounds")
    wanted = int(seconds * rate)
    parts: list[np.ndarray] = []
    try:
        with open_media(path) as file, open_container(av, file) as container:
            if not container.streams.audio:
                raise SoundError(f"The file {str(path)!r} has no audio stream.")
            resampler = av.AudioResampler(format="fltp", rate=rate)
            for frame in container.decode(container.streams.audio[0]):
                parts += [part.to_ndarray().mean(axis=0) for part in resampler.resample(frame)]
                if sum(map(len, parts)) >= wanted:
                    break
            else:
                parts += [part.to_ndarray().mean(axis=0) for part in resampler.resample(None)]
    except (av.FFmpegError, OSError, ValueError) as error:
        raise SoundError(
            f"The sound {str(path)!r} cannot be decoded: {error}.",
            hint="It is damaged, no sound, or was not copied to its end: fetch it again.",
        ) from error
    samples = np.concatenate(parts)[:wanted] if parts else np.zeros(0, dtype=np.float32)
    if len(samples) < _LEAST_SECONDS * rate:
        raise SoundError(
            f"The sound {str(path)!r} lasts {len(samples) / rate:.2f} seconds: nothing is heard.",
            hint=f"Give one of at least {_LEAST_SECONDS} seconds, or none.",
        )
    return samples.astype(np.float32)


@dataclass(frozen=True)
class SoundEncoder:
    """Sounds to unit vectors.

    A model with an audio head (CLAP) gives its embedding, of a sound longer than it reads at once
    the mean of its pieces'; of any other (wav2vec2) the last hidden states are averaged.

    Args:
        model: An ``AutoModel`` that reads audio.
        extractor: Its ``AutoFeatureExtractor``.
        name: The model's name with its revision: vectors are cached under it.
        cache: Where vectors are kept between runs; None keeps none.
        batch_size: Sounds that are held in memory at once.
    """

    model: Any
    extractor: Any
    name: str
    cache: VectorCache | None = None
    batch_size: int = 4

    @classmethod
    def from_pretrained(
        cls,
        ref: str = DEFAULT_SOUND_ENCODER,
        *,
        device: str | None = None,
        cache: VectorCache | None = None,
        progress: bool = False,
    ) -> SoundEncoder:
        """Load an audio model, in float32.

        Args:
            ref: A hub id or a local folder.
            device: ``cpu``, ``cuda``...; None takes the best available.
            cache: None takes ``vectors.sqlite3`` in llmrec's cache folder.
            progress: Show a progress bar on stderr while fetching and loading if it is a terminal.

        Raises:
            ModelNotFoundError: ``ref`` cannot be resolved.
            HardwareError: The device is not available.
            ModelError: The folder holds no encoder of sounds.
        """
        folder = resolve_model(ref, progress=progress)
        # These load torch, which reading vectors does not need.
        import torch  # noqa: PLC0415
        from transformers import AutoFeatureExtractor, AutoModel  # noqa: PLC0415

        from llmrec.models.hardware import choose_placement  # noqa: PLC0415
        from llmrec.models.hub import progress_bars  # noqa: PLC0415

        placement = choose_placement(device, "float32")
        local = {"local_files_only": True, "trust_remote_code": False}
        with (
            naming(
                f"{ref!r} is no encoder of sounds that transformers can load",
                ModelError,
                hint=f"Name a model of the wav2vec2 or CLAP family, as {DEFAULT_SOUND_ENCODER}.",
            ),
            progress_bars(shown=progress),
        ):
            extractor = AutoFeatureExtractor.from_pretrained(folder.path, **local)
            model = AutoModel.from_pretrained(
                folder.path, use_safetensors=True, dtype=torch.float32, **local
            )
            int(extractor.sampling_rate)
        return cls(
            model.eval().to(placement.device),
            extractor,
            f"{folder.name}@{folder.revision}",
            cache=cache or default_vector_cache(),
        )

    @property
    def rate(self) -> int:
        """Samples per second that the model reads."""
        return int(self.extractor.sampling_rate)

    @cached_property
    def dimension(self) -> int:
        """The length d of a vector."""
        return int(self.encode([np.zeros(self.rate, dtype=np.float32)]).shape[1])

    def encode(self, sounds: Sequence[np.ndarray]) -> np.ndarray:
        """Embed sounds (float32 [n_samples] at ``rate``): float32 [n, d], rows of length 1.

        One by one, so that a vector does not depend on what else is embedded.

        Raises:
            ModelError: The model returned values that are not finite.
            OutOfMemoryError: Not even one sound fits.
        """
        rows, _ = halve_until_it_fits(
            lambda _: [self._vector(sound) for sound in sounds], 1, unit="sound", name=self.name
        )
        vectors = np.stack(rows)
        if not np.isfinite(vectors).all():
            raise ModelError(
                f"The sound encoder {self.name} returned values that are not finite.",
                hint="Use another sound encoder.",
            )
        return unit(vectors)

    def _vector(self, sound: np.ndarray) -> np.ndarray:
        # CLAP would crop a longer sound at random.
        most = int(getattr(self.extractor, "nb_max_samples", len(sound)))
        pieces = [sound[start : start + most] for start in range(0, len(sound), most)]
        if len(pieces) > 1 and len(pieces[-1]) < most / 2:
            pieces.pop()
        mean: np.ndarray = unit(np.stack([self._piece(one) for one in pieces])).mean(axis=0)
        return mean

    def _piece(self, sound: np.ndarray) -> np.ndarray:
        import torch  # noqa: PLC0415

        given = self.extractor(sound, sampling_rate=self.rate, return_tensors="pt")
        given = given.to(self.model.device)
        with torch.inference_mode():
            if hasattr(self.model, "get_audio_features"):
                found = self.model.get_audio_features(**given)
                found = getattr(found, "pooler_output", found)[0]
            else:
                found = self.model(**given).last_hidden_state[0].mean(dim=0)
        row: np.ndarray = found.float().cpu().numpy()
        return row


def embed_sounds(
    encoder: SoundEncoder,
    paths: Sequence[MediaPath],
    *,
    progress: bool = False,
) -> ModalityVectors:
    """Embed the first ``MOST_SECONDS`` of each item's sound, identical files once.

    Args:
        encoder: The encoder; its cache stores the vectors.
        paths: The sound file of each item, None where it has none.
        progress: Show a progress bar on stderr while computing if it is a terminal.

    Returns:
        The modality ``audio``: float32 [n_items, d]. A sound that cannot be read is a gap.

    Raises:
        ModelError: PyAV is not installed, or the encoder cannot be run.
        StorageError: The cache file cannot be read or written.
    """
    task = FileTask(
        unit="audio",
        doing="Embedding sounds",
        recipe=(encoder.name, "audio", str(MOST_SECONDS)),
        read=lambda path: open_sound(path, encoder.rate),
        compute=lambda sounds: list(encoder.encode(sounds)),
        batch_size=encoder.batch_size,
        cache=encoder.cache,
        damaged=lambda known: damaged_vectors(known, lambda: encoder.dimension),
    )
    return embed_files(encoder.name, lambda: encoder.dimension, paths, task, progress=progress)
