"""Files of pictures, clips and sounds: which a data set may name, and how they are opened.

A data set may come from anybody: what it names lies inside its folder, and only regular files are
opened, never a device, a pipe, a socket, a folder or an address.
"""

from __future__ import annotations

import hmac
import logging
import os
import re
import secrets
import stat
from collections.abc import Iterable, Sequence
from contextlib import suppress
from io import BufferedReader
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TypeAlias
from urllib.parse import unquote, urlsplit

from llmrec.errors import DataError
from llmrec.models import cache_folder

logger = logging.getLogger(__name__)

MOST_BYTES = 4 << 30
"""A larger file is not read."""

_ADDRESS = re.compile(r"\s*([a-z][a-z0-9+.-]*:/|(data|blob|https?|ftp|s3|gs):)", re.IGNORECASE)


class MediaError(DataError):
    """A picture, clip or sound cannot be opened or decoded, or shows nothing."""


MediaPath: TypeAlias = Path | MediaError | None
"""The file of a row; None where it has none; the error where it may not be opened."""


def media_path(folder: Path, name: str, *, root: Path | None = None) -> Path:
    """Return the file that a data set names, with symbolic links resolved.

    Args:
        folder: The data set's folder: relative names start there.
        name: A relative or absolute path, or a ``file:`` URL.
        root: A folder in which files may lie besides ``folder``.

    Raises:
        MediaError: The name is an address, or the file lies elsewhere.
    """
    return _inside(_resolved(folder, root), name)


def _resolved(folder: Path, root: Path | None) -> list[Path]:
    return [each.resolve() for each in (folder, root) if each is not None]


def _inside(allowed: Sequence[Path], name: str) -> Path:
    """The file of a name that starts in the first of some resolved folders."""
    shown = name if len(name) <= 80 else f"{name[:77]}..."
    try:
        if name.lower().startswith("file:") and urlsplit(name).netloc in {"", "localhost"}:
            name = unquote(urlsplit(name).path)
        elif _ADDRESS.match(name):
            raise MediaError(
                f"{shown!r} is an address, not a file.",
                hint="Download what lies elsewhere, and name the file.",
            )
        path = (allowed[0] / name).resolve()
    except (OSError, ValueError, RuntimeError) as error:  # a loop of links, a null byte, a URL
        raise MediaError(f"{shown!r} is no path: {error}.") from error
    if not any(path.is_relative_to(each) for each in allowed):
        raise MediaError(
            f"{shown!r} lies outside the data set's folder.",
            hint="Copy it there, or allow another folder: --media-root DIR.",
        )
    return path


def media_paths(
    folder: Path, names: Iterable[str | None], *, root: Path | None = None
) -> list[MediaPath]:
    """Apply :func:`media_path` to the name of each row; a refused name gives its error."""
    allowed, found = _resolved(folder, root), list[MediaPath]()
    for name in names:
        try:
            found.append(_inside(allowed, name) if name else None)
        except MediaError as error:
            found.append(error)
    return found


def open_media(path: Path) -> BufferedReader:
    """Open a regular file of at most ``MOST_BYTES`` for reading.

    Raises:
        MediaError: There is none, it cannot be read, or it is too large.
    """
    try:
        about = path.stat()
        if stat.S_ISREG(about.st_mode):
            # Non-blocking: the name may be a pipe by now, and opening one waits for its writer.
            stream = open(  # noqa: SIM115 - the caller closes it
                path, "rb", opener=lambda name, flags: os.open(name, flags | _WITHOUT_WAITING)
            )
            about = os.fstat(stream.fileno())
            if stat.S_ISREG(about.st_mode) and about.st_size <= MOST_BYTES:
                return stream
            stream.close()
    except FileNotFoundError as error:
        raise MediaError(
            f"There is no file {str(path)!r}.",
            hint="Paths are relative to the data set's folder.",
        ) from error
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise MediaError(f"The file {str(path)[:200]!r} cannot be opened: {why}.") from error
    if stat.S_ISREG(about.st_mode):
        raise MediaError(
            f"The file {str(path)!r} of {about.st_size:,} bytes is too large: at most "
            f"{MOST_BYTES:,} are read."
        )
    kind = "folder" if stat.S_ISDIR(about.st_mode) else "device, pipe or socket"
    raise MediaError(f"{str(path)!r} is a {kind}, not a file.")


_WITHOUT_WAITING = getattr(os, "O_NONBLOCK", 0)


def folder_mark(folder: Path, root: Path | None) -> str:
    """Return a mark of the paths of two folders that only this user's llmrec can make.

    An index names the folders of its pictures. One with another mark comes from elsewhere and might
    name any folder: its pictures are not opened. Empty where the cache folder cannot be written.
    """
    names = os.fsencode(f"{folder}\0{root or ''}")
    try:
        return hmac.new(_key(cache_folder() / "folder_key"), names, "sha256").hexdigest()
    except OSError as error:
        logger.warning("The index stores no media folder: %s.", error)
        return ""


def _key(path: Path) -> bytes:
    """Read this user's key; make it where there is none."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile(dir=path.parent) as new:  # only its user can read it
            new.write(secrets.token_bytes(32))
            new.flush()
            with suppress(FileExistsError):  # another process was first
                os.link(new.name, path)
    return path.read_bytes()
