"""Pictures of items: opened in bounded memory, and embedded."""

from __future__ import annotations

import base64
import io
import logging
import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image, ImageOps
from PIL.AvifImagePlugin import AvifImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from llmrec.catalog.media_files import MediaError, MediaPath, media_path, open_media
from llmrec.errors import ModelNotFoundError
from llmrec.items.cached_results import (
    FileTask,
    VectorCache,
    damaged_vectors,
    default_vector_cache,
    embed_files,
)
from llmrec.items.modality import ModalityVectors, unit_rows
from llmrec.items.text_encoder import load_sentence_transformer
from llmrec.models import (
    DEFAULT_IMAGE_ENCODER,
    OFFLINE_IMAGE_MODEL,
    resolve_model,
)
from llmrec.models.hardware import halve_until_it_fits
from llmrec.records import Item

logger = logging.getLogger(__name__)

MOST_PIXELS = 50_000_000
"""Maximum pixels of a decoded picture: some 400 MB with transparency while it is open."""

LEAST_SIDE = 8
"""A picture with a shorter side shows nothing: it is a placeholder or a counting pixel."""

LONGEST_SIDE = 1024
"""Pictures come out no larger: no encoder or captioner here looks more closely."""

_KINDS: tuple[tuple[int, bytes, type[ImageFile]], ...] = (
    (0, b"\xff\xd8\xff", JpegImageFile),
    (0, b"\x89PNG\r\n\x1a\n", PngImageFile),
    (8, b"WEBP", WebPImageFile),
    (0, b"GIF8", GifImageFile),
    (4, b"ftypavi", AvifImageFile),
    (0, b"BM", BmpImageFile),
    (0, b"II*\0", TiffImageFile),
    (0, b"MM\0*", TiffImageFile),
)
_ALLOWED = "A picture is a JPEG, PNG, WebP, GIF, AVIF, BMP or TIFF file."


class PictureError(MediaError):
    """A picture cannot be decoded, or shows nothing."""


def open_picture(path: Path, *, longest_side: int = LONGEST_SIDE) -> Image.Image:
    """Open a picture: RGB, upright, the first frame, no side longer than ``longest_side``.

    A file is what its first bytes say, whatever its name. What is transparent becomes white. A
    baseline JPEG of any size is decoded at a fraction of it; any other picture over ``MOST_PIXELS``
    is refused before it is decoded.

    Args:
        path: The file.
        longest_side: Longest side in pixels; larger pictures are scaled down.

    Raises:
        MediaError: There is no such file.
        PictureError: The file is empty, truncated, no picture, too large or too small.
    """
    try:
        with open_media(path) as stream, warnings.catch_warnings():
            # Warnings about a readable picture do not help the user.
            warnings.simplefilter("ignore")
            head = stream.read(16)
            stream.seek(0)
            kind = _kind(path, head)
            # Image.open() would refuse a large JPEG before draft() can make it small.
            picture = kind(stream)
            _check_size(path, picture, longest_side)
            return _plain(picture, longest_side)
    except MediaError:
        raise
    except Exception as error:  # a decoder raises anything on a file that is broken
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise PictureError(
            f"The picture {str(path)!r} cannot be decoded: {why.rstrip('.')}.",
            hint="It is damaged or was not copied to its end: fetch it again.",
        ) from error


def _kind(path: Path, head: bytes) -> type[ImageFile]:
    for offset, mark, kind in _KINDS:
        if head[offset:].startswith(mark):
            return kind
    if not head:
        raise PictureError(f"The picture {str(path)!r} is empty (0 bytes).", hint="Fetch it again.")
    raise PictureError(f"{str(path)!r} is no picture: it begins with {head[:8]!r}.", hint=_ALLOWED)


def _check_size(path: Path, picture: ImageFile, longest_side: int) -> None:
    width, height = picture.size
    if min(width, height) < LEAST_SIDE:
        raise PictureError(
            f"The picture {str(path)!r} of {width} x {height} pixels shows nothing.",
            hint=f"Give one with no side under {LEAST_SIDE} pixels, or none.",
        )
    # A progressive JPEG keeps all its coefficients, however small it is drafted.
    if isinstance(picture, JpegImageFile) and not picture.info.get("progressive"):
        picture.draft(None, (longest_side, longest_side))
    if picture.size[0] * picture.size[1] > MOST_PIXELS:
        raise PictureError(
            f"The picture {str(path)!r} of {width:,} x {height:,} pixels is too large: at most "
            f"{MOST_PIXELS:,} pixels are decoded.",
            hint="Scale it down, or save it as a baseline JPEG, which can be of any size.",
        )


def _plain(picture: Image.Image, longest_side: int) -> Image.Image:
    """Decode, scale down, turn upright, put on white."""
    if picture.mode == "P":
        picture = picture.convert("RGBA" if picture.has_transparency_data else "RGB")
    elif picture.mode[0] in "IF":
        picture = _eight_bits(picture)
    elif picture.mode == "1":
        picture = picture.convert("L")
    elif "transparency" in picture.info:
        picture = picture.convert("RGBA")
    picture.thumbnail((longest_side, longest_side), Image.Resampling.BICUBIC)
    picture.load()  # thumbnail() leaves one that is small enough undecoded
    with suppress(Exception):  # a damaged note about the camera leaves the picture as it is
        picture = ImageOps.exif_transpose(picture)
    if picture.has_transparency_data:
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture.convert("RGBA"))
    return picture.convert("RGB")


