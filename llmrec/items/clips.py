"""Clips of items: the first frame of each scene, captioned and embedded."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from llmrec.catalog.media_files import (
    MediaError,
    MediaPath,
    media_paths,
    open_media,
)
from llmrec.content_cache import ContentCache
from llmrec.errors import ModelError
from llmrec.items.cached_results import (
    FileTask,
    damaged_vectors,
    embed_files,
    unreadable,
)
from llmrec.items.captions import (
    Captions,
    PictureReader,
    caption_files,
    one_line,
    pack_caption,
    unpack_caption,
)
from llmrec.items.modality import ModalityVectors, unit
from llmrec.items.pictures import MOST_PIXELS, PictureEncoder
from llmrec.records import Caption, Item

if TYPE_CHECKING:
    from PIL import Image

MOST_FRAMES = 8
"""Key frames of one clip at most."""

LONGEST_SIDE = 512
"""Frames are scaled down to it when they are decoded."""

_CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,ogg,asf,gif,"
    "wav,w64,mp3,aac,flac,aiff,caf,amr"
)
_SHORT_SECONDS = 60.0  # a longer clip is looked at here and there
_SHORT_FRAMES = 3600
_LOOKS = 128
_GLANCE = 32  # pixels per side of compared frames
_CUT = 0.1  # mean change of grey, of 1, that makes a new scene
_FLAT = 0.01  # a frame with less contrast is a blank between scenes


class ClipError(MediaError):
    """A clip cannot be decoded, or shows nothing."""


@dataclass(frozen=True)
class KeyFrame:
    """The first frame of a scene: an RGB picture, and when it is shown."""

    picture: Image.Image
    seconds: float


def key_frames(path: Path, *, most: int = MOST_FRAMES) -> tuple[KeyFrame, ...]:
    """Return the first frame of each scene, in order; where there are more, of the clearest cuts.

    A scene begins where the mean grey changes, pixel by pixel on a 32 x 32 copy, by a tenth of the
    scale. A clip of more than a minute is looked at in 128 places.

    Args:
        path: The file.
        most: How many at most.

    Raises:
        MediaError: There is no such file.
        ClipError: The file is empty, truncated, no clip, or has no picture.
        ModelError: PyAV is not installed.
    """
    av = load_av("Clips")
    try:
        with open_media(path) as file, open_container(av, file) as container:
            if not container.streams.video:
                raise ClipError(
                    f"The clip {str(path)!r} has no video stream.",
                    hint="Name a sound as audio, not as video.",
                )
            stream = container.streams.video[0]
            if stream.codec_context.width * stream.codec_context.height > MOST_PIXELS:
                raise ClipError(
                    f"The clip {str(path)!r} of {stream.codec_context.width:,} x "
                    f"{stream.codec_context.height:,} pixels is too large: at most "
                    f"{MOST_PIXELS:,} pixels are decoded.",
                    hint="Scale it down.",
                )
            length = float((stream.duration or 0) * (stream.time_base or 0))
            # Matroska and WebM know the length of the whole alone; its sound may be longer.
            whole = (container.duration or 0) / av.time_base
            if len(container.streams) == 1:
                length = length or whole
            frames, last = _scenes(_decoded(container, stream, length or whole), most)
    except (av.FFmpegError, OSError, ValueError) as error:
        raise ClipError(
            f"The clip {str(path)!r} cannot be decoded: {error}.",
            hint="It is damaged, no clip, or was not copied to its end: fetch it again.",
        ) from error
    if not frames or last < length / 2:
        raise ClipError(
            f"The clip {str(path)!r} ends after {last:.1f} of {length:.1f} seconds.",
            hint="It was not copied to its end: fetch it again.",
        )
    return frames


def caption_clips(
    reader: PictureReader,
    items: Sequence[Item],
    folder: Path,
    *,
    media_root: Path | None = None,
    cache: ContentCache | None = None,
    progress: bool = False,
) -> Captions:
    """Say what the clip of each item shows: the different captions of its key frames, in order.

    Args and errors are those of :func:`~llmrec.items.captions.caption_pictures`; ``video``
    is the clip's path.
    """
    asked = [item for item in items if item.video]

    def compute(clips: Sequence[tuple[KeyFrame, ...]]) -> list[bytes]:
        return [pack_caption(_summary(reader, clip)) for clip in clips]

    task = FileTask(
        unit="clip",
        doing="Captioning clips",
        recipe=("caption of clip", str(MOST_FRAMES), reader.name),
        read=key_frames,
        compute=compute,
        batch_size=1,
        cache=cache,
        damaged=lambda known: unreadable(known, unpack_caption),
    )
    paths = media_paths(folder, [item.video for item in asked], root=media_root)
    return caption_files(asked, paths, task, progress=progress)


def load_av(what: str) -> ModuleType:
    """Import PyAV, or say how to get it.

    Raises:
        ModelError: It is not installed.
    """
    try:
        import av  # noqa: PLC0415 - an optional extra
    except ImportError as error:
        raise ModelError(
            f"{what} are decoded with PyAV, which is not installed.",
            hint="Run `pip install 'llmrec[video]'`, or leave that column out.",
        ) from error
    return av


def open_container(av: ModuleType, stream: BinaryIO) -> Any:  # noqa: ANN401 - PyAV is optional
    """Open a clip or a sound: a container that holds it; no playlist, second file or network."""
    only = {"format_whitelist": _CONTAINERS, "protocol_whitelist": "file"}
    return av.open(stream, container_options=only)


def _summary(reader: PictureReader, clip: Sequence[KeyFrame]) -> Caption | None:
    said = [caption for caption in reader.describe([one.picture for one in clip]) if caption]
    if not said:
        return None
    different = dict.fromkeys(caption.text.rstrip(".") for caption in said)
    return Caption(one_line("; ".join(different)), said[0].source)


def _decoded(container: Any, stream: Any, length: float) -> Iterator[Any]:  # noqa: ANN401 - PyAV's
    """Yield the frames to look at, in order."""
    if length <= _SHORT_SECONDS:
        for number, frame in enumerate(container.decode(stream)):
            if number == _SHORT_FRAMES:
                return
            yield frame
        return
    ticks = stream.duration or length / stream.time_base
    stream.codec_context.skip_frame = "NONKEY"
    seen = None
    for look in range(_LOOKS):
        container.seek(int(look * ticks / _LOOKS), stream=stream)
        frame = next(container.decode(stream), None)
        if frame is not None and frame.pts != seen:
            seen = frame.pts
            yield frame


def _scenes(frames: Iterator[Any], most: int) -> tuple[tuple[KeyFrame, ...], float]:
    """Keep the first frames of the scenes that begin most clearly; also say when the last ends."""
    kept: list[tuple[float, int, KeyFrame]] = []
    blank: KeyFrame | None = None
    before: np.ndarray | None = None
    last = 0.0
    for number, frame in enumerate(frames):
        last = float(frame.time or 0.0)
        small = frame.reformat(width=_GLANCE, height=_GLANCE, format="gray").to_ndarray() / 255
        if small.std() < _FLAT:
            blank, before = blank or KeyFrame(_scaled(frame), last), None
            continue
        change = 1.0 if before is None else float(np.abs(small - before).mean())
        before = small
        # Of equally clear cuts the earlier stays.
        if change < _CUT or (len(kept) == most and (change, -number) < kept[0][:2]):
            continue
        entry = (change, -number, KeyFrame(_scaled(frame), last))
        heapq.heappush(kept, entry) if len(kept) < most else heapq.heapreplace(kept, entry)
    scenes = tuple(frame for _, _, frame in sorted(kept, key=lambda entry: -entry[1]))
    return scenes or ((blank,) if blank else ()), last


def _scaled(frame: Any) -> Image.Image:  # noqa: ANN401 - PyAV's
    scale = min(1.0, LONGEST_SIDE / max(frame.width, frame.height))
    width, height = (max(2, round(side * scale)) for side in (frame.width, frame.height))
    picture: Image.Image = frame.reformat(width=width, height=height, format="rgb24").to_image()
    return picture


def embed_clips(
    encoder: PictureEncoder,
    paths: Sequence[MediaPath],
    *,
    progress: bool = False,
) -> ModalityVectors:
    """Embed the clip of each item: the mean of its key frames' unit vectors, at length 1.

    Args:
        encoder: The encoder; its cache stores the vectors.
        paths: The clip of each item (see ``media_paths``), None where it has none.
        progress: Show a progress bar on stderr while computing if it is a terminal.

    Returns:
        The modality ``clip``: float32 [n_items, d]. A clip that cannot be read is a gap.

    Raises:
        ModelError: PyAV is not installed, or the encoder cannot be run.
        StorageError: The cache file cannot be read or written.
    """

    def compute(clips: Sequence[tuple[KeyFrame, ...]]) -> list[np.ndarray]:
        each = [encoder.encode([frame.picture for frame in clip]).mean(axis=0) for clip in clips]
        return list(unit(np.stack(each)))

    task = FileTask(
        unit="clip",
        doing="Embedding clips",
        recipe=(encoder.name, "clip", str(MOST_FRAMES)),
        read=key_frames,
        compute=compute,
        batch_size=4,
        cache=encoder.cache,
        damaged=lambda known: damaged_vectors(known, lambda: encoder.dimension),
    )
    return embed_files(encoder.name, lambda: encoder.dimension, paths, task, progress=progress)
