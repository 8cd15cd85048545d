"""Opens the picture of an item: whatever the file holds, in bounded memory, or says its fault."""

from __future__ import annotations

import re
import warnings
from contextlib import suppress
from pathlib import Path

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

from llmrec.errors import DataError

MOST_PIXELS = 50_000_000
"""What is decoded of one picture at most: some 400 MB with transparency, while it is opened."""

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
_WHERE = "Paths are relative to the data's folder; what lies elsewhere must be downloaded first."
_ALLOWED = "A picture is a JPEG, PNG, WebP, GIF, AVIF, BMP or TIFF file."
_ADDRESS = re.compile(r"(^|/)(https?|ftp|s3|gs|data):")


class PictureError(DataError):
    """A picture file cannot be read, or shows nothing."""


def open_picture(path: Path, *, longest_side: int = LONGEST_SIDE) -> Image.Image:
    """Open a picture: RGB, upright, the first frame, no side longer than ``longest_side``.

    A file is what its first bytes say, whatever its name. What is transparent becomes white. A
    baseline JPEG of any size is decoded at a fraction of it; any other picture over ``MOST_PIXELS``
    is refused before it is decoded.

    Args:
        path: The file.
        longest_side: What a larger picture is scaled down to, in pixels.

    Raises:
        PictureError: The file is missing, empty, truncated, no picture, too large or too small.
    """
    try:
        with path.open("rb") as stream, warnings.catch_warnings():
            # What a library finds odd in a picture it can read is of no use to a reader.
            warnings.simplefilter("ignore")
            head = stream.read(16)
            stream.seek(0)
            kind = _kind(path, head)
            # Image.open() would refuse a large JPEG before draft() can make it small.
            picture = kind(stream)
            _check_size(path, picture, longest_side)
            return _plain(picture, longest_side)
    except PictureError:
        raise
    except Exception as error:  # a decoder raises anything on a file that is broken
        missing = missing_file(path)
        if missing is not None:
            raise PictureError(missing, hint=_WHERE) from error
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise PictureError(
            f"The picture {str(path)!r} cannot be decoded: {why.rstrip('.')}.",
            hint="It is damaged or was not copied to its end: fetch it again.",
        ) from error


def missing_file(path: Path) -> str | None:
    """Say why there is no file to open at ``path``, or None where there is one."""
    if _ADDRESS.search(path.as_posix()):
        return f"{str(path)!r} is an address, not a file."
    if path.is_dir():
        return f"{str(path)!r} is a folder, not a file."
    return None if path.is_file() else f"There is no file {str(path)!r}."


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
