"""Small pictures inside the page: what is read from a file becomes a data URI of one kilobyte."""

from __future__ import annotations

import base64
import io
import logging
from pathlib import Path

from llmrec.items import PictureError, open_picture

_LOG = logging.getLogger(__name__)

_SIDE = 80
"""Pixels of the longer side: shown at half of it, so that it is sharp on a phone."""


class Pictures:
    """Pictures by path, each read once; one that cannot be had is said in the log and left out."""

    def __init__(self) -> None:
        self._made: dict[str, str] = {}

    def uri(self, path: str) -> str:
        """The picture as a data URI; "" where there is none or it cannot be opened."""
        if path not in self._made:
            self._made[path] = _uri(Path(path)) if path else ""
        return self._made[path]


def _uri(path: Path) -> str:
    try:
        picture = open_picture(path, longest_side=_SIDE)
    except PictureError as error:
        _LOG.info("The report goes without a picture: %s", error)
        return ""
    held = io.BytesIO()
    picture.save(held, "JPEG", quality=72, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(held.getvalue()).decode("ascii")
