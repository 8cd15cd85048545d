"""An index or a vector store on disk: a folder that is whole or refused by the name of the fault.

Every file bears the beginning of its sha256 in its name. ``manifest.json`` lists the files with
size and sha256, holds everything small (the fitted weights too), and carries the sha256 of its own
content. A save writes the new files beside the old ones and then replaces the manifest: that one
rename is the moment when the new index takes the old one's place. Files that no manifest names any
more are removed afterwards. Small files are read and checked whole; large ones (vectors) are mapped
into memory, their size checked, their content when asked for, and are not written again where the
folder holds them already. A lock, a file beside the folder, makes saves wait for each other: the
last one stays.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from filelock import FileLock
from pydantic import TypeAdapter, ValidationError

from llmrec.errors import StorageError

logger = logging.getLogger(__name__)

FORMAT = 2
_MANIFEST = "manifest.json"
_MAPPED = (".f32", ".faiss")
_TABLE = re.compile(r"[a-z]+[0-9]*-[0-9a-f]{12}\.(json|parquet|safetensors|i64|f32|faiss)(\.part)?")
_AGAIN = "Make the index again with `llmrec index`."


@dataclass(frozen=True)
class FileEntry:
    """One table: its file's name, size in bytes and sha256."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What an index is, and the files it consists of by table name. ``folder`` is the dataset's."""

    dimension: int
    encoder: str = ""
    modalities: Mapping[str, str] = field(default_factory=dict)
    fingerprint: str = ""
    folder: str | None = None
    weights: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    files: Mapping[str, FileEntry] = field(default_factory=dict)
    kind: str = "index"
    format: int = FORMAT


@dataclass(frozen=True, eq=False)
class Mapped:
    """A file too large to be read: ``content`` is uint8 [size], mapped where it is opened.

    ``entry`` says what it is called where it came from a file.
    """

    content: np.ndarray
    entry: FileEntry | None = None


@dataclass(frozen=True)
class Opened:
    """An index on disk: the small files' content, the large ones mapped, by table name."""

    folder: Path
    manifest: Manifest
    tables: Mapping[str, bytes]
    mapped: Mapping[str, Mapped]


_MANIFESTS = TypeAdapter(Manifest)


def save_folder(folder: Path, manifest: Manifest, tables: Mapping[str, bytes | Mapped]) -> None:
    """Write an index, in place of the one that is there; interrupted, it leaves that one.

    Args:
        folder: Where to; it is made where it is missing.
        manifest: All but ``files``.
        tables: Content by table name with suffix, such as ``items.json``.

    Raises:
        StorageError: The folder holds something else, or cannot be written.
    """
    entries = {name: _entry(name, content) for name, content in tables.items()}
    kept = {entry.name for entry in entries.values()}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        refuse_foreign(folder)
        with FileLock(f"{folder.resolve()}.lock"):
            for name, content in tables.items():
                _write_table(folder, entries[name], content)
            _write(folder / _MANIFEST, _seal(replace(manifest, files=entries)))
            for path in folder.iterdir():
                if _TABLE.fullmatch(path.name) and path.name not in kept:
                    path.unlink()
    except OSError as error:
        raise StorageError(
            f"The index cannot be written to {folder}: {error}.",
            hint="Name a folder that can be written, on a disk with room.",
        ) from error


def refuse_foreign(folder: Path) -> None:
    """Refuse to write an index where something else lies; a folder that is not there is free.

    Raises:
        StorageError: The folder holds files, and none of an index.
    """
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    if names and not any(_TABLE.fullmatch(name) for name in names):
        raise StorageError(
            f"{folder} is neither empty nor an index: it is not written to.",
            hint="Name another folder.",
        )


def is_stored(folder: Path) -> bool:
    """Whether this module has written something into a folder."""
    return (folder / _MANIFEST).is_file()