def _eight_bits(picture: Image.Image) -> Image.Image:
    """Bring grey values of 16 or 32 bits to 8; Pillow itself would cut all above 255 to white."""
    values = np.nan_to_num(np.asarray(picture, dtype=np.float32))
    top = next((peak for peak in (1, 255, 65535) if values.max() <= peak), float(values.max()))
    return Image.fromarray((values.clip(0) * (255 / top)).astype(np.uint8))


class ImageModel(Protocol):
    """Interface of an image encoder; a ``SentenceTransformer`` has it."""

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
        batch_size: Pictures per forward pass.
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
                with a warning, if the default model is not available.
            device: ``cpu``, ``cuda``...; None takes the best available.
            cache: None takes ``vectors.sqlite3`` in llmrec's cache folder.
            progress: Show a progress bar on stderr while fetching and loading if it is a terminal.

        Raises:
            ModelNotFoundError: ``ref`` cannot be resolved.
            HardwareError: The device is not available.
            ModelError: The folder holds no encoder of pictures.
        """
        try:
            folder = resolve_model(ref, progress=progress)
        except ModelNotFoundError as error:
            if ref != DEFAULT_IMAGE_ENCODER:
                raise
            ref = OFFLINE_IMAGE_MODEL
            logger.warning("Pictures are embedded by %s instead: %s", ref, error.message)
            folder = resolve_model(ref, progress=progress)
        # These load torch, which reading vectors does not need.
        from llmrec.items.efficientnet import WEIGHTS, EfficientNetLite0  # noqa: PLC0415
        from llmrec.models.hardware import choose_placement  # noqa: PLC0415

        model: ImageModel
        if (folder.path / WEIGHTS).is_file():
            placement = choose_placement(device, "float32")
            model = EfficientNetLite0(folder.path, placement.device)
        else:
            model = load_sentence_transformer(
                folder, ref, "image", DEFAULT_IMAGE_ENCODER, device=device, progress=progress
            )
        name = f"{folder.name}@{folder.revision}"
        return cls(model, name, cache=cache or default_vector_cache())

    @cached_property
    def dimension(self) -> int:
        """The length d of a vector."""
        return int(self.encode([Image.new("RGB", (64, 64))]).shape[1])

    def encode(self, pictures: Sequence[Image.Image]) -> np.ndarray:
        """Embed RGB pictures, at least one: float32 [n, d], rows of length 1; nothing is cached.

        Raises:
            ModelError: The model returned something else than one finite row per picture.
            OutOfMemoryError: Not even one picture fits.
        """

        def compute(size: int) -> np.ndarray:
            return np.asarray(
                self.model.encode(list(pictures), batch_size=size, show_progress_bar=False),
                dtype=np.float32,
            )

        vectors, _ = halve_until_it_fits(compute, self.batch_size, unit="picture", name=self.name)
        return unit_rows(vectors, len(pictures), kind="picture", name=self.name)


def embed_pictures(
    encoder: PictureEncoder, paths: Sequence[MediaPath], *, progress: bool = False
) -> ModalityVectors:
    """Embed the picture of each item, identical files once.

    What is computed is kept batch by batch under the encoder's name and the SHA-256 of the file,
    so an interrupted run continues where it stopped and a changed file is embedded again.

    Args:
        encoder: The encoder; its cache stores the vectors.
        paths: The picture of each item (see ``media_paths``), None where it has none.
        progress: Show a progress bar on stderr while computing if it is a terminal.

    Returns:
        The modality ``image``: float32 [n_items, d]. A picture that cannot be read is a gap.

    Raises:
        ModelError, OutOfMemoryError: As :meth:`PictureEncoder.encode`.
        StorageError: The cache file cannot be read or written.
    """
    task = FileTask(
        unit="image",
        doing="Embedding pictures",
        recipe=(encoder.name,),
        read=open_picture,
        compute=lambda pictures: list(encoder.encode(pictures)),
        batch_size=encoder.batch_size,
        cache=encoder.cache,
        damaged=lambda known: damaged_vectors(known, lambda: encoder.dimension),
    )
    return embed_files(encoder.name, lambda: encoder.dimension, paths, task, progress=progress)


def picture_path(item: Item, folder: Path | None, media_root: Path | None) -> str:
    """The path of an item's picture; "" where there is none that may be opened."""
    if folder is None or not item.image:
        return ""
    try:
        return str(media_path(folder, item.image, root=media_root))
    except MediaError as error:
        logger.info("A picture is left out: %s", error)
        return ""


@cache
def picture_uri(path: str, longest_side: int) -> str:
    """A small picture as a data URI; "" where there is none or it cannot be opened."""
    if not path:
        return ""
    try:
        picture = open_picture(Path(path), longest_side=longest_side)
    except MediaError as error:
        logger.info("A picture is left out: %s", error)
        return ""
    content = io.BytesIO()
    picture.save(content, "JPEG", quality=72, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(content.getvalue()).decode("ascii")
