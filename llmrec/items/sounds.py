"""Opens the sound of an item: one channel, at a model's rate, so many seconds at most."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from llmrec.errors import DataError
from llmrec.items.clips import load_av
from llmrec.items.pictures import missing_file

MOST_SECONDS = 30.0
_LEAST_SECONDS = 0.1


class SoundError(DataError):
    """A sound file cannot be read, or holds next to nothing."""


def open_sound(path: Path, rate: int, *, seconds: float = MOST_SECONDS) -> np.ndarray:
    """Decode the beginning of a sound: float32 [n_samples] in -1 to 1, one channel.

    Args:
        path: Any file with an audio stream, a clip too.
        rate: Samples a second.
        seconds: What is decoded at most.

    Raises:
        SoundError: The file is missing, empty, truncated, no sound, or too short.
        ModelError: PyAV is not installed.
    """
    av = load_av("Sounds")
    missing = missing_file(path)
    if missing is not None:
        raise SoundError(missing, hint="Download what lies elsewhere, and name the file.")
    wanted = int(seconds * rate)
    parts: list[np.ndarray] = []
    try:
        with av.open(str(path)) as container:
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