def open_folder(folder: Path, *, kind: str = "index", verify: bool = False) -> Opened:
    """Read an index: small files whole, every byte checked; large ones by memory map.

    Args:
        folder: Where it lies.
        kind: What it must be.
        verify: Check every byte of the large files too.

    Raises:
        StorageError: There is no index, a file is missing or damaged or of another index, or the
            format is another.
    """
    if not is_stored(folder):
        raise StorageError(f"{folder} is not an index: it has no {_MANIFEST}.", hint=_AGAIN)
    manifest = _unseal(folder / _MANIFEST)
    if manifest.kind != kind:
        raise StorageError(
            f"{folder} holds {manifest.kind!r}, not {kind!r}.", hint="Name another folder."
        )
    tables: dict[str, bytes] = {}
    mapped: dict[str, Mapped] = {}
    for name, entry in manifest.files.items():
        content = _checked(folder / entry.name, entry, verify=verify)
        if isinstance(content, Mapped):
            mapped[name] = content
        else:
            tables[name] = content
    return Opened(folder, manifest, tables, mapped)


def damaged(path: Path, what: str) -> StorageError:
    """Say what is wrong with a file of an index, and the way out."""
    return StorageError(f"The index file {path} is damaged: {what}.", hint=_AGAIN)


def _entry(table: str, content: bytes | Mapped) -> FileEntry:
    if isinstance(content, Mapped) and content.entry:
        return content.entry
    data = _bytes(content)
    digest = hashlib.sha256(data).hexdigest()
    stem, _, suffix = table.partition(".")
    return FileEntry(f"{stem}-{digest[:12]}.{suffix}", data.nbytes, digest)


def _bytes(content: bytes | Mapped) -> memoryview:
    return content.content.data if isinstance(content, Mapped) else memoryview(content)


def _write_table(folder: Path, entry: FileEntry, content: bytes | Mapped) -> None:
    path = folder / entry.name
    is_there = isinstance(content, Mapped) and content.entry and path.is_file()
    if not (is_there and path.stat().st_size == entry.size):
        _write(path, _bytes(content))


def _write(path: Path, content: bytes | memoryview) -> None:
    part = path.with_name(f"{path.name}.part")
    with part.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def _checked(path: Path, entry: FileEntry, *, verify: bool) -> bytes | Mapped:
    large = path.suffix in _MAPPED
    try:
        size = path.stat().st_size
        if size != entry.size:
            raise damaged(path, f"it has {size} bytes instead of {entry.size}")
        content = (
            Mapped(np.memmap(path, dtype=np.uint8, mode="r").view(np.ndarray), entry)
            if large
            else path.read_bytes()
        )
    except (OSError, ValueError) as error:  # an empty file cannot be mapped
        what = getattr(error, "strerror", None) or error
        raise StorageError(f"The index file {path} cannot be read: {what}.", hint=_AGAIN) from error
    if (verify or not large) and hashlib.sha256(_bytes(content)).hexdigest() != entry.sha256:
        raise damaged(path, "its content is not what was written")
    return content


def _seal(manifest: Manifest) -> bytes:
    content = _MANIFESTS.dump_python(manifest, mode="json", fallback=dict, warnings=False)
    return json.dumps({"sha256": _digest(content), "content": content}, indent=1).encode()


def _unseal(path: Path) -> Manifest:
    try:
        document = json.loads(path.read_bytes())
        content, digest = document["content"], document["sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise damaged(path, f"it cannot be read ({error})") from error
    if _digest(content) != digest:
        raise damaged(path, "its content is not what was written")
    if content.get("format") != FORMAT:
        raise StorageError(
            f"The index {path.parent} has format {content.get('format')}; "
            f"this llmrec reads format {FORMAT}.",
            hint=f"Use the llmrec that wrote it. Or: {_AGAIN}",
        )
    try:
        return _MANIFESTS.validate_python(content)
    except ValidationError as error:
        raise damaged(path, f"it lacks something ({error.error_count()} faults)") from error


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
